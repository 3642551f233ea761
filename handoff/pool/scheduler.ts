/**
 * Which worker is to have a socket, and what waits until one has room.
 *
 * @module
 */
import { HandoffError, type HandoffErrorOptions } from "../errors.ts";
import type { PoolSettings } from "./options.ts";
import type { WorkerSlot } from "./worker_slot.ts";

/** A socket that waits for a worker. */
interface QueuedSocket {
  /** Processes that have had their chance. */
  readonly tried: ReadonlySet<number>;
  readonly place: PromiseWithResolvers<WorkerSlot>;
  readonly lastError: unknown;
}

/** Sockets on the one side, places on the other. */
export class Scheduler {
  readonly #places: readonly WorkerSlot[];
  readonly #settings: PoolSettings;
  readonly #waiting = new Set<QueuedSocket>();
  #next = 0;
  #closed = false;

  constructor(places: readonly WorkerSlot[], settings: PoolSettings) {
    this.#places = places;
    this.#settings = settings;
  }

  /** How many sockets wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /**
   * The worker that is to have a socket; waits until there is one with room.
   *
   * @param tried Processes that have had their chance.
   * @param lastError What to say if there is nobody left.
   * @param signal Ends the wait.
   */
  async pick(tried: ReadonlySet<number>, lastError: unknown, signal: AbortSignal | undefined): Promise<WorkerSlot> {
    signal?.throwIfAborted();
    if (this.#closed) throw lastError ?? poolClosed();
    const waiting: QueuedSocket = { tried, lastError, place: Promise.withResolvers() };
    // Those that wait already come first, for any worker they have not tried.
    this.assign();
    if (this.#offerTo(waiting)) return await waiting.place.promise;
    if (this.#waiting.size >= this.#settings.maxQueue) {
      throw new HandoffError("overloaded", `${this.#waiting.size} sockets wait for a worker already`);
    }
    const { timeout } = this.#settings;
    const giveUp = (reason: unknown) => {
      this.#waiting.delete(waiting);
      waiting.place.reject(reason);
    };
    const expire = () => giveUp(new HandoffError("timeout", `no worker had room in ${timeout} ms`));
    const deadline = setTimeout(expire, timeout);
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

  /** Gives waiting sockets to workers that have room. */
  assign(): void {
    for (const waiting of this.#waiting) {
      if (this.#offerTo(waiting)) this.#waiting.delete(waiting);
      else if (waiting.tried.size === 0) return;
    }
  }

  /** Refuses what waits, and what is still to come. */
  close(): void {
    this.#closed = true;
    for (const { place } of this.#waiting) place.reject(poolClosed());
    this.#waiting.clear();
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

/** Why a pool takes nothing any more: it was closed. */
export function poolClosed(options?: HandoffErrorOptions): HandoffError {
  return new HandoffError("closed", "the pool was closed", options);
}

/** Why a pool takes nothing any more: every place was given up. */
export function noWorker(options?: HandoffErrorOptions): HandoffError {
  return new HandoffError("target-exited", "no worker of the pool can be kept running", options);
}
