/**
 * The way back from target to source.
 *
 * @module
 */
import type net from "node:net";
import { systemCalls } from "../ffi/system.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { openStream } from "../sockets/stream.ts";

/** A control socket: the source's end as a stream, the target's as a duplicate for it to open. */
export interface ControlSocket {
  readonly socket: net.Socket;
  readonly duplicate: Uint8Array;
}

/**
 * Makes a pair of local sockets and duplicates one for the target.
 *
 * @param processId The target.
 * @throws {WinsockError} WSAEINVAL if there is no such process.
 */
export function openControlSocket(processId: number): ControlSocket {
  const calls = systemCalls();
  const [near, far] = calls.pair();
  let socket: net.Socket | undefined;
  try {
    socket = openStream(near);
    // Last: on Windows a duplicate is in the target from here on, and cannot be taken back.
    return { socket, duplicate: defaultProvider().duplicateSocket(far, processId) };
  } catch (error) {
    if (socket === undefined) calls.close(near);
    else socket.destroy();
    throw error;
  } finally {
    calls.close(far);
  }
}
