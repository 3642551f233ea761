/**
 * The target's side of the unix provider: claiming what a source has duplicated for this process.
 *
 * @module
 */
import { libc } from "../../ffi/unix/libc.ts";
import { receiveMessage, sendMessage } from "../../ffi/unix/message.ts";
import { poll, POLLIN } from "../../ffi/unix/poll.ts";
import { unixSystem } from "../../ffi/unix/system.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { CLAIM_AHEAD, CLAIM_RECEIVED, decodeAnswer, encodeClaim } from "./claim_messages.ts";
import { noRoom, refusedClaim, rendezvousClosed } from "./claim_error.ts";
import type { EarlyDescriptors } from "./early_descriptors.ts";
import { connectRendezvous } from "./rendezvous_socket.ts";

const CONNECT_DELAY_MS = 2;
const ANSWER_TIMEOUT_MS = 30_000;
const IDLE_MS = 1_000;
const SHUT_WR = 1;

/** One connection to a source's rendezvous, for any number of claims at a time. */
export class ClaimConnection {
  readonly #rendezvous: string;
  readonly #fd: bigint;
  readonly #early: EarlyDescriptors;
  readonly #onClosed: () => void;
  readonly #pending = new Map<number, PromiseWithResolvers<bigint>>();
  #open = true;
  #reading = false;
  #idle: ReturnType<typeof setTimeout> | undefined;
  #lastUse = 0;
  #dismissed = false;
  /** While the connection takes no more claims and what was sent on it still comes: resolves when that is over. */
  retired: Promise<void> | undefined;

  private constructor(rendezvous: string, fd: bigint, early: EarlyDescriptors, onClosed: () => void) {
    this.#rendezvous = rendezvous;
    this.#fd = fd;
    this.#early = early;
    this.#onClosed = onClosed;
  }

  /**
   * Connects to a rendezvous.
   *
   * @param rendezvous Its name.
   * @param early Where descriptors go that come before they are claimed.
   * @param onClosed Called once, when the connection takes no more claims.
   */
  static async connect(rendezvous: string, early: EarlyDescriptors, onClosed: () => void): Promise<ClaimConnection> {
    for (const deadline = performance.now() + ANSWER_TIMEOUT_MS; performance.now() < deadline;) {
      const fd = connectRendezvous(rendezvous);
      if (fd !== undefined) return new ClaimConnection(rendezvous, fd, early, onClosed);
      await new Promise((resolve) => setTimeout(resolve, CONNECT_DELAY_MS));
    }
    throw refusedClaim(WSA_ERRORS.WSAETIMEDOUT, "the source does not accept claims");
  }

  /** Takes what was sent ahead of its claim to where it waits for that. */
  receiveEarly(): void {
    if (!this.#open && this.retired === undefined) return;
    if (this.#open) this.#rest();
    try {
      this.#receive();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Claims what was not sent ahead; the descriptor is the caller's to close. */
  async claim(number: number): Promise<bigint> {
    if (!this.#open) throw rendezvousClosed();
    if (this.#pending.has(number)) throw refusedClaim(WSA_ERRORS.WSAEINVAL, "it is being opened already");
    const claimed = Promise.withResolvers<bigint>();
    claimed.promise.catch(() => {});
    this.#pending.set(number, claimed);
    try {
      await this.#send(number, CLAIM_AHEAD);
    } catch (error) {
      this.#fail(error);
    }
    if (this.#open && !this.#reading) this.#read();
    return await claimed.promise;
  }

  async #send(number: number, flag: number): Promise<void> {
    while (this.#open && !sendMessage(this.#fd, encodeClaim(number, flag))) {
      await new Promise((resolve) => setTimeout(resolve, CONNECT_DELAY_MS));
    }
  }

  /** Tells the source that a descriptor has come. */
  #acknowledge(number: number): void {
    // A source that is gone keeps nothing, and reading tells of it.
    this.#send(number, CLAIM_RECEIVED).catch(() => {});
  }

  async #read(): Promise<void> {
    this.#reading = true;
    try {
      while (this.#open && this.#pending.size > 0) {
        const ready = await poll(ANSWER_TIMEOUT_MS, [this.#fd, POLLIN]);
        if (ready === 0) throw refusedClaim(WSA_ERRORS.WSAETIMEDOUT, "the source does not answer");
        if (this.#open) this.#receive();
      }
      this.#rest();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#reading = false;
    }
  }

  /** Takes what has come, without waiting. */
  #receive(): void {
    for (let message = receiveMessage(this.#fd); message !== undefined; message = receiveMessage(this.#fd)) {
      if (message.bytes.byteLength === 0) throw rendezvousClosed();
      const { number, code } = decodeAnswer(message.bytes);
      this.#take(number, code, message.descriptor);
      if (message.descriptor !== undefined && unixSystem().sweepsMessages) this.#acknowledge(number);
    }
  }

  #take(number: number, code: number, descriptor: bigint | undefined): void {
    if (code === WSA_ERRORS.WSAEDISCON) this.#dismissed = true;
    const claimed = this.#pending.get(number);
    this.#pending.delete(number);
    if (code !== 0) {
      if (descriptor !== undefined) libc().close(descriptor);
      this.#early.discard(this.#rendezvous, number);
      claimed?.reject(refusedClaim(code));
    } else if (claimed === undefined) {
      this.#early.add(this.#rendezvous, number, descriptor);
    } else if (descriptor === undefined) {
      claimed.reject(noRoom());
    } else {
      claimed.resolve(descriptor);
    }
  }

  /** Ends the connection when it has not been needed for a while. */
  #rest(): void {
    this.#lastUse = performance.now();
    this.#idle ??= this.#restLater();
  }

  #restLater(): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => {
      this.#idle = undefined;
      if (this.#isIdle()) this.retired = this.#retire();
      else if (this.#open) this.#idle = this.#restLater();
    }, IDLE_MS);
    Deno.unrefTimer(timer);
    return timer;
  }

  /** Takes what has come, and says whether nothing more will: what came early can be taken back only over this connection. */
  #isIdle(): boolean {
    try {
      this.#receive();
    } catch (error) {
      this.#fail(error);
      return false;
    }
    const unused = this.#pending.size === 0 && performance.now() - this.#lastUse >= IDLE_MS;
    return unused && !this.#early.has(this.#rendezvous);
  }

  /** Tells the source to send nothing more here, and takes what it has sent until it heard of that. */
  async #retire(): Promise<void> {
    this.#open = false;
    libc().shutdown(this.#fd, SHUT_WR);
    try {
      while (await poll(IDLE_MS, [this.#fd, POLLIN]) > 0) this.#receive();
    } catch {
      if (!this.#dismissed) this.#early.discardAll(this.#rendezvous);
    }
    this.#onClosed();
    libc().close(this.#fd);
    this.retired = undefined;
  }

  /** The source is gone or speaks otherwise: what waits for it fails, and what it has sent ahead is void. */
  #fail(error: unknown): void {
    if (!this.#open) return;
    this.#open = false;
    clearTimeout(this.#idle);
    this.#onClosed();
    libc().close(this.#fd);
    this.#early.discardAll(this.#rendezvous);
    for (const claimed of this.#pending.values()) claimed.reject(error);
    this.#pending.clear();
  }
}
