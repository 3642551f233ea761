/**
 * The error every failed native call becomes, on every system.
 *
 * @module
 */

/** Winsock's error codes by name, as far as the calls of this library can return them. */
export const WSA_ERRORS = {
  WSA_INVALID_HANDLE: 6,
  WSA_NOT_ENOUGH_MEMORY: 8,
  WSA_INVALID_PARAMETER: 87,
  WSAEINTR: 10004,
  WSAEBADF: 10009,
  WSAEACCES: 10013,
  WSAEFAULT: 10014,
  WSAEINVAL: 10022,
  WSAEMFILE: 10024,
  WSAEWOULDBLOCK: 10035,
  WSAEINPROGRESS: 10036,
  WSAEALREADY: 10037,
  WSAENOTSOCK: 10038,
  WSAEDESTADDRREQ: 10039,
  WSAEMSGSIZE: 10040,
  WSAEPROTOTYPE: 10041,
  WSAENOPROTOOPT: 10042,
  WSAEPROTONOSUPPORT: 10043,
  WSAESOCKTNOSUPPORT: 10044,
  WSAEOPNOTSUPP: 10045,
  WSAEPFNOSUPPORT: 10046,
  WSAEAFNOSUPPORT: 10047,
  WSAEADDRINUSE: 10048,
  WSAEADDRNOTAVAIL: 10049,
  WSAENETDOWN: 10050,
  WSAENETUNREACH: 10051,
  WSAENETRESET: 10052,
  WSAECONNABORTED: 10053,
  WSAECONNRESET: 10054,
  WSAENOBUFS: 10055,
  WSAEISCONN: 10056,
  WSAENOTCONN: 10057,
  WSAESHUTDOWN: 10058,
  WSAETIMEDOUT: 10060,
  WSAECONNREFUSED: 10061,
  WSAENAMETOOLONG: 10063,
  WSAEHOSTUNREACH: 10065,
  WSASYSNOTREADY: 10091,
  WSAVERNOTSUPPORTED: 10092,
  WSANOTINITIALISED: 10093,
  WSAEPROVIDERFAILEDINIT: 10106,
  WSASYSCALLFAILURE: 10107,
} as const;

/** The name of a Winsock error code, such as `WSAENOTSOCK`. */
export type WinsockErrorName = keyof typeof WSA_ERRORS;

const NAMES = new Map<number, string>(Object.entries(WSA_ERRORS).map(([name, code]) => [code, name]));

/** What {@linkcode WinsockError} says besides its code. */
export interface WinsockErrorOptions extends ErrorOptions {
  /** What was being done, to what: `duplicate socket 308 for process 4242`. */
  operation: string;
  /** The native function that failed: `WSADuplicateSocketW`. */
  functionName: string;
  /** Why, where the code does not tell, such as the errno of a Linux call. */
  detail?: string;
}

/**
 * A native socket call failed. The same class and the same codes on every system: on Linux errno is translated to the
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
    const codeName = NAMES.get(code) ?? String(code);
    const detail = options.detail === undefined ? "" : `: ${options.detail}`;
    super(`Cannot ${options.operation}: ${options.functionName} failed with ${codeName} (${code})${detail}`, options);
    this.code = code;
    this.codeName = codeName;
    this.functionName = options.functionName;
    this.operation = options.operation;
  }
}
