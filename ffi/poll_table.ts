/**
 * The `struct pollfd`s of all who wait.
 *
 * @module
 */
import type { PollSystem } from "./poller.ts";
import type { Waiting } from "./waiting.ts";
import type { WinsockError } from "./winsock_error.ts";

/** A socket that is waited for, and where it is in the table. */
interface Watched {
  readonly s: bigint;
  read: Waiting | undefined;
  write: Waiting | undefined;
  index: number;
  /** It came back with nothing anybody waits for, and would come back with it at once. */
  aside: boolean;
}

/** What a thread is to look at. */
export interface ThreadView {
  readonly fds: Uint8Array<ArrayBuffer>;
  readonly count: number;
  /** Whether that is all there is. */
  readonly complete: boolean;
}

/** One entry a socket, kept from one look to the next: most of many do not change. */
export class PollTable {
  readonly #system: PollSystem;
  readonly #watched = new Map<bigint, Watched>();
  /** What has changed since the table was looked at. */
  readonly #changed = new Set<Watched>();
  readonly #entries: Watched[] = [];
  #fds: Uint8Array<ArrayBuffer>;
  #view: DataView;

  constructor(system: PollSystem) {
    this.#system = system;
    this.#fds = new Uint8Array(8 * system.size);
    this.#view = new DataView(this.#fds.buffer);
  }

  /** Whether nobody waits. */
  get empty(): boolean {
    return this.#watched.size === 0;
  }

  /** Whether anybody waits who keeps the process running. */
  get referenced(): boolean {
    return this.#watched.values().some(({ read, write }) => read?.referenced === true || write?.referenced === true);
  }

  add(waiting: Waiting): void {
    let watched = this.#watched.get(waiting.s);
    if (watched === undefined) {
      watched = { s: waiting.s, read: undefined, write: undefined, index: -1, aside: false };
      this.#watched.set(waiting.s, watched);
    }
    watched[waiting.readiness] = waiting;
    this.#changed.add(watched);
  }

  /** Returns whether it was there. */
  delete(waiting: Waiting): boolean {
    const watched = this.#watched.get(waiting.s);
    if (watched?.[waiting.readiness] !== waiting) return false;
    watched[waiting.readiness] = undefined;
    if (watched.read === undefined && watched.write === undefined) this.#watched.delete(watched.s);
    this.#changed.add(watched);
    return true;
  }

  /**
   * Asks who is ready and ends their waiting.
   *
   * @returns Whether there was anybody.
   * @throws {WinsockError} If it cannot be asked.
   */
  look(): boolean {
    this.#apply();
    const count = this.#entries.length;
    if (count === 0 || this.#system.pollNow(this.#fds, count) === 0) return false;
    let found = false;
    for (const watched of this.#entries) {
      const revents = this.#system.revents(this.#view, watched.index * this.#system.size);
      const ended = this.#end(watched.read, revents & this.#system.readable) +
        this.#end(watched.write, revents & this.#system.writable);
      watched.aside = revents !== 0 && ended === 0;
      found ||= ended > 0;
    }
    return found;
  }

  /** What a thread can wait for, and what wakes it at the end. */
  forThread(waker: bigint): ThreadView {
    this.#apply();
    const { size } = this.#system;
    const entries = this.#entries.filter(({ aside }) => !aside);
    const complete = entries.length === this.#entries.length;
    const fds = complete ? this.#fds : new Uint8Array((entries.length + 1) * size);
    const view = new DataView(fds.buffer);
    if (!complete) entries.forEach((watched, index) => this.#encode(view, index, watched));
    this.#system.encode(view, entries.length * size, waker, true, false);
    return { fds, count: entries.length + 1, complete };
  }

  /** Nobody can go on waiting. */
  fail(error: WinsockError): void {
    for (const { read, write } of this.#watched.values()) {
      for (const waiting of [read, write]) {
        if (waiting !== undefined && this.delete(waiting)) waiting.fail(error);
      }
    }
  }

  #end(waiting: Waiting | undefined, revents: number): 0 | 1 {
    if (waiting === undefined || revents === 0) return 0;
    this.delete(waiting);
    waiting.end();
    return 1;
  }

  #apply(): void {
    for (const watched of this.#changed) {
      if (this.#watched.get(watched.s) !== watched) this.#remove(watched);
      else this.#write(watched);
    }
    this.#changed.clear();
  }

  #write(watched: Watched): void {
    if (watched.index === -1) watched.index = this.#entries.push(watched) - 1;
    // One more, for the waker.
    if ((this.#entries.length + 1) * this.#system.size > this.#fds.byteLength) this.#grow();
    this.#encode(this.#view, watched.index, watched);
  }

  #remove(watched: Watched): void {
    if (watched.index === -1) return;
    const last = this.#entries.pop()!;
    if (last !== watched) {
      last.index = watched.index;
      this.#entries[last.index] = last;
      this.#encode(this.#view, last.index, last);
    }
    watched.index = -1;
  }

  #encode(view: DataView, index: number, { s, read, write }: Watched): void {
    this.#system.encode(view, index * this.#system.size, s, read !== undefined, write !== undefined);
  }

  #grow(): void {
    const fds = new Uint8Array(this.#fds.byteLength * 2);
    fds.set(this.#fds);
    this.#fds = fds;
    this.#view = new DataView(fds.buffer);
  }
}
