/**
 * Which worker is to have a socket, and what waits until one has room.
 *
 * @module
 */
import { HandoffError } from "../errors.ts";
import type { FilledPoolOptions } from "./options.ts";
import { poolClosed, type WorkerSlot } from "./worker_slot.ts";

/** A socket that waits for a worker. */
interface QueuedSocket {
  /** Processes that have had their chance. */
  readonly tried: ReadonlySet<number>;
  readonly place: PromiseWithResolvers<WorkerSlot>;
  readonly lastError: unknown;
}

/** How one socket waits. */
interface PickOptions {
  /** Processes that have had their chance. */
  readonly tried: ReadonlySet<number>;
  /** What to say if there is nobody left. */
  readonly lastError: unknown;
  /** How many may wait, this one included. */
  readonly maxQueue: number;
  /** Ends the wait. */
  readonly signal: AbortSignal | undefined;
}

/** Sockets on the one side, places on the other. */
export class Scheduler {
  readonly #places: readonly WorkerSlot[];
  readonly #settings: FilledPoolOptions;
  /** Told when no worker has room, and when one has again. */
  readonly #onChange: (full: boolean) => void;
  readonly #waiting = new Set<QueuedSocket>();
  /** Those who wait until a worker has room. */
  readonly #forRoom = new Set<() => void>();
  #next = 0;
  #closed = false;
  /** Whether a worker has had room already. */
  #begun = false;
  #full = false;

  constructor(places: readonly WorkerSlot[], settings: FilledPoolOptions, onChange: (full: boolean) => void) {
    this.#places = places;
    this.#settings = settings;
    this.#onChange = onChange;
  }

  /** How many sockets wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** The worker that is to have a socket; waits until there is one with room. */
  async pick({ tried, lastError, maxQueue, signal }: PickOptions): Promise<WorkerSlot> {
    signal?.throwIfAborted();
    if (this.#closed) throw lastError ?? poolClosed();
    const waiting: QueuedSocket = { tried, lastError, place: Promise.withResolvers() };
    // Those that wait already come first, for any worker they have not tried.
    this.assign();
    if (this.#offerTo(waiting)) return await waiting.place.promise;
    this.#tellIfFull();
    if (this.#waiting.size >= maxQueue) {
      throw new HandoffError("overloaded", `${this.#waiting.size} sockets wait for a worker already`);
    }
    const { queueTimeout } = this.#settings;
    const giveUp = (reason: unknown) => {
      this.#waiting.delete(waiting);
      waiting.place.reject(reason);
    };
    const expire = () => giveUp(new HandoffError("timeout", `no worker had room in ${queueTimeout} ms`));
    const deadline = setTimeout(expire, queueTimeout);
    const abort = () => giveUp(signal?.reason);
    signal?.addEventListener("abort", abort);
    this.#waiting.add(waiting);
    try {
      return await waiting.place.promise;
    } finally {
      this.#waiting.delete(waiting);
      clearTimeout(deadline);
      signal?.removeEventListener("abort", abort);
    }
  }

  /**
   * Waits until a worker has room for a socket that nothing else waits for. Returns at once when the signal is aborted.
   *
   * @param reserved How many sockets are to have room before.
   */
  async room(signal: AbortSignal, reserved: () => number): Promise<void> {
    while (!signal.aborted && !this.#hasRoom(reserved())) {
      this.#tellIfFull();
      const changed = Promise.withResolvers<void>();
      this.#forRoom.add(changed.resolve);
      signal.addEventListener("abort", changed.resolve as () => void);
      await changed.promise;
      signal.removeEventListener("abort", changed.resolve as () => void);
      this.#forRoom.delete(changed.resolve);
    }
  }

  /** Gives waiting sockets to workers that have room. */
  assign(): void {
    for (const waiting of this.#waiting) {
      if (this.#offerTo(waiting)) this.#waiting.delete(waiting);
      else if (waiting.tried.size === 0) break;
    }
    if (!this.#hasRoom(0)) return;
    this.#begun = true;
    if (this.#full) {
      this.#full = false;
      this.#onChange(false);
    }
    for (const resolve of this.#forRoom) resolve();
  }

  /** Refuses what waits, and what is still to come. */
  close(): void {
    this.#closed = true;
    for (const { place } of this.#waiting) place.reject(poolClosed());
    this.#waiting.clear();
  }

  #hasRoom(reserved: number): boolean {
    if (this.#waiting.size > 0) return false;
    return reserved < this.#places.reduce((sum, { room }) => sum + room, 0);
  }

  #tellIfFull(): void {
    if (this.#full || !this.#begun || this.#closed || this.#places.some(({ free }) => free)) return;
    this.#full = true;
    this.#onChange(true);
  }

  /** Finds a worker for one socket, or that there can be none. Returns whether it need not wait any longer. */
  #offerTo({ tried, lastError, place }: QueuedSocket): boolean {
    const candidates = this.#places.filter(({ alive, processId }) => alive && !tried.has(processId));
    if (candidates.length === 0) {
      place.reject(lastError ?? noWorker());
      return true;
    }
    const chosen = this.#choose(candidates.filter(({ free }) => free));
    if (chosen === undefined) return false;
    this.#next = (chosen.index + 1) % this.#places.length;
    chosen.promised++;
    place.resolve(chosen);
    return true;
  }

  /** The first in turn, or of those with the least to do the first in turn. */
  #choose(free: WorkerSlot[]): WorkerSlot | undefined {
    const size = this.#places.length;
    const turn = ({ index }: WorkerSlot) => (index - this.#next + size) % size;
    const leastLoaded = this.#settings.strategy === "least-loaded";
    return free.reduce<WorkerSlot | undefined>((best, place) => {
      if (best === undefined) return place;
      const difference = leastLoaded ? place.load - best.load : 0;
      return (difference || turn(place) - turn(best)) < 0 ? place : best;
    }, undefined);
  }
}

/** Why a pool takes nothing any more: every place was given up. */
export function noWorker(options?: ErrorOptions): HandoffError {
  return new HandoffError("target-exited", "no worker of the pool can be kept running", options);
}
