/**
 * Streams on descriptors: Deno's own where it can adopt them, and otherwise ones that need foreign functions only.
 *
 * @module
 */
import type net from "node:net";
import { systemCalls } from "../ffi/system.ts";
import { canReadResource, type ConnIo, openPlainIo, openResourceIo } from "./conn_io.ts";
import { adoptNodeSocket, adoptStream, canAdopt } from "./native_stream.ts";
import { openPolledStream } from "./polled_stream.ts";

/** How a socket becomes a stream. */
export interface StreamOptions {
  /**
   * Whether Deno itself reads and writes the socket. `false`: the library does, with calls of the system's own library,
   * and foreign functions are all it needs of Deno. That is as fast in bulk; answering takes longer, on Windows and macOS
   * the more so the more connections wait, and an `unref`'d one is looked after every 10 ms only. By default `true`,
   * where this Deno can.
   *
   * {@linkcode Socket.toConn} has one more condition. Deno shuts down what it closes, for every process that has the
   * socket. So the default is `false` for a socket that others may use as well: one that `duplicateSocket` was called
   * with, or that `openSocket` or `Socket.fromHandle` made.
   */
  native?: boolean;
}

/**
 * Makes a stream of a connected stream socket's descriptor, which is the stream's from then on. For connections of the
 * library's own: a peer that has ended its side before it sent anything cannot be written to.
 *
 * Needs no permission besides ffi access to the system's socket library. A little is read ahead; the reading half ending
 * does not end the writing half.
 *
 * @param handle The descriptor. It is left alone if this throws.
 * @returns The stream; not by Deno itself, it is a `Duplex` in the shape of a connected `net.Socket`.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 */
export function openStream(handle: bigint): net.Socket {
  return canAdopt() ? adoptStream(handle) : openPolledStream(handle, false);
}

/**
 * Makes a stream of the descriptor of somebody's connection, as {@linkcode openStream} does, that can be written to
 * whatever the peer has done.
 *
 * @param handle The descriptor. It is left alone if this throws.
 * @param options By which path.
 * @param shared Whether to shut the connection down before it is closed.
 * @returns The stream; not by Deno itself, it is a `Duplex` in the shape of a connected `net.Socket`.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 * @throws {Deno.errors.NotSupported} If this Deno is to adopt it and cannot.
 */
export function openNodeSocket(handle: bigint, options: StreamOptions, shared: boolean): net.Socket {
  const { native = canAdopt() } = options;
  return native ? adoptNodeSocket(handle, shared) : openPolledStream(handle, shared);
}

/**
 * Makes what reads and writes the descriptor of somebody's connection.
 *
 * @param handle The descriptor. It is left alone if this throws.
 * @param options By which path.
 * @param exclusive Whether closing it may end the connection, since nobody else is to use that.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 * @throws {Deno.errors.NotSupported} If this Deno is to adopt it and cannot.
 */
export function openConnIo(handle: bigint, options: StreamOptions, exclusive: boolean): ConnIo {
  const { native = exclusive && canReadResource() && !resets(handle) } = options;
  return native ? openResourceIo(handle) : openPlainIo(handle);
}

/** Whether closing is to reset the connection, which it does not once it was shut down. */
function resets(handle: bigint): boolean {
  return systemCalls().getOption(handle, "SO_LINGER") === 0;
}
