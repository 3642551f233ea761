/**
 * Accepting on Unix: a non-blocking `accept` on the JavaScript thread, and `poll` on a pool thread when nobody waits.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Acceptor, SocketCalls } from "../socket_calls.ts";
import { setNonblocking } from "./descriptor_flags.ts";
import { acceptNow } from "./new_descriptors.ts";
import { poll, POLLIN, Waker } from "./poll.ts";

const MOST_IN_TURN = 16;

/** Polls on a pool thread. */
export class PollAcceptor implements Acceptor {
  #waker: Waker | undefined;
  #stopped = false;
  /** Connections accepted since the event loop had its last turn. */
  #inTurn = 0;
  #idle: Promise<unknown> = Promise.resolve();

  /** A listener somebody else made may block; here it must not, whoever shares it. */
  constructor(readonly calls: SocketCalls, readonly listener: bigint) {
    setNonblocking(listener, `accept connections on socket ${listener}`);
  }

  async accept(): Promise<bigint | undefined> {
    // Whoever takes connections is to get a turn at using them.
    if (this.#inTurn === MOST_IN_TURN) await this.#turn();
    while (!this.#stopped) {
      const s = acceptNow(this.listener);
      if (s !== undefined) {
        this.#inTurn++;
        return s;
      }
      // A turn of the event loop costs less than a pool thread, and where several came the next is not far.
      await (this.#inTurn > 1 ? this.#turn() : this.#poll());
    }
    return undefined;
  }

  async #poll(): Promise<void> {
    this.#inTurn = 0;
    this.#waker ??= new Waker();
    await (this.#idle = poll(-1, [this.listener, POLLIN], [this.#waker.fd, POLLIN]));
  }

  #turn(): Promise<void> {
    this.#inTurn = 0;
    return new Promise((resolve) => setImmediate(resolve));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#waker?.wake();
    await this.#idle;
    this.#waker?.[Symbol.dispose]();
    this.#waker = undefined;
  }

  close(): void {
    this.stop().catch(() => {});
    this.calls.close(this.listener);
  }
}
