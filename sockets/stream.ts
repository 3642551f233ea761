/**
 * Streams on descriptors: Deno's own where it can adopt them, and otherwise ones that need foreign functions only.
 *
 * @module
 */
import type net from "node:net";
import { adoptStream, canAdopt } from "./native_stream.ts";
import { openPolledStream } from "./polled_stream.ts";

/** How a socket becomes a stream. */
export interface StreamOptions {
  /**
   * Whether Deno itself reads and writes the socket. `false`: the library does, with calls of the system's own library,
   * and foreign functions are all it needs of Deno. That is as fast in bulk; answering takes longer, on Windows and macOS
   * the more so the more connections wait, and an `unref`'d one is looked after every 10 ms only. By default `true`,
   * where this Deno can.
   */
  native?: boolean;
}

/**
 * Makes a stream of a connected stream socket's descriptor, which is the stream's from then on.
 *
 * Needs no permission besides ffi access to the system's socket library. A little is read ahead; the reading half ending
 * does not end the writing half.
 *
 * @param handle The descriptor. It is left alone if this throws.
 * @param options By which path.
 * @returns The stream; not by Deno itself, it is a `Duplex` in the shape of a connected `net.Socket`.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 * @throws {Deno.errors.NotSupported} If this Deno is to adopt it and cannot.
 */
export function openStream(handle: bigint, options: StreamOptions = {}): net.Socket {
  const { native = canAdopt() } = options;
  return native ? adoptStream(handle) : openPolledStream(handle);
}
