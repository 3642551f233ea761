/**
 * Making listening sockets.
 *
 * @module
 */
import { systemCalls } from "../ffi/system.ts";
import { type SocketAddr, toAddress } from "./address.ts";
import { type Listener, ownListener } from "./listener.ts";

/** Where {@linkcode listen} listens. */
export interface ListenOptions {
  /**
   * An IPv4 or IPv6 address, or `localhost` for 127.0.0.1; a scope behind it is a number (`fe80::1%3`).
   * Default `0.0.0.0`; `::` takes IPv4 connections too.
   */
  hostname?: string;
  /** The port; 0 lets the system choose one. */
  port: number;
  /** Connections that may wait to be accepted. Default 511; the system may have a lower limit. */
  backlog?: number;
}

/** Which local socket {@linkcode listen} listens on, on Linux and macOS. */
export interface ListenLocalOptions {
  /**
   * A file, or on Linux `"\0"` and an abstract name, which goes with its last descriptor (unix(7)); at most 107 bytes, on
   * macOS 103.
   */
  path: string;
  /** Connections that may wait to be accepted. Default 511; the system may have a lower limit. */
  backlog?: number;
}

/**
 * Listens for TCP connections (`bind`, `listen`).
 *
 * The port is this socket's alone (`SO_EXCLUSIVEADDRUSE` on Windows), and child processes do not inherit it. Needs ffi
 * access to the system's socket library, and no net permission.
 *
 * @example
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * assertEquals(listener.addr.hostname, "127.0.0.1");
 * ```
 *
 * @param options Where.
 * @returns The listener; the caller's to close.
 * @throws {TypeError} If the hostname is no IP address, or has another scope than a number.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {WinsockError} WSAEADDRINUSE if the port is taken, WSAEACCES if it may not be used.
 */
export function listen(options: ListenOptions): Listener;
/**
 * Listens on a local socket, on Linux and macOS.
 *
 * The socket's file stays when the listener is closed, for another process may listen on it by then; left behind by one
 * that ended, it makes this throw WSAEADDRINUSE. Remove it before listening, when connecting to it says WSAECONNREFUSED:
 * then nobody listens. Child processes do not inherit the socket. Needs ffi access to the system's socket library, and no
 * read or write permission; whoever may write to the directory may listen there.
 *
 * @param options Where.
 * @returns The listener; the caller's to close.
 * @throws {TypeError} If the path is empty, or a file's with a NUL in it.
 * @throws {RangeError} If the path is too long.
 * @throws {WinsockError} WSAEADDRINUSE if there is such a file, or such an abstract name in use; WSAEACCES if it may not
 * be made; WSAEADDRNOTAVAIL if there is no such directory.
 * @throws {Deno.errors.NotSupported} On Windows; on macOS for an abstract name.
 */
export function listen(options: ListenLocalOptions): Listener<Deno.UnixAddr>;
export function listen(options: ListenOptions | ListenLocalOptions): Listener<SocketAddr> {
  const address = "path" in options ? { path: options.path } : toAddress(options, "0.0.0.0");
  return ownListener(systemCalls().listen(address, options.backlog ?? 511));
}
