/**
 * The error class for failed native calls on every system.
 *
 * @module
 */

import { describeWinsockError } from "../structs/constants.ts";

/** The parts of a {@linkcode WinsockError} besides its code. */
export interface WinsockErrorOptions extends ErrorOptions {
  /** The operation and its object: `duplicate socket 308 for process 4242`. */
  operation: string;
  /** The native function that failed: `WSADuplicateSocketW`. */
  functionName: string;
  /** The reason, if the code is not enough, such as the errno of a Unix call. */
  detail?: string;
}

/**
 * A failed native socket call. The class and the codes are the same on every system. On Linux and macOS errno is
 * translated to the Winsock code with the same meaning, and the message has the name of the errno.
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
  /** The operation and its object. */
  readonly operation: string;

  /**
   * Makes the error. The message is composed of its parts.
   *
   * @param code A Winsock error code, such as 10038.
   * @param options The operation, the native function and further details.
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
