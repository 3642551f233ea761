/**
 * Messages that carry a descriptor (`SCM_RIGHTS`, unix(7)) over a local stream socket.
 *
 * The structures live in native memory: one block each way, used for one call at a time.
 *
 * @module
 */
import { closeOnExec } from "./descriptor_flags.ts";
import { isErrno, unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { MessageBlock } from "./message_block.ts";
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

/** A block and where it lies in native memory. */
interface NativeBlock {
  readonly block: MessageBlock;
  readonly address: bigint;
  readonly size: bigint;
}

let outgoing: NativeBlock | undefined;
let incoming: NativeBlock | undefined;

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
  const { MSG_DONTWAIT, MSG_NOSIGNAL, waits } = unixSystem();
  const { block, address, size } = outgoing ??= nativeBlock(1);
  block.encode(address, bytes.subarray(0, MESSAGE_SIZE), descriptor === undefined ? [] : [descriptor]);
  libc().copyIn(address, block.bytes, size);
  const sent = libc().sendmsg(fd, address, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent !== -1n) return true;
  const code = errno();
  if (isErrno(code, ...waits.descriptor)) return false;
  throw unixError(code, `send a message on socket ${fd}`, "sendmsg");
}

/**
 * Receives one message without waiting. Should more than one descriptor come, the others are closed.
 *
 * @param fd A connected local stream socket.
 * @returns The message, or `undefined` if there is none at the moment.
 * @throws {WinsockError} If the connection is broken.
 */
export function receiveMessage(fd: bigint): Message | undefined {
  const { MSG_DONTWAIT, MSG_CMSG_CLOEXEC, closesUntaken, mostDescriptors } = unixSystem();
  const { block, address, size } = incoming ??= nativeBlock(closesUntaken ? 1 : mostDescriptors);
  for (;;) {
    block.encodeRoom(address);
    libc().copyIn(address, block.bytes, size);
    const received = libc().recvmsg(fd, address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (received === -1n) {
      const code = errno();
      if (isErrno(code, "EAGAIN", "EINTR")) return undefined;
      // This process had no room for what macOS found in the message, and its bytes come at the next call.
      if (isErrno(code, "EMSGSIZE")) continue;
      throw unixError(code, `receive a message on socket ${fd}`, "recvmsg");
    }
    libc().copyOut(block.bytes, address, size);
    const { bytes, descriptors: [descriptor, ...others] } = block.decode(Number(received));
    for (const other of others) libc().close(other);
    if (descriptor === undefined) return { bytes };
    if (MSG_CMSG_CLOEXEC === 0) closeOnExec(descriptor);
    return { bytes, descriptor };
  }
}

function nativeBlock(room: number): NativeBlock {
  const block = new MessageBlock(unixSystem(), room, MESSAGE_SIZE);
  const size = BigInt(block.bytes.byteLength);
  return { block, size, address: libc().malloc(size) };
}
