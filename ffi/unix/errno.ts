/**
 * errno, in Winsock's terms.
 *
 * @module
 */
import { WinsockError } from "../winsock_error.ts";
import { type WinsockErrorName, WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { errno } from "./libc.ts";
import { unixSystem } from "./system.ts";
import type { ErrnoName } from "./systems/unix_system.ts";

/** The Winsock code that means the same for a socket. Where two names have one number, the later is the one to show. */
const WINSOCK: Readonly<Record<ErrnoName, WinsockErrorName>> = {
  EPERM: "WSAEACCES",
  ENOENT: "WSAEADDRNOTAVAIL",
  ESRCH: "WSAEINVAL",
  EINTR: "WSAEINTR",
  EBADF: "WSAENOTSOCK",
  EAGAIN: "WSAEWOULDBLOCK",
  ENOMEM: "WSAENOBUFS",
  EACCES: "WSAEACCES",
  EFAULT: "WSAEFAULT",
  ENOTDIR: "WSAEADDRNOTAVAIL",
  ENOSPC: "WSAENOBUFS",
  EINVAL: "WSAEINVAL",
  ENFILE: "WSAEMFILE",
  EMFILE: "WSAEMFILE",
  EROFS: "WSAEACCES",
  EPIPE: "WSAESHUTDOWN",
  ENAMETOOLONG: "WSAENAMETOOLONG",
  ENOSYS: "WSASYSCALLFAILURE",
  ELOOP: "WSAELOOP",
  ENOTSOCK: "WSAENOTSOCK",
  EDESTADDRREQ: "WSAEDESTADDRREQ",
  EMSGSIZE: "WSAEMSGSIZE",
  EPROTO: "WSASYSCALLFAILURE",
  EPROTOTYPE: "WSAEPROTOTYPE",
  ENOPROTOOPT: "WSAENOPROTOOPT",
  EPROTONOSUPPORT: "WSAEPROTONOSUPPORT",
  ESOCKTNOSUPPORT: "WSAESOCKTNOSUPPORT",
  ENOTSUP: "WSAEOPNOTSUPP",
  EOPNOTSUPP: "WSAEOPNOTSUPP",
  EAFNOSUPPORT: "WSAEAFNOSUPPORT",
  EADDRINUSE: "WSAEADDRINUSE",
  EADDRNOTAVAIL: "WSAEADDRNOTAVAIL",
  ENETDOWN: "WSAENETDOWN",
  ENETUNREACH: "WSAENETUNREACH",
  ENONET: "WSAENETDOWN",
  ECONNABORTED: "WSAECONNABORTED",
  ECONNRESET: "WSAECONNRESET",
  ENOBUFS: "WSAENOBUFS",
  EISCONN: "WSAEISCONN",
  ENOTCONN: "WSAENOTCONN",
  ETOOMANYREFS: "WSAENOBUFS",
  ETIMEDOUT: "WSAETIMEDOUT",
  ECONNREFUSED: "WSAECONNREFUSED",
  EHOSTDOWN: "WSAEHOSTDOWN",
  EHOSTUNREACH: "WSAEHOSTUNREACH",
  EINPROGRESS: "WSAEWOULDBLOCK",
};

let names: ReadonlyMap<number | undefined, ErrnoName> | undefined;

/** What the system calls an error; `undefined` for one that the library does not know. */
export function errnoName(number: number): ErrnoName | undefined {
  names ??= new Map((Object.keys(WINSOCK) as ErrnoName[]).map((name) => [unixSystem().errno[name], name]));
  return names.get(number);
}

/** Whether a number is that of one of these errors. */
export function isErrno(number: number, ...candidates: readonly ErrnoName[]): boolean {
  return candidates.some((name) => unixSystem().errno[name] === number);
}

/**
 * The error of a Unix call.
 *
 * @param number What the call left in errno.
 * @param operation What was being done, to what.
 * @param functionName The call.
 * @returns The error, with the Winsock code that means the same and the system's own name in its message.
 */
export function unixError(number: number, operation: string, functionName: string): WinsockError {
  const name = errnoName(number);
  const code = WSA_ERRORS[name === undefined ? "WSASYSCALLFAILURE" : WINSOCK[name]];
  return new WinsockError(code, { operation, functionName, detail: `${name ?? "errno"} (${number})` });
}

/**
 * The error of the Unix call in the statement before.
 *
 * @param operation What was being done, to what.
 * @param functionName The call.
 * @returns The error.
 */
export function lastUnixError(operation: string, functionName: string): WinsockError {
  return unixError(errno(), operation, functionName);
}
