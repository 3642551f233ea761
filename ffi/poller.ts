/**
 * Waiting for any number of sockets: in the event loop, or on one pool thread where the event loop cannot watch them.
 *
 * @module
 */
import { WSA_ERRORS } from "../structs/constants.ts";
import { nextTurn } from "../internal/runtime.ts";
import { WinsockError } from "./winsock_error.ts";

/** What a socket is waited for. */
export type Readiness = "read" | "write";

/** How a socket is waited for. */
interface WaitOptions {
  /**
   * Whether this keeps the process running, which it does by default; without, it takes some milliseconds longer where a
   * pool thread waits.
   */
  readonly referenced?: boolean;
  /**
   * Asked in the turn in which the socket was found ready, and from then on whenever something more comes: whether that
   * was it. What it throws ends the wait. By default the first time is.
   *
   * @param ended Whether the peer has ended its side, so that nothing more comes.
   */
  readonly done?: (ended: boolean) => boolean;
  /** Whether it is left to who waits to end the wait when the socket is given up. Default false. */
  readonly outlives?: boolean;
  /**
   * Whether this socket is soon to be waited for again: the system may go on watching it in between, which saves two calls.
   * That ends with {@linkcode Poller.release}, or {@linkcode Poller.cancel}. Default false.
   */
  readonly repeated?: boolean;
  /** What the wait is for, for the error if the socket is closed or given up meanwhile. */
  readonly operation?: string;
}

/** Waits until a socket can be read, or written; or has failed, which reading or writing tells. */
export class PollWaiter {
  readonly s: bigint;
  readonly readiness: Readiness;
  readonly operation: string;
  readonly outlives: boolean;
  /** Whether this keeps the process running; the poller's to change. */
  referenced: boolean;
  /** Resolves when the wait is over; rejects if it cannot go on. */
  readonly over: Promise<void>;
  readonly #over = Promise.withResolvers<void>();
  readonly #done: ((ended: boolean) => boolean) | undefined;

  constructor(s: bigint, readiness: Readiness, options: WaitOptions = {}) {
    this.s = s;
    this.readiness = readiness;
    this.operation = options.operation ?? `wait for socket ${s}`;
    this.outlives = options.outlives ?? false;
    this.referenced = options.referenced ?? true;
    this.over = this.#over.promise;
    this.#done = options.done;
  }

  /** Whether what has come is what was waited for. */
  isDone(ended: boolean): boolean {
    return this.#done === undefined || this.#done(ended);
  }

  /** Ends the wait. */
  end(): void {
    this.#over.resolve();
  }

  /** Ends the wait, which cannot go on. */
  fail(error: unknown): void {
    // Who waits may have been told in another way already.
    this.over.catch(() => {});
    this.#over.reject(error);
  }
}

/** What a socket is found to be, bits. */
export const READ = 1;
export const WRITE = 2;
/** The peer has ended its side. */
export const ENDED = 4;

/** A socket that is waited for, and by whom. */
export class Watched {
  readonly waits: Set<PollWaiter> = new Set<PollWaiter>();
  /** Where its set keeps it; -1 where it does not. */
  place = -1;
  /** Whether its set may go on watching it while nothing waits for it. */
  kept = false;

  constructor(readonly s: bigint) {}

  /** What it is waited for, bits. */
  get wanted(): number {
    let wanted = 0;
    for (const { readiness } of this.waits) wanted |= readiness === "read" ? READ : WRITE;
    return wanted;
  }
}

/**
 * Tells what a socket was found to be.
 *
 * @returns Whether that ended anybody's wait.
 */
export type Report = (watched: Watched, events: number) => boolean;

