/**
 * Linux' errno, in Winsock's terms.
 *
 * @module
 */
import { WinsockError } from "../winsock_error.ts";
import { type WinsockErrorName, WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { errno } from "./libc.ts";

/** Linux' numbers and names, each with the Winsock code that means the same for a socket. */
const ERRNO: Readonly<Record<number, readonly [name: string, winsock: WinsockErrorName]>> = {
  1: ["EPERM", "WSAEACCES"],
  2: ["ENOENT", "WSAEADDRNOTAVAIL"],
  3: ["ESRCH", "WSAEINVAL"],
  4: ["EINTR", "WSAEINTR"],
  9: ["EBADF", "WSAENOTSOCK"],
  11: ["EAGAIN", "WSAEWOULDBLOCK"],
  12: ["ENOMEM", "WSAENOBUFS"],
  13: ["EACCES", "WSAEACCES"],
  14: ["EFAULT", "WSAEFAULT"],
  20: ["ENOTDIR", "WSAEADDRNOTAVAIL"],
  22: ["EINVAL", "WSAEINVAL"],
  23: ["ENFILE", "WSAEMFILE"],
  24: ["EMFILE", "WSAEMFILE"],
  30: ["EROFS", "WSAEACCES"],
  32: ["EPIPE", "WSAESHUTDOWN"],
  36: ["ENAMETOOLONG", "WSAENAMETOOLONG"],
  38: ["ENOSYS", "WSASYSCALLFAILURE"],
  40: ["ELOOP", "WSAELOOP"],
  88: ["ENOTSOCK", "WSAENOTSOCK"],
  89: ["EDESTADDRREQ", "WSAEDESTADDRREQ"],
  90: ["EMSGSIZE", "WSAEMSGSIZE"],
  91: ["EPROTOTYPE", "WSAEPROTOTYPE"],
  92: ["ENOPROTOOPT", "WSAENOPROTOOPT"],
  93: ["EPROTONOSUPPORT", "WSAEPROTONOSUPPORT"],
  94: ["ESOCKTNOSUPPORT", "WSAESOCKTNOSUPPORT"],
  95: ["EOPNOTSUPP", "WSAEOPNOTSUPP"],
  97: ["EAFNOSUPPORT", "WSAEAFNOSUPPORT"],
  98: ["EADDRINUSE", "WSAEADDRINUSE"],
  99: ["EADDRNOTAVAIL", "WSAEADDRNOTAVAIL"],
  100: ["ENETDOWN", "WSAENETDOWN"],
  101: ["ENETUNREACH", "WSAENETUNREACH"],
  103: ["ECONNABORTED", "WSAECONNABORTED"],
  104: ["ECONNRESET", "WSAECONNRESET"],
  105: ["ENOBUFS", "WSAENOBUFS"],
  106: ["EISCONN", "WSAEISCONN"],
  107: ["ENOTCONN", "WSAENOTCONN"],
  109: ["ETOOMANYREFS", "WSAENOBUFS"],
  110: ["ETIMEDOUT", "WSAETIMEDOUT"],
  111: ["ECONNREFUSED", "WSAECONNREFUSED"],
  113: ["EHOSTUNREACH", "WSAEHOSTUNREACH"],
  115: ["EINPROGRESS", "WSAEWOULDBLOCK"],
};

/**
 * The error of a Linux call.
 *
 * @param number What the call left in errno.
 * @param operation What was being done, to what.
 * @param functionName The call.
 * @returns The error, with the Winsock code that means the same and Linux' own name in its message.
 */
export function unixError(number: number, operation: string, functionName: string): WinsockError {
  const [name, winsock] = ERRNO[number] ?? ["errno", "WSASYSCALLFAILURE" as const];
  return new WinsockError(WSA_ERRORS[winsock], { operation, functionName, detail: `${name} (${number})` });
}

/**
 * The error of the Linux call in the statement before.
 *
 * @param operation What was being done, to what.
 * @param functionName The call.
 * @returns The error.
 */
export function lastUnixError(operation: string, functionName: string): WinsockError {
  return unixError(errno(), operation, functionName);
}
