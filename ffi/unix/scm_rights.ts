/**
 * Messages that carry descriptors (`SCM_RIGHTS`, unix(7)): the structures of `sendmsg` and `recvmsg`, and both calls,
 * without waiting. The structures hold addresses, so a message lies in one block of native memory.
 *
 * @module
 */
import type { UnixSystem } from "./unix_system.ts";
import { closeOnExec, prepareAll } from "./descriptors.ts";
import { errno, isErrno, libc, unixError, unixSystem } from "./libc.ts";

const SCM_RIGHTS = 1;
const DESCRIPTOR_SIZE = 4;

const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const IOVEC_SIZE = 16;

/** What one message brought. */
interface ReceivedMessage {
  /** Its bytes; none at the end of the connection. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Its descriptors. */
  readonly descriptors: bigint[];
  /** Whether there were more than there was room for. */
  readonly truncated: boolean;
}

/** The layout of a message of one size, and its bytes. */
export class MessageBlock {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #system: UnixSystem;
  readonly #room: number;
  readonly #length: number;
  readonly #flags: number;
  readonly #iov: number;
  readonly #control: number;
  readonly #headerSize: number;
  readonly #data: number;

  /**
   * Lays out a message.
   *
   * @param system Whose structures.
   * @param room How many descriptors fit.
   * @param length How many bytes fit.
   */
  constructor(system: UnixSystem, room: number, length: number) {
    // msg_flags stands behind msg_controllen; cmsg_level and cmsg_type, 4 bytes each, behind cmsg_len.
    const { messageLengthSize } = system;
    this.#system = system;
    this.#room = room;
    this.#length = length;
    this.#flags = MSG_CONTROLLEN + messageLengthSize;
    this.#iov = align(this.#flags + 4);
    this.#control = this.#iov + IOVEC_SIZE;
    this.#headerSize = messageLengthSize + 8;
    this.#data = this.#control + align(this.#headerSize + room * DESCRIPTOR_SIZE);
    this.bytes = new Uint8Array(this.#data + length);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Lays out what is to be sent, for a block at that address. */
  encode(address: bigint, bytes: Uint8Array, descriptors: readonly bigint[]): void {
    const { SOL_SOCKET } = this.#system;
    const view = this.#view;
    const control = this.#control;
    // macOS refuses a control message that is not there.
    this.#layOut(address, bytes.byteLength, descriptors.length === 0 ? 0 : this.#controlSize(descriptors.length));
    if (descriptors.length > 0) {
      this.#setLength(control, this.#controlSize(descriptors.length));
      view.setInt32(control + this.#headerSize - 8, SOL_SOCKET, true);
      view.setInt32(control + this.#headerSize - 4, SCM_RIGHTS, true);
      for (const [index, descriptor] of descriptors.entries()) {
        view.setInt32(control + this.#headerSize + index * DESCRIPTOR_SIZE, Number(descriptor), true);
      }
    }
    this.bytes.set(bytes, this.#data);
  }

  /** Lays out the room for what is to be received, for a block at that address. */
  encodeRoom(address: bigint): void {
    this.#layOut(address, this.#length, this.#controlSize(this.#room));
  }

  /** What was received. */
  decode(length: number): ReceivedMessage {
    const view = this.#view;
    const control = this.#control;
    const received = this.#getLength(MSG_CONTROLLEN);
    const carries = received >= this.#headerSize && view.getInt32(control + this.#headerSize - 4, true) === SCM_RIGHTS;
    // Where descriptors were left out, macOS still counts them in cmsg_len.
    const size = carries ? Math.min(received, this.#getLength(control)) - this.#headerSize : 0;
    const descriptors: bigint[] = [];
    for (let offset = 0; offset + DESCRIPTOR_SIZE <= size; offset += DESCRIPTOR_SIZE) {
      descriptors.push(BigInt(view.getInt32(control + this.#headerSize + offset, true)));
    }
    return {
      bytes: this.bytes.slice(this.#data, this.#data + length),
      descriptors,
      truncated: (view.getInt32(this.#flags, true) & this.#system.MSG_CTRUNC) !== 0,
    };
  }

  #layOut(address: bigint, length: number, controlSize: number): void {
    const view = this.#view;
    this.bytes.fill(0);
    view.setBigUint64(MSG_IOV, address + BigInt(this.#iov), true);
    this.#setLength(MSG_IOVLEN, 1);
    if (controlSize > 0) view.setBigUint64(MSG_CONTROL, address + BigInt(this.#control), true);
    this.#setLength(MSG_CONTROLLEN, controlSize);
    view.setBigUint64(this.#iov, address + BigInt(this.#data), true);
    view.setBigUint64(this.#iov + 8, BigInt(length), true);
  }

  /** `CMSG_LEN`: without the padding behind the descriptors, for which the kernel would find room for one more. */
  #controlSize(descriptors: number): number {
    return this.#headerSize + descriptors * DESCRIPTOR_SIZE;
  }

  /** A length in the block, which holds zeros: its upper half is one where lengths are 8 bytes. */
  #setLength(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }

  #getLength(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
}

/** The next multiple of 8. */
function align(size: number): number {
  return Math.ceil(size / 8) * 8;
}

/** The structures of one message in native memory, for one call at a time. */
export class NativeMessage implements Disposable {
  readonly #block: MessageBlock;
  readonly #size: bigint;
  readonly #address: bigint;

  /**
   * Takes the memory.
   *
   * @param room How many descriptors fit.
   * @param length How many bytes fit.
   */
  constructor(room: number, length: number) {
    this.#block = new MessageBlock(unixSystem(), room, length);
    this.#size = BigInt(this.#block.bytes.byteLength);
    this.#address = libc().malloc(this.#size);
  }

  /**
   * Sends a message.
   *
   * @param fd A connected local socket.
   * @param bytes At least one.
   * @param descriptors What to carry; they stay open here.
   * @returns Whether it was sent; `false` if there is no room at the moment.
   * @throws {WinsockError} If the connection is gone.
   */
  send(fd: bigint, bytes: Uint8Array, descriptors: readonly bigint[]): boolean {
    const { MSG_DONTWAIT, MSG_NOSIGNAL, waits } = unixSystem();
    this.#block.encode(this.#address, bytes, descriptors);
    libc().copyIn(this.#address, this.#block.bytes, this.#size);
    const sent = libc().sendmsg(fd, this.#address, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent !== -1n) return true;
    const code = errno();
    if (isErrno(code, ...waits.descriptor)) return false;
    throw unixError(code, `send a message on socket ${fd}`, "sendmsg");
  }

  /**
   * Receives a message.
   *
   * @param fd A connected local socket.
   * @returns The message, or `undefined` if there is none at the moment. Its descriptors are closed on exec and the
   * caller's to close.
   * @throws {WinsockError} If the connection is broken.
   */
  receive(fd: bigint): ReceivedMessage | undefined {
    const { MSG_DONTWAIT, MSG_CMSG_CLOEXEC } = unixSystem();
    for (;;) {
      this.#block.encodeRoom(this.#address);
      libc().copyIn(this.#address, this.#block.bytes, this.#size);
      const received = libc().recvmsg(fd, this.#address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (received !== -1n) return this.#received(Number(received));
      const code = errno();
      if (isErrno(code, "EAGAIN", "EINTR")) return undefined;
      // This process had no room for what macOS found in the message, and its bytes come at the next call.
      if (!isErrno(code, "EMSGSIZE")) throw unixError(code, `receive a message on socket ${fd}`, "recvmsg");
    }
  }

  #received(length: number): ReceivedMessage {
    libc().copyOut(this.#block.bytes, this.#address, this.#size);
    const message = this.#block.decode(length);
    if (unixSystem().MSG_CMSG_CLOEXEC === 0) prepareAll(message.descriptors, closeOnExec);
    return message;
  }

  /** Gives the memory back. */
  [Symbol.dispose](): void {
    libc().free(this.#address);
  }
}

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