/** The sockets that are waited for, as a system looks at them. */
export interface WatchSet {
  /**
   * Whether a thread that waits sees changes at once. Otherwise it sees them when it was woken, and has what was removed
   * until then.
   */
  readonly live: boolean;
  /**
   * Makes what waiting needs, unless that was done before.
   *
   * @throws {WinsockError} Such as WSAEMFILE.
   */
  prepare(): void;
  /**
   * Somebody more waits for a socket.
   *
   * @throws {WinsockError} If it cannot be watched.
   */
  added(watched: Watched): void;
  /** A wait has ended, or a socket that nothing waits for is not to be kept any more. */
  removed(watched: Watched): void;
  /**
   * Asks on this thread.
   *
   * @param all Whether to ask for those, too, that were asked for before.
   * @throws {WinsockError} If it cannot be asked.
   */
  look(all: boolean, report: Report): void;
  /**
   * Has the event loop wait in place of a thread.
   *
   * @param found Called once in place of any before: when looking finds something, or the event loop cannot tell any more.
   * @returns Whether the event loop waits. Once it does not, it never will.
   */
  attend?(found: () => void): boolean;
  /** Whether the process is kept running while the event loop waits. */
  reference?(referenced: boolean): void;
  /** Asks on a pool thread, which waits until a socket is ready, it is woken, or so many milliseconds have passed. */
  wait(milliseconds: number, report: Report): Promise<void>;
  /** Ends a pending {@linkcode WatchSet.wait}. */
  wake(): void;
}

/** A thread ends by itself this often: what was to wake it may be lost, or its Worker be gone. */
const SLICE_MS = 1_000;
/** How often those are asked for whom no thread may wait: one that waits keeps the process running. */
const ASK_AGAIN_MS = 10;

