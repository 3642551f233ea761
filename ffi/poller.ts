/**
 * Waits for any number of sockets: in the event loop, or on one pool thread if the event loop cannot watch them.
 *
 * @module
 */
import { WSA_ERRORS } from "../structs/constants.ts";
import { nextTurn } from "../internal/runtime.ts";
import { WinsockError } from "./winsock_error.ts";

/** The direction in which a socket must become ready. */
export type Readiness = "read" | "write";

/** The options of a wait. */
interface WaitOptions {
  /**
   * Whether the wait keeps the process running. Defaults to `true`. With `false`, the wait takes some milliseconds
   * longer on systems where a pool thread waits.
   */
  readonly referenced?: boolean;
  /**
   * Called in the turn in which the socket was found ready, and then whenever more arrives. Returns whether the wait is
   * over. If it throws, the wait ends with that error. By default the wait ends the first time the socket is ready.
   *
   * @param ended Whether the peer has ended its side, so that no more data will arrive.
   */
  readonly done?: (ended: boolean) => boolean;
  /** Whether the wait continues after the socket was released; the caller then ends it. Defaults to `false`. */
  readonly outlives?: boolean;
  /**
   * Whether the caller will soon wait for this socket again. The system may continue to watch the socket in between,
   * which saves two calls. {@linkcode Poller.release} or {@linkcode Poller.cancel} ends that. Defaults to `false`.
   */
  readonly repeated?: boolean;
  /** The operation in the error message, for a socket that is closed or released meanwhile. */
  readonly operation?: string;
}

/** A wait until a socket can be read or written, or has failed. The read or write then reports the error. */
export class PollWaiter {
  readonly s: bigint;
  readonly readiness: Readiness;
  readonly operation: string;
  readonly outlives: boolean;
  /** Whether the wait keeps the process running. Changed only by the poller. */
  referenced: boolean;
  /** Resolves when the wait is over; rejects if it failed. */
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

  /** Returns whether the condition of the wait is met. */
  isDone(ended: boolean): boolean {
    return this.#done === undefined || this.#done(ended);
  }

  /** Ends the wait. */
  end(): void {
    this.#over.resolve();
  }

  /** Ends the wait with an error. */
  fail(error: unknown): void {
    // The caller may already have been informed in another way.
    this.over.catch(() => {});
    this.#over.reject(error);
  }
}

/** The events found on a socket, as bits. */
export const READ = 1;
export const WRITE = 2;
/** The peer has ended its side. */
export const ENDED = 4;

/** A socket and the waits for it. */
export class Watched {
  readonly waits: Set<PollWaiter> = new Set<PollWaiter>();
  /** Its position in the set; -1 if it is not in the set. */
  place = -1;
  /** Whether the set may continue to watch it while there is no wait for it. */
  kept = false;

  constructor(readonly s: bigint) {}

  /** The events that its waits ask for, as bits. */
  get wanted(): number {
    let wanted = 0;
    for (const { readiness } of this.waits) wanted |= readiness === "read" ? READ : WRITE;
    return wanted;
  }
}

/**
 * Reports the events found on a socket.
 *
 * @returns Whether that ended a wait.
 */
export type Report = (watched: Watched, events: number) => boolean;

/** The set of sockets that a system watches. */
export interface WatchSet {
  /**
   * Whether a waiting thread sees changes at once. Otherwise it sees them after it was woken, and holds removed sockets
   * until then.
   */
  readonly live: boolean;
  /**
   * Opens the resources for waiting, unless they are already open.
   *
   * @throws {WinsockError} If the system refuses, such as WSAEMFILE.
   */
  prepare(): void;
  /**
   * Adds a wait for a socket.
   *
   * @throws {WinsockError} If the socket cannot be watched.
   */
  added(watched: Watched): void;
  /** Called after a wait has ended, or when a socket without waits must not be watched any longer. */
  removed(watched: Watched): void;
  /**
   * Polls on this thread without waiting.
   *
   * @param all Whether to also poll the sockets that were polled before.
   * @throws {WinsockError} If polling fails.
   */
  look(all: boolean, report: Report): void;
  /**
   * Lets the event loop wait instead of a thread.
   *
   * @param found The callback, which replaces an earlier one. Called once, when an event is found or the event loop can
   * no longer wait.
   * @returns Whether the event loop waits. After `false`, it never will again.
   */
  attend?(found: () => void): boolean;
  /** Sets whether the process keeps running while the event loop waits. */
  reference?(referenced: boolean): void;
  /** Waits on a pool thread until a socket is ready, {@linkcode WatchSet.wake} is called, or the time has passed. */
  wait(milliseconds: number, report: Report): Promise<void>;
  /** Ends a pending {@linkcode WatchSet.wait}. */
  wake(): void;
}

