/**
 * The error every failed native call becomes, on every system.
 *
 * @module
 */

import { describeWinsockError } from "../structs/constants.ts";

/** What {@linkcode WinsockError} says besides its code. */
export interface WinsockErrorOptions extends ErrorOptions {
  /** What was being done, to what: `duplicate socket 308 for process 4242`. */
  operation: string;
  /** The native function that failed: `WSADuplicateSocketW`. */
  functionName: string;
  /** Why, where the code does not tell, such as the errno of a Unix call. */
  detail?: string;
}

/**
 * A native socket call failed. The same class and the same codes on every system: on Linux and macOS errno is translated to the
 * Winsock code that means the same, and named in the message.
 *
 * @example
 * ```ts
 * import { WinsockError } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new WinsockError(10038, {
 *   operation: "duplicate socket 308 for process 4242",
 *   functionName: "WSADuplicateSocketW",
 * });
 * assertEquals(
 *   error.message,
 *   "Cannot duplicate socket 308 for process 4242: WSADuplicateSocketW failed with WSAENOTSOCK (10038)",
 * );
 * ```
 */
export class WinsockError extends Error {
  /** `WinsockError`. */
  override readonly name = "WinsockError";
  /** The Winsock error code, such as 10038. */
  readonly code: number;
  /** The name of the code, such as `WSAENOTSOCK`; the number as text for a code without one. */
  readonly codeName: string;
  /** The native function that failed. */
  readonly functionName: string;
  /** What was being done, to what. */
  readonly operation: string;

  /**
   * Makes the error; the message follows from its parts.
   *
   * @param code A Winsock error code.
   * @param options What failed.
   */
  constructor(code: number, options: WinsockErrorOptions) {
    const codeName = describeWinsockError(code)?.name ?? String(code);
    const detail = options.detail === undefined ? "" : `: ${options.detail}`;
    super(`Cannot ${options.operation}: ${options.functionName} failed with ${codeName} (${code})${detail}`, options);
    this.code = code;
    this.codeName = codeName;
    this.functionName = options.functionName;
    this.operation = options.operation;
  }
}