/** Waits for all sockets of the process at once. */
export class Poller {
  readonly #set: WatchSet;
  readonly #watched = new Map<bigint, Watched>();
  /** How many of the waits keep the process running. */
  #referenced = 0;
  #waits = 0;
  /** Pending while a pool thread looks at the sockets. */
  #polling: Promise<void> | undefined;
  #woken = false;
  #running = false;
  /** Whether anybody's wait has ended since the thread was asked. */
  #found = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(set: WatchSet) {
    this.#set = set;
  }

  /**
   * Makes what waiting needs, so that it does not fail for want of it.
   *
   * @throws {WinsockError} Such as WSAEMFILE.
   */
  prepare(): this {
    this.#set.prepare();
    return this;
  }

  /** Begins to wait; {@linkcode Poller.prepare} came before. Any number may wait for one socket. */
  wait(s: bigint, readiness: Readiness, options?: WaitOptions): PollWaiter {
    const waiting = new PollWaiter(s, readiness, options);
    let watched = this.#watched.get(s);
    if (watched === undefined) this.#watched.set(s, watched = new Watched(s));
    const known = watched.place !== -1;
    watched.kept = options?.repeated ?? false;
    watched.waits.add(waiting);
    this.#waits++;
    if (waiting.referenced) this.#reference(1);
    try {
      this.#set.added(watched);
    } catch (error) {
      this.#remove(waiting);
      if (known) {
        // What waits already waits for a socket that was closed behind the library's back; the number is another's now.
        this.#drop(watched, true);
        return this.wait(s, readiness, options);
      }
      watched.kept = false;
      this.#forget(watched);
      waiting.fail(error);
      return waiting;
    }
    if (this.#polling === undefined) this.#start();
    else if (!this.#set.live) this.#wake();
    return waiting;
  }

  /** Ends a wait once no thread looks at the socket for it any more. */
  async cancel(waiting: PollWaiter): Promise<void> {
    const watched = this.#watched.get(waiting.s);
    if (watched?.waits.has(waiting) === true) watched.kept = false;
    if (this.#take(waiting) && !this.#set.live) await this.#polling;
    waiting.end();
  }

  /** Ends a wait at once, though a thread may look at the socket a moment longer. */
  abandon(waiting: PollWaiter, reason: unknown): void {
    if (this.#take(waiting)) waiting.fail(reason);
  }

  /** Ends the waits for a socket at once: it is about to be closed, or another's. Nothing watches it after its last wait. */
  release(s: bigint): void {
    const watched = this.#watched.get(s);
    if (watched !== undefined) this.#drop(watched, false);
  }

  /** @param all Whether to end those waits, too, that are left to what waits. */
  #drop(watched: Watched, all: boolean): void {
    watched.kept = false;
    for (const waiting of watched.waits) {
      const { operation, outlives } = waiting;
      if (outlives && !all) continue;
      const detail = "it was closed or given up meanwhile";
      this.abandon(waiting, new WinsockError(WSA_ERRORS.WSAENOTSOCK, { operation, functionName: "poll", detail }));
    }
    this.#forget(watched);
  }

  /** Leaves a socket alone that nothing waits for, unless it is kept. */
  #forget(watched: Watched): void {
    if (watched.waits.size > 0 || watched.kept) return;
    this.#watched.delete(watched.s);
    this.#set.removed(watched);
  }

  /** Whether a wait keeps the process running from now on. */
  reference(waiting: PollWaiter, referenced: boolean): void {
    if (waiting.referenced === referenced) return;
    waiting.referenced = referenced;
    if (this.#watched.get(waiting.s)?.waits.has(waiting) !== true) return;
    this.#reference(referenced ? 1 : -1);
    if (referenced) this.#start();
    else if (this.#referenced === 0) this.#wake();
  }

  /** Removes a wait, and has a thread see that. Returns whether it was there. */
  #take(waiting: PollWaiter): boolean {
    if (!this.#remove(waiting)) return false;
    if (!this.#set.live || this.#referenced === 0) this.#wake();
    return true;
  }

  #remove(waiting: PollWaiter): boolean {
    const watched = this.#watched.get(waiting.s);
    if (watched?.waits.delete(waiting) !== true) return false;
    this.#waits--;
    if (waiting.referenced) this.#reference(-1);
    if (watched.waits.size === 0 && !watched.kept) this.#watched.delete(watched.s);
    this.#set.removed(watched);
    return true;
  }

  #reference(change: 1 | -1): void {
    this.#referenced += change;
    if (this.#referenced === Math.max(change, 0)) this.#set.reference?.(this.#referenced > 0);
  }

  #start(): void {
    if (this.#running || this.#set.attend?.(this.#hear) === true) return;
    this.#running = true;
    this.#run();
  }

  /** The event loop has found something, or cannot any more. */
  readonly #hear = (): void => {
    try {
      this.#look();
    } catch (error) {
      this.#abandonAll(error);
    }
    if (this.#waits > 0) this.#start();
  };

  async #run(): Promise<void> {
    do {
      try {
        this.#look();
        if (!this.#found && this.#referenced > 0) await this.#wait();
      } catch (error) {
        this.#abandonAll(error);
      }
      // What was called back asks for more in this turn, and does not have to wake the thread for it.
      await nextTurn();
    } while (this.#referenced > 0);
    this.#running = false;
    if (this.#waits > 0) this.#lookLater();
  }

  #abandonAll(reason: unknown): void {
    for (const { waits } of this.#watched.values()) {
      for (const waiting of waits) this.abandon(waiting, reason);
    }
  }

  #lookLater(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#start();
    }, ASK_AGAIN_MS);
    Deno.unrefTimer(this.#timer);
  }

  /** While many have something to say, asking for all costs less than a thread; what a thread has looked at it knows. */
  #look(): void {
    const all = this.#found || this.#referenced === 0;
    this.#found = false;
    this.#set.look(all, this.#report);
  }

  async #wait(): Promise<void> {
    this.#woken = false;
    this.#polling = this.#set.wait(SLICE_MS, this.#report);
    try {
      await this.#polling;
    } finally {
      this.#polling = undefined;
    }
  }

  readonly #report = (watched: Watched, events: number): boolean => {
    let any = false;
    // Those that are added meanwhile are not looked at: they begin with a look of their own.
    let { size } = watched.waits;
    for (const waiting of watched.waits) {
      if (size-- === 0) break;
      if ((events & (waiting.readiness === "read" ? READ : WRITE)) === 0) continue;
      any = this.#ask(waiting, (events & ENDED) !== 0) || any;
    }
    this.#found ||= any;
    return any;
  };

  /** Returns whether that ended the wait. */
  #ask(waiting: PollWaiter, ended: boolean): boolean {
    try {
      if (!waiting.isDone(ended)) return false;
      if (this.#remove(waiting)) waiting.end();
    } catch (error) {
      if (this.#remove(waiting)) waiting.fail(error);
    }
    return true;
  }

  #wake(): void {
    if (this.#polling === undefined || this.#woken) return;
    this.#woken = true;
    this.#set.wake();
  }
}
