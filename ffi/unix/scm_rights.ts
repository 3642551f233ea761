/**
 * Messages that carry descriptors (`SCM_RIGHTS`, unix(7)): the structures of `sendmsg` and `recvmsg`, and both calls,
 * without waiting; and one datagram to an address. The structures contain addresses, so each message is one block of
 * native memory.
 *
 * @module
 */
import type { UnixSystem } from "./unix_system.ts";
import { AF_UNIX } from "../socket_address.ts";
import { SOCK } from "../../structs/constants.ts";
import { closeOnExec, newSocket, prepareAll } from "./descriptors.ts";
import { errno, isErrno, lastUnixError, libc, unixError, unixSystem } from "./libc.ts";
import { encodeLocalAddress } from "./local_sockets.ts";
import { unixPoller } from "./poller.ts";

const SCM_RIGHTS = 1;
const DESCRIPTOR_SIZE = 4;

const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const IOVEC_SIZE = 16;

/** A received message. */
interface ReceivedMessage {
  /** The bytes of the message; empty at the end of the connection. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The descriptors of the message. */
  readonly descriptors: bigint[];
  /** Whether the message had more descriptors than there was room for. */
  readonly truncated: boolean;
}

/** The layout and the bytes of a message of one size. */
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
   * @param system The system whose structures are used.
   * @param room The most descriptors that fit.
   * @param length The most bytes that fit.
   */
  constructor(system: UnixSystem, room: number, length: number) {
    // msg_flags follows msg_controllen; cmsg_level and cmsg_type, 4 bytes each, follow cmsg_len.
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

  /** Lays out a message to send, for a block at the given address. */
  encode(address: bigint, bytes: Uint8Array, descriptors: readonly bigint[]): void {
    const { SOL_SOCKET } = this.#system;
    const view = this.#view;
    const control = this.#control;
    // macOS refuses an empty control message.
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

  /** Lays out the room for a message to receive, for a block at the given address. */
  encodeRoom(address: bigint): void {
    this.#layOut(address, this.#length, this.#controlSize(this.#room));
  }

  /** Decodes the received message. */
  decode(length: number): ReceivedMessage {
    const view = this.#view;
    const control = this.#control;
    const received = this.#getLength(MSG_CONTROLLEN);
    const carries = received >= this.#headerSize && view.getInt32(control + this.#headerSize - 4, true) === SCM_RIGHTS;
    // If descriptors were left out, macOS still counts them in cmsg_len.
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

  /**
   * Returns `CMSG_LEN`, without the padding after the descriptors. With the padding, the kernel would find room for one
   * more descriptor.
   */
  #controlSize(descriptors: number): number {
    return this.#headerSize + descriptors * DESCRIPTOR_SIZE;
  }

  /** Writes a length. The block contains zeros, so the upper half is 0 if lengths have 8 bytes. */
  #setLength(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }

  #getLength(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
}

/** Rounds up to a multiple of 8. */
function align(size: number): number {
  return Math.ceil(size / 8) * 8;
}

/** The structures of one message in native memory. Only one call may use them at a time. */
export class NativeMessage implements Disposable {
  readonly #block: MessageBlock;
  readonly #size: bigint;
  readonly #address: bigint;

  /**
   * Allocates the memory.
   *
   * @param room The most descriptors that fit.
   * @param length The most bytes that fit.
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
   * @param bytes The bytes; at least one.
   * @param descriptors The descriptors to send. They stay open in this process.
   * @returns Whether the message was sent; `false` if there is no room at the moment.
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
   * @returns The message; `undefined` if no message is available. Its descriptors are closed on exec. The caller must
   * close them.
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
      // This process had no room for the descriptors that macOS found in the message. The next call receives its bytes.
      if (!isErrno(code, "EMSGSIZE")) throw unixError(code, `receive a message on socket ${fd}`, "recvmsg");
    }
  }

  #received(length: number): ReceivedMessage {
    libc().copyOut(this.#block.bytes, this.#address, this.#size);
    const message = this.#block.decode(length);
    if (unixSystem().MSG_CMSG_CLOEXEC === 0) prepareAll(message.descriptors, closeOnExec);
    return message;
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    libc().free(this.#address);
  }
}

/** `SCM_MAX_FD`: the most descriptors that Linux accepts in one message. */
export const MAX_DESCRIPTORS = 253;

/**
 * Sends one message without waiting.
 *
 * @param fd A connected local socket.
 * @param bytes The bytes; at least one.
 * @param descriptors At most {@linkcode MAX_DESCRIPTORS} descriptors. They stay open in this process.
 * @returns Whether the message was sent; `false` if there is no room at the moment.
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
 * @param length The most bytes to receive.
 * @param most The most descriptors to receive. The kernel closes the others.
 * @returns The message; `undefined` if no message is available. Its descriptors are closed on exec. The caller must
 * close them.
 * @throws {WinsockError} If the connection is broken.
 */
export function receiveDescriptors(fd: bigint, length: number, most: number): ReceivedMessage | undefined {
  using message = new NativeMessage(most, length);
  return message.receive(fd);
}

/**
 * Sends one datagram. Waits while the queue of the receiver is full.
 *
 * @param address The path of the receiver's file, or `@` and its abstract name.
 * @param bytes The datagram; at least one byte.
 * @param descriptors The descriptors to send with it. They stay open in this process.
 * @throws {RangeError} If the address is too long for the system.
 * @throws {WinsockError} If the receiver does not exist.
 */
export async function sendLocalDatagram(
  address: string,
  bytes: Uint8Array<ArrayBuffer>,
  descriptors: readonly bigint[] = [],
): Promise<void> {
  const name = encodeLocalAddress(address.replace(/^@/, "\0"));
  const operation = `send a datagram to ${address}`;
  const s = newSocket(AF_UNIX, SOCK.SOCK_DGRAM);
  try {
    const connected = libc().connect(s, name, name.byteLength);
    if (connected === -1) throw lastUnixError(operation, "connect");
    while (!sendDescriptors(s, bytes, descriptors)) {
      await unixPoller().prepare().wait(s, "write", { operation }).over;
    }
  } finally {
    libc().close(s);
  }
}
