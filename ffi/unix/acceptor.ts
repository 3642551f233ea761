/**
 * Accepts connections on Unix: a non-blocking `accept` on the JavaScript thread, and the poller while no connection is
 * waiting.
 *
 * @module
 */
import type { Poller, PollWaiter } from "../poller.ts";
import type { Acceptor } from "../platform.ts";
import { YieldBudget } from "../../internal/runtime.ts";
import { acceptNow, setNonblocking } from "./descriptors.ts";
import { POLLIN, PollProbe } from "./io.ts";

const MAX_IN_TURN = 16;

/** Accepts connections only on request. All others stay in the backlog, for other processes that share the listener. */
export class UnixAcceptor implements Acceptor {
  readonly #turns = new YieldBudget(MAX_IN_TURN);
  readonly #look: PollProbe;
  #stopping: Promise<void> | undefined;
  /** Whether the poller has just reported a waiting connection. */
  #woken = false;
  #waiting: PollWaiter | undefined;
  #referenced = true;

  /**
   * Makes the listener non-blocking. It may come from another process, or be shared with one, and must not block this
   * thread.
   */
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
      // Yield, so that the caller can use the connections it has accepted.
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
      // Yielding costs less than waiting through the poller, and after several connections the next one is likely to
      // arrive soon.
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

  /** Returns whether an `accept` may succeed. An `accept` that fails costs ten times as much as this check. */
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
