/**
 * The requests of one connection.
 *
 * @module
 */
import type { Socket as NodeSocket } from "node:net";

/** How many requests may wait for their turn before no more are read; of those that came along with it, all do. */
const MOST_WAITING = 100;

/**
 * Lets one request after the other be answered, as `Deno.serve` does: a client may send many without waiting for
 * responses, and those that wait for their turn cost little.
 */
export class Turns {
  readonly #stream: NodeSocket & { _paused?: boolean };
  readonly #waiting: (() => void)[] = [];
  #taken = false;

  constructor(stream: NodeSocket) {
    this.#stream = stream;
  }

  /** Whether no request is being answered. */
  get free(): boolean {
    return !this.#taken;
  }

  /** Whether none waits behind the one that is being answered. */
  get isLast(): boolean {
    return this.#waiting.length === 0;
  }

  /** Answers a request when all before it are answered. */
  take(answer: () => void): void {
    if (this.free) {
      this.#taken = true;
      return answer();
    }
    if (this.#waiting.push(answer) < MOST_WAITING) return;
    // What the server itself does when too much waits to be sent; without the mark it would read on after each response.
    this.#stream._paused = true;
    this.#stream.pause();
  }

  /** A response has been sent, or cannot be. */
  pass(): void {
    if (!this.#stream.writable) this.#waiting.length = 0;
    const next = this.#waiting.shift();
    // With this the server reads on: the body of the last may be on its way. Deno's own does not always say it.
    if (this.#stream._paused && this.#waiting.length === 0) this.#stream.emit("drain");
    if (next !== undefined) next();
    else this.#taken = false;
  }
}
