/**
 * Messages that carry any number of descriptors (`SCM_RIGHTS`, unix(7)), as other programs send them on Linux.
 *
 * @module
 */
import type { ReceivedMessage } from "./message_block.ts";
import { NativeMessage } from "./native_message.ts";

/** `SCM_MAX_FD`: Linux takes no more in one message. */
export const MAX_DESCRIPTORS = 253;

/**
 * Sends one message without waiting.
 *
 * @param fd A connected local socket.
 * @param bytes At least one.
 * @param descriptors At most {@linkcode MAX_DESCRIPTORS}; they stay open here.
 * @returns Whether it was sent; `false` if there is no room at the moment.
 * @throws {WinsockError} If the connection is gone.
 */
export function sendDescriptors(fd: bigint, bytes: Uint8Array, descriptors: readonly bigint[]): boolean {
  using message = new NativeMessage(descriptors.length, bytes.byteLength);
  return message.send(fd, bytes, descriptors);
}

/**
 * Receives one message without waiting.
 *
 * @param fd A connected local socket.
 * @param length The most bytes to take.
 * @param most The most descriptors to take; the kernel closes the others.
 * @returns The message, or `undefined` if there is none at the moment. Its descriptors are closed on exec and the
 * caller's to close.
 * @throws {WinsockError} If the connection is broken.
 */
export function receiveDescriptors(fd: bigint, length: number, most: number): ReceivedMessage | undefined {
  using message = new NativeMessage(most, length);
  return message.receive(fd);
}
