/**
 * All that is offered to this process over one channel: what its program has not seen yet, and what waits for it.
 *
 * @module
 */
import type { IncomingHandoff } from "./incoming_handoff.ts";

/** Why an offer is rejected that came when the program had left its loop. */
const LEFT = "this process takes no more sockets";

/** Gives offers to the calls that wait for them. Nothing is taken before a call waits for it. */
export class Inbox {
  readonly #manual: boolean;
  /** Offered and not answered. */
  readonly #unanswered = new Map<number, IncomingHandoff>();
  /** Open, and not given to the program. */
  #untaken: IncomingHandoff[] = [];
  readonly #calls: ((incoming: IncomingHandoff | undefined) => void)[] = [];
  #left = false;
  #ended = false;
  #serving = false;

  /** @param manual Whether the program decides on each offer itself. */
  constructor(manual: boolean) {
    this.#manual = manual;
  }

  /** How many offers have no answer. */
  get unanswered(): number {
    return this.#unanswered.size;
  }

  /** Whether the program takes no more. */
  get left(): boolean {
    return this.#left;
  }

  /** An offer has come. Its duplicate is not open yet. */
  add(incoming: IncomingHandoff): void {
    this.#unanswered.set(incoming.sequence, incoming);
  }

  find(sequence: number): IncomingHandoff | undefined {
    return this.#unanswered.get(sequence);
  }

  answered(sequence: number): void {
    this.#unanswered.delete(sequence);
    if (this.#ended) this.#serve();
  }

  /** The duplicate of an offer is open. */
  opened(incoming: IncomingHandoff): void {
    if (this.#left) return incoming.reject(LEFT);
    this.#untaken.push(incoming);
    this.#serve();
  }

  /** The source has withdrawn an offer. */
  withdraw(incoming: IncomingHandoff): void {
    const index = this.#untaken.indexOf(incoming);
    if (index !== -1) this.#untaken.splice(index, 1);
    incoming.withdraw();
  }

  /** The next offer; `undefined` when no more will come. */
  next(): Promise<IncomingHandoff | undefined> {
    return new Promise((resolve) => {
      this.#calls.push(resolve);
      this.#serve();
    });
  }

  /** The program takes no more: what it has not seen is rejected. What it has seen it can still decide on. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    const untaken = this.#untaken;
    this.#untaken = [];
    for (const incoming of untaken) incoming.reject(LEFT);
    this.#serve();
  }

  /** The channel is broken, and with it every decision: nothing that came can be taken any more. */
  fail(): void {
    this.leave();
    for (const incoming of [...this.#unanswered.values()]) incoming.abandon();
  }

  /** No more offers will come; those that came can still be taken. */
  end(): void {
    this.#ended = true;
    this.#serve();
  }

  /** Takes each offer in the same step in which it resolves the call that gets it: no abort comes between. */
  #serve(): void {
    if (this.#serving) return;
    this.#serving = true;
    while (this.#calls.length > 0) {
      const incoming = this.#untaken.shift();
      if (incoming === undefined) break;
      if (this.#manual ? !incoming.closed : incoming.take()) this.#calls.shift()!(incoming);
    }
    this.#serving = false;
    if (this.#left || this.#ended && !this.#opening) { for (const call of this.#calls.splice(0)) call(undefined); }
  }

  /** Whether a duplicate is being opened: its offer may still come to the program. */
  get #opening(): boolean {
    return this.#unanswered.values().some(({ opening }) => opening);
  }
}
