/**
 * Connecting.
 *
 * @module
 */
import { systemCalls } from "../ffi/system.ts";
import { toAddress } from "./listener.ts";
import { ownSocket, type Socket } from "./socket.ts";

/** Where {@linkcode connect} connects to. */
export interface ConnectOptions {
  /** An IPv4 or IPv6 address, or `localhost` for 127.0.0.1. Default `127.0.0.1`. */
  hostname?: string;
  /** The port. */
  port: number;
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
 * @throws {TypeError} If the hostname is no IP address.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {WinsockError} WSAECONNREFUSED if nobody listens there, WSAETIMEDOUT if nobody answers.
 * @throws The signal's reason, if it is aborted first.
 */
export async function connect(options: ConnectOptions): Promise<Socket> {
  options.signal?.throwIfAborted();
  const calls = systemCalls();
  const address = toAddress(options, "127.0.0.1");
  const handle = calls.open(address.hostname);
  try {
    await calls.connect(handle, address, options.signal);
    return ownSocket(handle);
  } catch (error) {
    calls.close(handle);
    throw error;
  }
}
