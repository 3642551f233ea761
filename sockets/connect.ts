/**
 * Connecting.
 *
 * @module
 */
import { systemCalls } from "../ffi/system.ts";
import { type SocketAddr, toAddress } from "../ffi/socket_address.ts";
import { ownSocket, type Socket } from "./socket.ts";

/** Where {@linkcode connect} connects to. */
export interface ConnectOptions {
  /**
   * An IPv4 or IPv6 address, or `localhost` for 127.0.0.1; a scope behind it is a number (`fe80::1%3`).
   * Default `127.0.0.1`.
   */
  hostname?: string;
  /** The port. */
  port: number;
  /** Ends the attempt. */
  signal?: AbortSignal;
}

/** Which local socket {@linkcode connect} connects to, on Linux and macOS. */
export interface ConnectLocalOptions {
  /** A file, or on Linux `"\0"` and an abstract name (unix(7)); at most 107 bytes, on macOS 103. */
  path: string;
  /** Ends the attempt. */
  signal?: AbortSignal;
}

/**
 * Makes a TCP connection (`connect`). Child processes do not inherit it.
 *
 * Needs ffi access to the system's socket library, and no net permission.
 *
 * @param options Where to.
 * @returns The connected socket; the caller's to close.
 * @throws {TypeError} If the hostname is no IP address, or has another scope than a number.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {WinsockError} WSAECONNREFUSED if nobody listens there, WSAETIMEDOUT if nobody answers.
 * @throws The signal's reason, if it is aborted first.
 */
export async function connect(options: ConnectOptions): Promise<Socket>;
/**
 * Connects to a local socket, on Linux and macOS. Child processes do not inherit the connection.
 *
 * Needs ffi access to the system's socket library, and no read or write permission.
 *
 * @param options Where to.
 * @returns The connected socket; the caller's to close.
 * @throws {TypeError} If the path is empty, or a file's with a NUL in it.
 * @throws {RangeError} If the path is too long.
 * @throws {WinsockError} WSAECONNREFUSED if nobody listens there, WSAEADDRNOTAVAIL if there is no such file, WSAEACCES if
 * this process may not connect.
 * @throws {Deno.errors.NotSupported} On Windows.
 * @throws The signal's reason, if it is aborted first.
 */
export async function connect(options: ConnectLocalOptions): Promise<Socket<Deno.UnixAddr>>;
export async function connect(
  options: ConnectOptions | ConnectLocalOptions,
): Promise<Socket<SocketAddr>> {
  options.signal?.throwIfAborted();
  const calls = systemCalls();
  const address = "path" in options ? { path: options.path } : toAddress(options, "127.0.0.1");
  const handle = "path" in address ? calls.openLocal(address.path) : calls.open(address.hostname);
  const socket = ownSocket(handle);
  try {
    await calls.connect(handle, address, options.signal);
    options.signal?.throwIfAborted();
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}