/** The longest time that a thread waits. The call that should wake it may be lost, or its Worker terminated. */
const SLICE_MS = 1_000;
/** The polling interval for waits that must not use a thread, because a waiting thread keeps the process running. */
const ASK_AGAIN_MS = 10;

/** Waits for all sockets of the process. */
export class Poller {
  readonly #set: WatchSet;
  readonly #watched = new Map<bigint, Watched>();
  /** The number of waits that keep the process running. */
  #referenced = 0;
  #waits = 0;
  /** Pending while a pool thread polls the sockets. */
  #polling: Promise<void> | undefined;
  #woken = false;
  #running = false;
  /** Whether a wait has ended since the thread started to poll. */
  #found = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(set: WatchSet) {
    this.#set = set;
  }

  /**
   * Opens the resources for waiting, so that waiting does not fail later for lack of them.
   *
   * @throws {WinsockError} If the system refuses, such as WSAEMFILE.
   */
  prepare(): this {
    this.#set.prepare();
    return this;
  }

  /** Starts a wait. The caller must have called {@linkcode Poller.prepare}. One socket may have any number of waits. */
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
        // The existing waits are for a socket that was closed without the library; the number now belongs to another
        // socket.
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

  /** Ends a wait, and resolves once no thread polls the socket for it. */
  async cancel(waiting: PollWaiter): Promise<void> {
    const watched = this.#watched.get(waiting.s);
    if (watched?.waits.has(waiting) === true) watched.kept = false;
    if (this.#take(waiting) && !this.#set.live) await this.#polling;
    waiting.end();
  }

  /** Ends a wait at once, although a thread may poll the socket for a moment longer. */
  abandon(waiting: PollWaiter, reason: unknown): void {
    if (this.#take(waiting)) waiting.fail(reason);
  }

  /**
   * Ends all waits for a socket at once, because it is about to be closed or released. The socket is not watched after
   * its last wait.
   */
  release(s: bigint): void {
    const watched = this.#watched.get(s);
    if (watched !== undefined) this.#drop(watched, false);
  }

  /** @param all Whether to also end the waits whose end is left to the caller. */
  #drop(watched: Watched, all: boolean): void {
    watched.kept = false;
    for (const waiting of watched.waits) {
      const { operation, outlives } = waiting;
      if (outlives && !all) continue;
      const detail = "it was closed or released meanwhile";
      this.abandon(waiting, new WinsockError(WSA_ERRORS.WSAENOTSOCK, { operation, functionName: "poll", detail }));
    }
    this.#forget(watched);
  }

  /** Stops watching a socket that has no waits, unless it is kept. */
  #forget(watched: Watched): void {
    if (watched.waits.size > 0 || watched.kept) return;
    this.#watched.delete(watched.s);
    this.#set.removed(watched);
  }

  /** Sets whether a wait keeps the process running. */
  reference(waiting: PollWaiter, referenced: boolean): void {
    if (waiting.referenced === referenced) return;
    waiting.referenced = referenced;
    if (this.#watched.get(waiting.s)?.waits.has(waiting) !== true) return;
    this.#reference(referenced ? 1 : -1);
    if (referenced) this.#start();
    else if (this.#referenced === 0) this.#wake();
  }

  /** Removes a wait, and wakes a thread to see that. Returns whether the wait existed. */
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

  /** Called when the event loop has found an event, or can no longer wait. */
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
      // Code that resumes in this turn may add more waits, and then does not have to wake the thread.
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

  /**
   * Polls the sockets again after an event. While many sockets are ready, polling all of them costs less than a thread.
   * Sockets that a thread has just polled are skipped.
   */
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
    // Waits that are added meanwhile are skipped: each begins with its own poll.
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
