/**
 * Accepting on Unix: a non-blocking `accept` on the JavaScript thread, and the poller when no connection is there.
 *
 * @module
 */
import type { Poller, PollWaiter } from "../poller.ts";
import type { Acceptor } from "../platform.ts";
import { YieldBudget } from "../../internal/runtime.ts";
import { acceptNow, setNonblocking } from "./descriptors.ts";
import { POLLIN, PollProbe } from "./io.ts";

const MAX_IN_TURN = 16;

/** Nothing is accepted ahead: what is not asked for stays in the backlog, for what else has the socket. */
export class UnixAcceptor implements Acceptor {
  readonly #turns = new YieldBudget(MAX_IN_TURN);
  readonly #look: PollProbe;
  #stopping: Promise<void> | undefined;
  /** Whether the poller has just said that a connection is there. */
  #woken = false;
  #waiting: PollWaiter | undefined;
  #referenced = true;

  /** A listener somebody else made may block; here it must not, whoever shares it. */
  constructor(readonly listener: bigint, readonly poller: Poller) {
    this.#look = new PollProbe(listener, POLLIN);
    setNonblocking(listener, `accept connections on socket ${listener}`);
  }

  async accept(): Promise<bigint | undefined> {
    let accepted: bigint | undefined;
    await this.acceptWhile(() => accepted === undefined, (s) => void (accepted = s));
    return accepted;
  }

  async acceptWhile(wanted: () => boolean, accepted: (s: bigint) => void): Promise<boolean> {
    while (this.#stopping === undefined && wanted()) {
      // What takes connections is to get a turn at using them.
      if (this.#turns.exhausted) {
        await this.#turns.yield();
        continue;
      }
      const s = this.#mayAccept() ? acceptNow(this.listener) : undefined;
      if (s !== undefined) {
        this.#turns.spend();
        accepted(s);
        continue;
      }
      // A turn of the event loop costs less than waiting, and where several came the next is not far.
      await (this.#turns.spent > 1 ? this.#turns.yield() : this.#wait());
    }
    return this.#stopping === undefined;
  }

  stop(): Promise<void> {
    return this.#stopping ??= this.#stop();
  }

  async #stop(): Promise<void> {
    this.poller.release(this.listener);
    if (this.#waiting !== undefined) await this.poller.cancel(this.#waiting);
  }

  end(): undefined {
    this.stop().catch(() => {});
  }

  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    if (this.#waiting !== undefined) this.poller.reference(this.#waiting, referenced);
  }

  /** To accept in vain costs ten times as much as to look. */
  #mayAccept(): boolean {
    const woken = this.#woken;
    this.#woken = false;
    return woken || this.#look.ready();
  }

  async #wait(): Promise<void> {
    this.#turns.reset();
    const options = { referenced: this.#referenced, outlives: true, repeated: true };
    this.#waiting = this.poller.wait(this.listener, "read", options);
    try {
      await this.#waiting.over;
      this.#woken = true;
    } finally {
      this.#waiting = undefined;
    }
  }
}
