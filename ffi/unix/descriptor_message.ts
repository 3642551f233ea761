/**
 * Messages that carry any number of descriptors (`SCM_RIGHTS`, unix(7)), as other programs send them on Linux.
 *
 * @module
 */
import { isErrno, unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { MessageBlock, type ReceivedMessage } from "./message_block.ts";
import { unixSystem } from "./system.ts";

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
  const { MSG_DONTWAIT, MSG_NOSIGNAL } = unixSystem();
  const block = new MessageBlock(unixSystem(), descriptors.length, bytes.byteLength);
  const size = BigInt(block.bytes.byteLength);
  const address = libc().malloc(size);
  try {
    block.encode(address, bytes, descriptors);
    libc().copyIn(address, block.bytes, size);
    const sent = libc().sendmsg(fd, address, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent !== -1n) return true;
    const code = errno();
    if (isErrno(code, "EAGAIN", "EINTR")) return false;
    throw unixError(code, `send descriptors on socket ${fd}`, "sendmsg");
  } finally {
    libc().free(address);
  }
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
  const { MSG_DONTWAIT, MSG_CMSG_CLOEXEC } = unixSystem();
  const block = new MessageBlock(unixSystem(), most, length);
  const size = BigInt(block.bytes.byteLength);
  const address = libc().malloc(size);
  try {
    block.encodeRoom(address);
    libc().copyIn(address, block.bytes, size);
    const received = libc().recvmsg(fd, address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (received === -1n) {
      const code = errno();
      if (isErrno(code, "EAGAIN", "EINTR")) return undefined;
      throw unixError(code, `receive descriptors on socket ${fd}`, "recvmsg");
    }
    libc().copyOut(block.bytes, address, size);
    return block.decode(Number(received));
  } finally {
    libc().free(address);
  }
}
