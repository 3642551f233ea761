/**
 * Messages that carry a descriptor (`SCM_RIGHTS`, unix(7)) over a local stream socket.
 *
 * Their memory is kept: one block each way, used for one call at a time.
 *
 * @module
 */
import { libc } from "./libc.ts";
import { NativeMessage } from "./native_message.ts";
import { unixSystem } from "./system.ts";

/** Bytes of every message. The kernel never joins two messages that carry descriptors, so a read gets one whole. */
export const MESSAGE_SIZE = 8;

/** What one message brought. */
export interface Message {
  /** Its bytes; none at the end of the connection. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Its descriptor, closed on exec and the caller's to close; none came, or this process had no room for it. */
  readonly descriptor?: bigint;
}

let outgoing: NativeMessage | undefined;
let incoming: NativeMessage | undefined;

/**
 * Sends one message without waiting.
 *
 * @param fd A connected local stream socket.
 * @param bytes Exactly {@linkcode MESSAGE_SIZE}.
 * @param descriptor What to carry; it stays open here.
 * @returns Whether it was sent; `false` if there is no room at the moment.
 * @throws {WinsockError} If the connection is gone.
 */
export function sendMessage(fd: bigint, bytes: Uint8Array, descriptor?: bigint): boolean {
  outgoing ??= new NativeMessage(1, MESSAGE_SIZE);
  return outgoing.send(fd, bytes.subarray(0, MESSAGE_SIZE), descriptor === undefined ? [] : [descriptor]);
}

/**
 * Receives one message without waiting. Should more than one descriptor come, the others are closed.
 *
 * @param fd A connected local stream socket.
 * @returns The message, or `undefined` if there is none at the moment.
 * @throws {WinsockError} If the connection is broken.
 */
export function receiveMessage(fd: bigint): Message | undefined {
  const { closesUntaken, mostDescriptors } = unixSystem();
  incoming ??= new NativeMessage(closesUntaken ? 1 : mostDescriptors, MESSAGE_SIZE);
  const message = incoming.receive(fd);
  if (message === undefined) return undefined;
  const { bytes, descriptors: [descriptor, ...others] } = message;
  for (const other of others) libc().close(other);
  return descriptor === undefined ? { bytes } : { bytes, descriptor };
}
