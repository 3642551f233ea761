/**
 * `sendmsg` and `recvmsg` of messages that carry descriptors (`SCM_RIGHTS`, unix(7)), without waiting.
 *
 * @module
 */
import { closeOnExec, prepareAll } from "./descriptor_flags.ts";
import { isErrno, unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { MessageBlock, type ReceivedMessage } from "./message_block.ts";
import { unixSystem } from "./system.ts";

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
