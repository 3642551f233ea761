/**
 * The error class for failed native calls on every system, and the class of Deno with the same meaning.
 *
 * @module
 */

import { describeWinsockError, WSA_ERRORS } from "../structs/constants.ts";

/** The parts of a {@linkcode WinsockError} besides its code. */
export interface WinsockErrorOptions extends ErrorOptions {
  /** The operation and its object: `duplicate socket 308 for process 4242`. */
  operation: string;
  /** The native function that failed: `WSADuplicateSocketW`. */
  functionName: string;
  /** The reason, if the code is not enough, such as the errno of a Unix call. */
  detail?: string;
  /** The system's own name of the error, where it is not Winsock's: `ENOENT`. */
  errnoName?: string;
}

/**
 * A failed native socket call. The class and the codes are the same on every system. On Linux and macOS errno is
 * translated to the Winsock code with the same meaning, and the message has the name of the errno.
 *
 * Sharing throws it, and so do service providers. Sockets throw the class that Deno's own sockets throw, such as
 * `Deno.errors.AddrInUse`, with this as its `cause`; where Deno has no class for it, this itself.
 *
 * @example The message of an error
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
  /** The system's own name of the error on Linux and macOS, such as `ENOENT`; `undefined` on Windows, and if it has none. */
  readonly errnoName: string | undefined;
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
    this.errnoName = options.errnoName;
    this.functionName = options.functionName;
    this.operation = options.operation;
  }
}

type ErrorClass = new (message: string, options: ErrorOptions) => Error;

/** Deno's classes by Winsock code. */
const DENO_CLASSES: Readonly<Record<number, ErrorClass>> = {
  [WSA_ERRORS.WSAEACCES]: Deno.errors.PermissionDenied,
  [WSA_ERRORS.WSAEINTR]: Deno.errors.Interrupted,
  [WSA_ERRORS.WSAEADDRINUSE]: Deno.errors.AddrInUse,
  [WSA_ERRORS.WSAEADDRNOTAVAIL]: Deno.errors.AddrNotAvailable,
  [WSA_ERRORS.WSAENETUNREACH]: Deno.errors.NetworkUnreachable,
  [WSA_ERRORS.WSAENETDOWN]: Deno.errors.NetworkUnreachable,
  [WSA_ERRORS.WSAECONNREFUSED]: Deno.errors.ConnectionRefused,
  [WSA_ERRORS.WSAECONNRESET]: Deno.errors.ConnectionReset,
  [WSA_ERRORS.WSAECONNABORTED]: Deno.errors.ConnectionAborted,
  [WSA_ERRORS.WSAENOTCONN]: Deno.errors.NotConnected,
  [WSA_ERRORS.WSAETIMEDOUT]: Deno.errors.TimedOut,
  [WSA_ERRORS.WSAESHUTDOWN]: Deno.errors.BrokenPipe,
  [WSA_ERRORS.WSAELOOP]: Deno.errors.FilesystemLoop,
};

/** Those for which Winsock has no code of its own: errors of files, which only the paths of local sockets meet. */
const FILE_CLASSES: Readonly<Record<string, ErrorClass>> = {
  ENOENT: Deno.errors.NotFound,
  ENOTDIR: Deno.errors.NotADirectory,
};

/**
 * The error that a socket's user is told.
 *
 * @param error What was thrown.
 * @returns A {@linkcode WinsockError} as the cause of one of the class that Deno's own sockets throw, with the `code` that
 * it has there (`EADDRINUSE`); what Deno has no class for, and any other error, as it is.
 */
export function toDenoError(error: unknown): unknown {
  if (!(error instanceof WinsockError)) return error;
  const Class = FILE_CLASSES[error.errnoName ?? ""] ?? DENO_CLASSES[error.code];
  return Class === undefined ? error : withCause(Class, error);
}

/** Calls the system, and throws what it refuses in Deno's classes. */
export function asDeno<Result>(call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    throw toDenoError(error);
  }
}

/**
 * The error of a call on a socket that this process has closed or released.
 *
 * @param error What was thrown.
 * @returns `Deno.errors.BadResource` in place of WSAENOTSOCK; any other as {@linkcode toDenoError} has it.
 */
export function toClosedError(error: unknown): unknown {
  return inPlaceOfNotSocket(Deno.errors.BadResource, error);
}

/** The error of a call that waited when its socket was closed or released here. */
export function toInterruptedError(error: unknown): unknown {
  return inPlaceOfNotSocket(Deno.errors.Interrupted, error);
}

/** Whether an error is, or has as its cause, a {@linkcode WinsockError} with one of these codes. */
export function hasWinsockCode(error: unknown, ...codes: readonly number[]): boolean {
  const cause = error instanceof WinsockError ? error : (error as Error | undefined)?.cause;
  return cause instanceof WinsockError && codes.includes(cause.code);
}

function inPlaceOfNotSocket(Class: ErrorClass, error: unknown): unknown {
  const isNotSocket = error instanceof WinsockError && error.code === WSA_ERRORS.WSAENOTSOCK;
  return isNotSocket ? withCause(Class, error) : toDenoError(error);
}

function withCause(Class: ErrorClass, cause: WinsockError): Error {
  const code = cause.errnoName ?? cause.codeName.replace(/^WSA/, "");
  return Object.assign(new Class(cause.message, { cause }), { code });
}
