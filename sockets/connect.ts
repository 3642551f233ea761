/**
 * Connects to a TCP address or a local socket.
 *
 * @module
 */
import { systemCalls } from "../ffi/system.ts";
import { type SocketAddr, toAddress } from "../ffi/socket_address.ts";
import { asDeno, toDenoError } from "../ffi/winsock_error.ts";
import { transportOf } from "./listener.ts";
import { ownSocket, type Socket } from "./socket.ts";

/** Options for {@linkcode connect} with TCP, in the shape of `Deno.ConnectOptions`. */
export interface ConnectOptions {
  /** The protocol. Defaults to `"tcp"`. */
  transport?: "tcp";
  /**
   * An IPv4 or IPv6 address, optionally in brackets, or `localhost` for 127.0.0.1. The scope of an address must be a
   * number (`fe80::1%3`). Defaults to `"127.0.0.1"`.
   */
  hostname?: string;
  /** The port. */
  port: number;
  /** A signal that ends the attempt when it is aborted. */
  signal?: AbortSignal;
}

/** Options for {@linkcode connect} with a local socket, on Linux and macOS. */
export interface ConnectLocalOptions {
  /** The protocol. Defaults to `"unix"`. */
  transport?: "unix";
  /** The path of a file, or on Linux `"\0"` and an abstract name (unix(7)). At most 107 bytes, on macOS 103. */
  path: string;
  /** A signal that ends the attempt when it is aborted. */
  signal?: AbortSignal;
}

/**
 * Makes a TCP connection (`connect`), in the shape of `Deno.connect`. Child processes do not inherit it.
 *
 * Names other than `localhost` are not resolved. Needs ffi access to the system's socket library, and no net
 * permission.
 *
 * @param options The address to connect to.
 * @returns The connected socket, which the caller must close.
 * @throws {TypeError} If the hostname is not an IP address, or its scope is not a number; if the port is not an
 * integer.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {Deno.errors.ConnectionRefused} If no process listens there.
 * @throws {Deno.errors.TimedOut} If no host answers.
 * @throws {Deno.errors.NetworkUnreachable} If there is no route to the host.
 * @throws {WinsockError} If the system reports an error that Deno has no class for. It is also the `cause` of the
 * errors of the system that Deno has a class for.
 * @throws The reason of the signal, if it is aborted first.
 */
export async function connect(options: ConnectOptions): Promise<Socket>;
/**
 * Connects to a local socket, on Linux and macOS. Child processes do not inherit the connection.
 *
 * Needs ffi access to the system's socket library, and no read or write permission.
 *
 * @param options The local socket to connect to.
 * @returns The connected socket, which the caller must close.
 * @throws {TypeError} If the path is empty, or is the path of a file and contains a NUL.
 * @throws {RangeError} If the path is too long.
 * @throws {Deno.errors.ConnectionRefused} If no process listens there.
 * @throws {Deno.errors.NotFound} If the file does not exist.
 * @throws {Deno.errors.PermissionDenied} If this process may not connect.
 * @throws {Deno.errors.NotSupported} On Windows.
 * @throws {WinsockError} If the system reports an error that Deno has no class for. It is also the `cause` of the
 * errors of the system that Deno has a class for.
 * @throws The reason of the signal, if it is aborted first.
 */
export async function connect(options: ConnectLocalOptions): Promise<Socket<Deno.UnixAddr>>;
export async function connect(
  options: ConnectOptions | ConnectLocalOptions,
): Promise<Socket<SocketAddr>> {
  options.signal?.throwIfAborted();
  const calls = systemCalls();
  const address = transportOf(options) === "unix"
    ? { path: (options as ConnectLocalOptions).path }
    : toAddress(options as ConnectOptions, "127.0.0.1");
  const handle = asDeno(() => "path" in address ? calls.openLocal(address.path) : calls.open(address.hostname));
  const socket = ownSocket(handle);
  try {
    await calls.connect(handle, address, options.signal);
    options.signal?.throwIfAborted();
    return socket;
  } catch (error) {
    socket.close();
    throw toDenoError(error);
  }
}
