/**
 * Reading and writing a connected stream socket with plain native calls, none of which waits on the JavaScript thread.
 *
 * @module
 */
import type { Poller, Readiness, Waiting } from "./poller.ts";

/** A system's calls on connected sockets, none of which waits. */
export interface StreamCalls {
  /**
   * `recv`: how many bytes it wrote, 0 at the end, or `undefined` if nothing is there.
   *
   * @throws {WinsockError} Such as WSAECONNRESET.
   */
  receive(s: bigint, buffer: Uint8Array<ArrayBuffer>): number | undefined;
  /**
   * `send`: how many bytes it took, or `undefined` if there is no room.
   *
   * @throws {WinsockError} Such as WSAECONNRESET, or WSAESHUTDOWN once this side was ended.
   */
  send(s: bigint, bytes: Uint8Array<ArrayBuffer>): number | undefined;
  /** `shutdown` of the sending side. */
  endSending(s: bigint): void;
  /** Closes the descriptor. */
  close(s: bigint): void;
}

/** No call is given more; what is to be sent may be any amount. */
const LONGEST_CALL = 262_144;

/** One connected socket, and its owner. */
export class StreamIo {
  readonly #waiting = new Map<Readiness, Waiting>();
  #referenced = true;
  #closed = false;

  constructor(readonly s: bigint, readonly calls: StreamCalls, readonly poller: Poller) {}

  /**
   * Receives what is there, or waits for something.
   *
   * @returns How many bytes; 0 at the end, and once this is closed.
   * @throws {WinsockError} Such as WSAECONNRESET.
   */
  async receive(buffer: Uint8Array<ArrayBuffer>): Promise<number> {
    while (!this.#closed) {
      const count = this.calls.receive(this.s, buffer);
      if (count !== undefined) return count;
      await this.#ready("read");
    }
    return 0;
  }

  /**
   * Sends all of it.
   *
   * @returns Whether it did; not if it was closed meanwhile.
   * @throws {WinsockError} Such as WSAECONNRESET.
   */
  async send(bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
    for (let sent = 0; sent < bytes.byteLength;) {
      if (this.#closed) return false;
      const count = this.calls.send(this.s, bytes.subarray(sent, sent + LONGEST_CALL));
      if (count !== undefined) sent += count;
      else await this.#ready("write");
    }
    return true;
  }

  /** Ends this side: the peer reads the end. */
  endSending(): void {
    this.calls.endSending(this.s);
  }

  /** Whether waiting keeps the process running; at first it does. */
  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    for (const waiting of this.#waiting.values()) waiting.referenced = referenced;
    if (this.#waiting.size > 0) this.poller.changed();
  }

  /** Closes the socket once no thread looks at it any more. Who waits goes on at once. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    const unwatched = Promise.all(waiting.map((one) => this.poller.delete(one)));
    for (const { done } of waiting) done();
    await unwatched;
    this.calls.close(this.s);
  }

  #ready(readiness: Readiness): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        s: this.s,
        readiness,
        referenced: this.#referenced,
        done: (error) => {
          this.#waiting.delete(readiness);
          if (error === undefined) resolve();
          else reject(error);
        },
      };
      this.#waiting.set(readiness, waiting);
      this.poller.add(waiting);
    });
  }
}
