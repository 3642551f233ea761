/**
 * A table of `struct pollfd` for all waits, for systems where the kernel does not keep such a list.
 *
 * @module
 */
import { ENDED, READ, type Report, type Watched, type WatchSet, WRITE } from "./poller.ts";

/** The `poll` call of a system. */
export interface PollSystem {
  /** The size of `struct pollfd` in bytes. */
  readonly size: number;
  /** The events that mean: reading will not block, or will report an error. */
  readonly readable: number;
  /** The events that mean: writing will not block, or will report an error. */
  readonly writable: number;
  /** The events that mean: the peer has ended its side. */
  readonly ended: number;
  /** Writes a `struct pollfd` at `offset`, without returned events. */
  encode(view: DataView, offset: number, s: bigint, read: boolean, write: boolean): void;
  /** Returns the events that `poll` returned at `offset`. */
  revents(view: DataView, offset: number): number;
  /**
   * Waits on a pool thread until an entry is ready or `timeout` milliseconds have passed. Returns the number of ready
   * entries, or -1.
   */
  poll(fds: Uint8Array<ArrayBuffer>, count: number, timeout: number): Promise<number>;
  /**
   * Polls on this thread without waiting. Returns the number of ready entries.
   *
   * @throws {WinsockError} If `poll` fails.
   */
  pollSync(fds: Uint8Array<ArrayBuffer>, count: number): number;
  /** Makes a waker for a pending {@linkcode PollSystem.poll}. */
  waker(): PollWaker;
}

/** A descriptor that can be polled and becomes readable on request. */
export interface PollWaker {
  readonly handle: bigint;
  wake(): void;
  /** Makes it wait again, after it was found ready. */
  rest(): void;
}

/**
 * How long a socket is suspended after `poll` reported only events that no wait asked for, because `poll` would report
 * them again at once. The first value is the initial pause, the second the longest.
 */
const FIRST_PAUSE_MS = 10;
const MAX_PAUSE_MS = 3_000;

/** A pause, in which a socket is suspended. */
interface Pause {
  /** The time at which it ends; `Infinity` after that. */
  due: number;
  length: number;
}

/** One entry for each socket, kept between calls, because most entries do not change. */
export class PollTable implements WatchSet {
  readonly live: boolean = false;
  readonly #system: PollSystem;
  /** The sockets that have changed since the thread started to poll. */
  readonly #changed = new Set<Watched>();
  readonly #entries: Watched[] = [];
  /** The sockets that are suspended, or were until recently. */
  readonly #pauses = new Map<Watched, Pause>();
  #fds: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #waker: PollWaker | undefined;

  constructor(system: PollSystem) {
    this.#system = system;
    this.#fds = new Uint8Array(8 * system.size);
    this.#view = new DataView(this.#fds.buffer);
  }

  prepare(): void {
    this.#waker ??= this.#system.waker();
  }

  added(watched: Watched): void {
    // A new wait may be for events that are already available.
    this.#pauses.delete(watched);
    this.#changed.add(watched);
  }

  removed(watched: Watched): void {
    if (watched.waits.size === 0) this.#pauses.delete(watched);
    this.#changed.add(watched);
  }

  look(all: boolean, report: Report): void {
    this.#endPauses();
    if (all) {
      this.#apply();
      this.#ask(this.#entries, this.#fds, this.#view, report);
      return;
    }
    // A thread has just polled the others.
    const asked = [...this.#changed].filter((watched) => watched.waits.size > 0 && !this.#isPaused(watched));
    if (asked.length === 0) return;
    const fds = new Uint8Array(asked.length * this.#system.size);
    const view = new DataView(fds.buffer);
    asked.forEach((watched, index) => this.#encode(view, index, watched));
    this.#ask(asked, fds, view, report);
  }

  async wait(milliseconds: number, report: Report): Promise<void> {
    this.#apply();
    const waker = this.#waker!;
    const entries = [...this.#entries];
    const { size } = this.#system;
    this.#system.encode(this.#view, entries.length * size, waker.handle, true, false);
    const ready = await this.#system.poll(this.#fds, entries.length + 1, this.#untilDue(milliseconds));
    // The error code stayed with the thread. Polling on this thread may report it; if not, do not repeat that without
    // end.
    if (ready === -1) {
      await new Promise((resolve) => setTimeout(resolve, FIRST_PAUSE_MS));
      return this.look(true, report);
    }
    if (ready === 0) return;
    if (this.#system.revents(this.#view, entries.length * size) !== 0) waker.rest();
    this.#report(entries, this.#view, report);
  }

  wake(): void {
    this.#waker!.wake();
  }

  #ask(asked: readonly Watched[], fds: Uint8Array<ArrayBuffer>, view: DataView, report: Report): void {
    if (asked.length > 0 && this.#system.pollSync(fds, asked.length) > 0) this.#report([...asked], view, report);
  }

  #report(asked: readonly Watched[], view: DataView, report: Report): void {
    const { size, readable, writable, ended } = this.#system;
    for (const [index, watched] of asked.entries()) {
      const revents = this.#system.revents(view, index * size);
      if (revents === 0 || watched.waits.size === 0) continue;
      const events = (revents & readable ? READ : 0) | (revents & writable ? WRITE : 0) | (revents & ended ? ENDED : 0);
      if (!report(watched, events)) this.#pause(watched);
    }
  }

  #pause(watched: Watched): void {
    const before = this.#pauses.get(watched)?.length ?? FIRST_PAUSE_MS / 2;
    const length = Math.min(before * 2, MAX_PAUSE_MS);
    this.#pauses.set(watched, { due: performance.now() + length, length });
    this.#changed.add(watched);
  }

  /** Ends the pauses that are due. Keeps the length of each pause, because the next one will be longer. */
  #endPauses(): void {
    const now = performance.now();
    for (const [watched, pause] of this.#pauses) {
      if (pause.due > now) continue;
      pause.due = Infinity;
      this.#changed.add(watched);
    }
  }

  /** Returns how long a thread may wait. */
  #untilDue(milliseconds: number): number {
    let first = Infinity;
    for (const { due } of this.#pauses.values()) first = Math.min(first, due);
    return Math.min(milliseconds, Math.max(FIRST_PAUSE_MS, Math.ceil(first - performance.now())));
  }

  #isPaused(watched: Watched): boolean {
    const due = this.#pauses.get(watched)?.due;
    return due !== undefined && due !== Infinity;
  }

  #apply(): void {
    for (const watched of this.#changed) {
      if (watched.waits.size === 0 || this.#isPaused(watched)) this.#remove(watched);
      else this.#write(watched);
    }
    this.#changed.clear();
  }

  #write(watched: Watched): void {
    if (watched.place === -1) watched.place = this.#entries.push(watched) - 1;
    // One more entry, for the waker.
    if ((this.#entries.length + 1) * this.#system.size > this.#fds.byteLength) this.#grow();
    this.#encode(this.#view, watched.place, watched);
  }

  #remove(watched: Watched): void {
    if (watched.place === -1) return;
    const last = this.#entries.pop()!;
    if (last !== watched) {
      last.place = watched.place;
      this.#entries[last.place] = last;
      this.#encode(this.#view, last.place, last);
    }
    watched.place = -1;
  }

  #encode(view: DataView, index: number, { s, wanted }: Watched): void {
    this.#system.encode(view, index * this.#system.size, s, (wanted & READ) !== 0, (wanted & WRITE) !== 0);
  }

  #grow(): void {
    const fds = new Uint8Array(this.#fds.byteLength * 2);
    fds.set(this.#fds);
    this.#fds = fds;
    this.#view = new DataView(fds.buffer);
  }
}
