/**
 * Messages that carry any number of descriptors (`SCM_RIGHTS`, unix(7)), as other programs send them.
 *
 * @module
 */
import { unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { SOL_SOCKET } from "./socket_flags.ts";

/** `SCM_MAX_FD`: the kernel takes no more in one message. */
export const MAX_DESCRIPTORS = 253;

const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CTRUNC = 0x8;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const EINTR = 4;
const EAGAIN = 11;

// The block: struct msghdr, struct iovec, struct cmsghdr with the descriptors, the bytes.
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const MSG_FLAGS = 48;
const IOV = 56;
const CONTROL = 72;
const CONTROL_HEADER = 16;
const CONTROL_DATA = CONTROL + CONTROL_HEADER;

/** What one message brought. */
export interface DescriptorMessage {
  /** Its bytes; none at the end of the connection. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Its descriptors, closed on exec and the caller's to close. */
  readonly descriptors: readonly bigint[];
  /** Whether there were more than there was room for; the kernel has closed the others. */
  readonly truncated: boolean;
}

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
  using message = new NativeMessage(bytes.byteLength, descriptors.length);
  message.fill(bytes, descriptors);
  const sent = libc().sendmsg(fd, message.address, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent !== -1n) return true;
  const code = errno();
  if (code === EAGAIN || code === EINTR) return false;
  throw unixError(code, `send descriptors on socket ${fd}`, "sendmsg");
}

/**
 * Receives one message without waiting.
 *
 * @param fd A connected local socket.
 * @param length The most bytes to take.
 * @param most The most descriptors to take.
 * @returns The message, or `undefined` if there is none at the moment.
 * @throws {WinsockError} If the connection is broken.
 */
export function receiveDescriptors(fd: bigint, length: number, most: number): DescriptorMessage | undefined {
  using message = new NativeMessage(length, most);
  message.fill(new Uint8Array(length), []);
  const received = libc().recvmsg(fd, message.address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received !== -1n) return message.read(Number(received));
  const code = errno();
  if (code === EAGAIN || code === EINTR) return undefined;
  throw unixError(code, `receive descriptors on socket ${fd}`, "recvmsg");
}

/** The structures of one call, in native memory because they hold addresses. */
class NativeMessage implements Disposable {
  readonly address: bigint;
  readonly #block: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #data: number;
  readonly #controlLength: number;

  constructor(length: number, descriptors: number) {
    this.#controlLength = CONTROL_HEADER + descriptors * 4;
    this.#data = CONTROL + Math.ceil(this.#controlLength / 8) * 8;
    this.#block = new Uint8Array(this.#data + length);
    this.#view = new DataView(this.#block.buffer);
    this.address = libc().malloc(BigInt(this.#block.byteLength));
  }

  fill(bytes: Uint8Array, descriptors: readonly bigint[]): void {
    const view = this.#view;
    view.setBigUint64(MSG_IOV, this.address + BigInt(IOV), true);
    view.setBigUint64(MSG_IOVLEN, 1n, true);
    view.setBigUint64(MSG_CONTROL, this.address + BigInt(CONTROL), true);
    view.setBigUint64(MSG_CONTROLLEN, BigInt(this.#controlLength), true);
    view.setBigUint64(IOV, this.address + BigInt(this.#data), true);
    view.setBigUint64(IOV + 8, BigInt(bytes.byteLength), true);
    view.setBigUint64(CONTROL, BigInt(this.#controlLength), true);
    view.setInt32(CONTROL + 8, SOL_SOCKET, true);
    view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
    descriptors.forEach((descriptor, index) => view.setInt32(CONTROL_DATA + index * 4, Number(descriptor), true));
    this.#block.set(bytes, this.#data);
    libc().copyIn(this.address, this.#block, BigInt(this.#block.byteLength));
  }

  read(length: number): DescriptorMessage {
    libc().copyOut(this.#block, this.address, BigInt(this.#block.byteLength));
    const view = this.#view;
    const carries = view.getBigUint64(MSG_CONTROLLEN, true) > 0n && view.getInt32(CONTROL + 12, true) === SCM_RIGHTS;
    const count = carries ? (Number(view.getBigUint64(CONTROL, true)) - CONTROL_HEADER) / 4 : 0;
    return {
      bytes: this.#block.slice(this.#data, this.#data + length),
      descriptors: Array.from({ length: count }, (_, index) => BigInt(view.getInt32(CONTROL_DATA + index * 4, true))),
      truncated: (view.getInt32(MSG_FLAGS, true) & MSG_CTRUNC) !== 0,
    };
  }

  [Symbol.dispose](): void {
    libc().free(this.address);
  }
}
