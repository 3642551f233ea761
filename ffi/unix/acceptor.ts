/**
 * Accepting on Linux: a non-blocking `accept4` on the JavaScript thread, and `poll` on a pool thread when nobody waits.
 *
 * @module
 */
import { nodeBuiltin } from "../node_builtins.ts";
import type { Acceptor, SocketCalls } from "../socket_calls.ts";
import { lastUnixError, unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { poll, POLLIN, Waker } from "./poll.ts";
import { SOCK_CLOEXEC, SOCK_NONBLOCK } from "./socket_flags.ts";

const MOST_IN_TURN = 16;
const F_GETFL = 3;
const F_SETFL = 4;
const EINTR = 4;
const EAGAIN = 11;
const ECONNABORTED = 103;

/** Polls on a pool thread. */
export class PollAcceptor implements Acceptor {
  #waker: Waker | undefined;
  #stopped = false;
  /** Connections accepted since the event loop had its last turn. */
  #inTurn = 0;
  #idle: Promise<unknown> = Promise.resolve();

  /** A listener somebody else made may block; here it must not, whoever shares it. */
  constructor(readonly calls: SocketCalls, readonly listener: bigint) {
    const flags = libc().fcntl(listener, F_GETFL, 0);
    const set = flags === -1 ? -1 : libc().fcntl(listener, F_SETFL, flags | SOCK_NONBLOCK);
    if (set === -1) throw lastUnixError(`accept connections on socket ${listener}`, "fcntl");
  }

  async accept(): Promise<bigint | undefined> {
    // Whoever takes connections is to get a turn at using them.
    if (this.#inTurn === MOST_IN_TURN) await this.#turn();
    while (!this.#stopped) {
      const s = libc().accept4(this.listener, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (s !== -1) {
        this.#inTurn++;
        return BigInt(s);
      }
      const code = errno();
      if (code !== EAGAIN && code !== EINTR && code !== ECONNABORTED) {
        throw unixError(code, `accept a connection on socket ${this.listener}`, "accept4");
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
    return new Promise((resolve) => nodeBuiltin("node:timers").setImmediate(resolve));
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
