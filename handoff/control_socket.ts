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
  try {
    const duplicate = defaultProvider().duplicateSocket(far, processId);
    return { socket: openStream(near), duplicate };
  } catch (error) {
    calls.close(near);
    throw error;
  } finally {
    calls.close(far);
  }
}
