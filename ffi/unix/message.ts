/**
 * Messages that carry a descriptor (`SCM_RIGHTS`, unix(7)) over a local stream socket.
 *
 * The structures of `sendmsg` hold addresses, so they live in native memory: one block, used for one call at a time.
 *
 * @module
 */
import { unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { SOL_SOCKET } from "./socket_flags.ts";

/** Bytes of every message. The kernel never joins two messages that carry descriptors, so a read gets one whole. */
export const MESSAGE_SIZE = 8;

const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const EINTR = 4;
const EAGAIN = 11;
const ETOOMANYREFS = 109;

// The block: struct msghdr, struct iovec, struct cmsghdr with one descriptor, the bytes.
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const IOV = 56;
const CONTROL = 72;
const CONTROL_DATA = CONTROL + 16;
const CONTROL_SPACE = 24;
/** Room for one descriptor exactly: should more come, the kernel closes them. */
const CONTROL_LENGTH = 20;
const DATA = CONTROL + CONTROL_SPACE;
const BLOCK_SIZE = DATA + MESSAGE_SIZE;

/** What one message brought. */
export interface Message {
  /** Its bytes; none at the end of the connection. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Its descriptor, closed on exec and the caller's to close; none came, or this process had no room for it. */
  readonly descriptor?: bigint;
}

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
  const { address, block, view } = layOut(descriptor === undefined ? 0 : CONTROL_LENGTH);
  if (descriptor !== undefined) {
    view.setBigUint64(CONTROL, BigInt(CONTROL_LENGTH), true);
    view.setInt32(CONTROL + 8, SOL_SOCKET, true);
    view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
    view.setInt32(CONTROL_DATA, Number(descriptor), true);
  }
  block.set(bytes.subarray(0, MESSAGE_SIZE), DATA);
  libc().copyIn(address, block, BigInt(BLOCK_SIZE));
  const sent = libc().sendmsg(fd, address, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent !== -1n) return true;
  const code = errno();
  if (code === EAGAIN || code === EINTR || code === ETOOMANYREFS) return false;
  throw unixError(code, `send a message on socket ${fd}`, "sendmsg");
}

/**
 * Receives one message without waiting.
 *
 * @param fd A connected local stream socket.
 * @returns The message, or `undefined` if there is none at the moment.
 * @throws {WinsockError} If the connection is broken.
 */
export function receiveMessage(fd: bigint): Message | undefined {
  const { address, block, view } = layOut(CONTROL_LENGTH);
  libc().copyIn(address, block, BigInt(BLOCK_SIZE));
  const received = libc().recvmsg(fd, address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received === -1n) {
    const code = errno();
    if (code === EAGAIN || code === EINTR) return undefined;
    throw unixError(code, `receive a message on socket ${fd}`, "recvmsg");
  }
  libc().copyOut(block, address, BigInt(BLOCK_SIZE));
  const bytes = block.slice(DATA, DATA + Number(received));
  const carries = view.getBigUint64(MSG_CONTROLLEN, true) !== 0n &&
    view.getBigUint64(CONTROL, true) === BigInt(CONTROL_LENGTH);
  return carries ? { bytes, descriptor: BigInt(view.getInt32(CONTROL_DATA, true)) } : { bytes };
}

interface NativeBlock {
  readonly address: bigint;
  readonly block: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
}

let native: NativeBlock | undefined;

/** The block with `struct msghdr` and its `struct iovec` filled in. */
function layOut(controlLength: number): NativeBlock {
  if (native === undefined) {
    const block = new Uint8Array(BLOCK_SIZE);
    native = { address: libc().malloc(BigInt(BLOCK_SIZE)), block, view: new DataView(block.buffer) };
  }
  const { address, block, view } = native;
  block.fill(0);
  view.setBigUint64(MSG_IOV, address + BigInt(IOV), true);
  view.setBigUint64(MSG_IOVLEN, 1n, true);
  view.setBigUint64(MSG_CONTROL, address + BigInt(CONTROL), true);
  view.setBigUint64(MSG_CONTROLLEN, BigInt(controlLength), true);
  view.setBigUint64(IOV, address + BigInt(DATA), true);
  view.setBigUint64(IOV + 8, BigInt(MESSAGE_SIZE), true);
  return native;
}
