/**
 * The target's side of the unix provider: claiming what a source has duplicated for this process.
 *
 * @module
 */
import { connectAbstract } from "../../ffi/unix/abstract_socket.ts";
import { libc } from "../../ffi/unix/libc.ts";
import { receiveMessage, sendMessage } from "../../ffi/unix/message.ts";
import { poll, POLLIN } from "../../ffi/unix/poll.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { decodeAnswer, encodeClaim } from "./blob.ts";

const CONNECT_DELAY_MS = 2;
const ANSWER_TIMEOUT_MS = 30_000;
const IDLE_MS = 1_000;

/** One connection to a source's rendezvous, for any number of claims at a time. */
export class ClaimConnection {
  readonly #pending = new Map<number, PromiseWithResolvers<bigint>>();
  readonly #fd: bigint;
  readonly #onClosed: () => void;
  #open = true;
  #reading = false;
  #idle: ReturnType<typeof setTimeout> | undefined;

  private constructor(fd: bigint, onClosed: () => void) {
    this.#fd = fd;
    this.#onClosed = onClosed;
  }

  /**
   * Connects to a rendezvous.
   *
   * @param rendezvous Its abstract name.
   * @param onClosed Called once, when the connection can claim no more.
   */
  static async connect(rendezvous: string, onClosed: () => void): Promise<ClaimConnection> {
    for (const deadline = Date.now() + ANSWER_TIMEOUT_MS; Date.now() < deadline;) {
      const fd = connectAbstract(rendezvous);
      if (fd !== undefined) return new ClaimConnection(fd, onClosed);
      await new Promise((resolve) => setTimeout(resolve, CONNECT_DELAY_MS));
    }
    throw claimError(WSA_ERRORS.WSAETIMEDOUT, "the source does not accept claims");
  }

  /** Claims an offer; the descriptor is the caller's to close. */
  async claim(number: number): Promise<bigint> {
    if (!this.#open) throw claimError(WSA_ERRORS.WSAECONNRESET, "the source closed its rendezvous");
    if (this.#pending.has(number)) throw claimError(WSA_ERRORS.WSAEINVAL, "it is being opened already");
    clearTimeout(this.#idle);
    const claimed = Promise.withResolvers<bigint>();
    claimed.promise.catch(() => {});
    this.#pending.set(number, claimed);
    try {
      while (this.#open && !sendMessage(this.#fd, encodeClaim(number))) {
        await new Promise((resolve) => setTimeout(resolve, CONNECT_DELAY_MS));
      }
    } catch (error) {
      this.#fail(error);
    }
    if (this.#open && !this.#reading) this.#read();
    return await claimed.promise;
  }

  async #read(): Promise<void> {
    this.#reading = true;
    try {
      while (this.#open && this.#pending.size > 0) {
        const ready = await poll(ANSWER_TIMEOUT_MS, [this.#fd, POLLIN]);
        if (ready === 0) throw claimError(WSA_ERRORS.WSAETIMEDOUT, "the source does not answer");
        if (this.#open) this.#takeAnswers();
      }
      this.#idle = setTimeout(() => this.#close(), IDLE_MS);
      Deno.unrefTimer(this.#idle);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#reading = false;
    }
  }

  #takeAnswers(): void {
    for (let message = receiveMessage(this.#fd); message !== undefined; message = receiveMessage(this.#fd)) {
      if (message.bytes.byteLength === 0) {
        throw claimError(WSA_ERRORS.WSAECONNRESET, "the source closed its rendezvous");
      }
      const { number, code } = decodeAnswer(message.bytes);
      const claimed = this.#pending.get(number);
      this.#pending.delete(number);
      if (message.descriptor !== undefined && (claimed === undefined || code !== 0)) libc().close(message.descriptor);
      if (claimed === undefined) continue;
      if (code !== 0) {
        claimed.reject(claimError(code, "it was made for another process, opened before, or has expired"));
      } else if (message.descriptor === undefined) {
        claimed.reject(claimError(WSA_ERRORS.WSAEMFILE, "this process has no room for another descriptor"));
      } else {
        claimed.resolve(message.descriptor);
      }
    }
  }

  /** The connection can claim no more, and what waits for it neither. */
  #fail(error: unknown): void {
    this.#close();
    for (const claimed of this.#pending.values()) claimed.reject(error);
    this.#pending.clear();
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#onClosed();
    libc().close(this.#fd);
  }
}

function claimError(code: number, detail: string): WinsockError {
  return new WinsockError(code, { operation: "open a shared socket", functionName: "WSPSocket", detail });
}
