/**
 * One socket on its way into this process.
 *
 * @module
 */
import type { SharedSocket } from "../sockets/duplicate_socket.ts";
import type { FromHandleOptions } from "../sockets/socket.ts";
import { decodeData, type OfferPayload } from "./payload.ts";
import type { Received } from "./received.ts";

/** What the target tells the source about an offer. */
export interface Answers {
  accept(): void;
  reject(reason: string): void;
}

/**
 * offered → claimed → accepted → committed, or from any of these but the last to closed: rejected here, or withdrawn
 * there.
 */
type State = "offered" | "claimed" | "accepted" | "committed" | "closed";

/** A socket between the source's offer and its commit. */
export class Offer implements Received<SharedSocket> {
  readonly sequence: number;
  readonly initialBytes: Uint8Array;
  readonly #payload: OfferPayload;
  readonly #answers: Answers;
  readonly #committed = Promise.withResolvers<void>();
  #state: State = "offered";
  #socket: SharedSocket | undefined;
  #data: unknown;

  constructor(sequence: number, payload: OfferPayload, answers: Answers) {
    this.sequence = sequence;
    this.initialBytes = payload.initialBytes.slice();
    this.#payload = payload;
    this.#answers = answers;
    this.#committed.promise.catch(() => {});
  }

  get socket(): SharedSocket {
    return this.#socket!;
  }

  /** Whether the target has asked for the socket and the source has not answered. */
  get accepted(): boolean {
    return this.#state === "accepted";
  }

  get data(): unknown {
    return this.#data;
  }

  /**
   * Opens the socket and reads the data. What cannot be had is rejected, what was withdrawn meanwhile is closed; then
   * this throws.
   */
  async claim(open: (info: Uint8Array, options: FromHandleOptions) => Promise<SharedSocket>): Promise<void> {
    try {
      this.#socket = await open(this.#payload.info, { initialBytes: this.initialBytes });
      this.#data = decodeData(this.#payload.data);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#state === "offered") this.reject(`process ${Deno.pid} could not take it: ${reason}`);
      else this.#socket?.close();
      throw error;
    }
    if (this.#state !== "offered") {
      this.#socket.close();
      throw new Error("The offer was withdrawn");
    }
    this.#state = "claimed";
  }

  async accept(): Promise<void> {
    if (this.#state === "claimed") {
      this.#state = "accepted";
      this.#answers.accept();
    }
    await this.#committed.promise;
  }

  reject(reason: string): void {
    if (this.#state === "accepted" || this.#state === "committed") {
      throw new TypeError(`Cannot reject socket ${this.socket.handle}: it was accepted`);
    }
    if (this.#state === "closed") return;
    this.#close(new TypeError("The socket was rejected"));
    this.#answers.reject(reason);
  }

  /** The source has let go: the socket is this process's. */
  commit(): void {
    if (this.#state !== "accepted") {
      throw new RangeError(`COMMIT is for socket ${this.sequence}, which was not accepted`);
    }
    this.#state = "committed";
    this.#committed.resolve();
  }

  /** The source has taken the socket back. */
  withdraw(reason: unknown): void {
    this.#close(reason);
  }

  #close(reason: unknown): void {
    this.#state = "closed";
    this.#socket?.close();
    this.#committed.reject(reason);
  }
}
