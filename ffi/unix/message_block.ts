/**
 * The structures of `sendmsg` and `recvmsg` in one block: `struct msghdr`, `struct iovec`, `struct cmsghdr` with
 * descriptors (`SCM_RIGHTS`), the bytes. Pure: they hold addresses, so the block must lie in native memory for a call.
 *
 * @module
 */
import type { UnixSystem } from "./systems/unix_system.ts";

const SCM_RIGHTS = 1;
const DESCRIPTOR_SIZE = 4;

const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const IOVEC_SIZE = 16;

/** What one message brought. */
export interface ReceivedMessage {
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
