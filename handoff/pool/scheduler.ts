/**
 * Chooses the worker that gets a socket, and keeps the sockets that wait until a worker has room.
 *
 * @module
 */
import { HandoffError } from "../errors.ts";
import type { FilledPoolOptions } from "./options.ts";
import { poolClosed, type WorkerSlot } from "./worker_slot.ts";

/** A socket that waits for a worker. */
interface QueuedSocket {
  /** The processes that it was offered to already. */
  readonly tried: ReadonlySet<number>;
  readonly slot: PromiseWithResolvers<WorkerSlot>;
  readonly lastError: unknown;
  readonly worker: number | undefined;
  readonly avoid: number | undefined;
}

/** Options of {@linkcode Scheduler.pick}. */
interface PickOptions {
  /** The processes that the socket was offered to already. */
  readonly tried: ReadonlySet<number>;
  /** The error to throw if there is no other worker. */
  readonly lastError: unknown;
  /** The index of the only slot that may get the socket; `undefined` for any. */
  readonly worker?: number | undefined;
  /** The process that gets the socket only if there is no other. */
  readonly avoid?: number | undefined;
  /** The number of sockets that may wait, including this one. */
  readonly maxQueue: number;
  /** The signal that ends the wait. */
  readonly signal: AbortSignal | undefined;
}

/** Assigns sockets to slots. */
export class Scheduler {
  readonly #slots: readonly WorkerSlot[];
  readonly #settings: FilledPoolOptions;
  /** Called when no worker has room, and when a worker has room again. */
  readonly #onChange: (full: boolean) => void;
  readonly #waiting = new Set<QueuedSocket>();
  /** The callers that wait until a worker has room. */
  readonly #forRoom = new Set<() => void>();
  #next = 0;
  #closed = false;
  /** Whether a worker has had room already. */
  #begun = false;
  #full = false;

  constructor(slots: readonly WorkerSlot[], settings: FilledPoolOptions, onChange: (full: boolean) => void) {
    this.#slots = slots;
    this.#settings = settings;
    this.#onChange = onChange;
  }

  /** The number of sockets that wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Returns the slot of the worker that gets a socket. Waits until a worker has room. */
  async pick({ tried, lastError, worker, avoid, maxQueue, signal }: PickOptions): Promise<WorkerSlot> {
    const throwIfOver = () => {
      signal?.throwIfAborted();
      if (this.#closed) throw lastError ?? poolClosed();
    };
    throwIfOver();
    const waiting: QueuedSocket = { tried, lastError, worker, avoid, slot: Promise.withResolvers() };
    // Sockets that wait already come first, for each worker that has not been offered them.
    this.assign();
    if (this.#offerTo(waiting)) return await waiting.slot.promise;
    this.#tellIfFull();
    // The program may have aborted the signal, or closed the pool, when it was told.
    throwIfOver();
    if (this.#waiting.size >= maxQueue) {
      throw new HandoffError("overloaded", `${this.#waiting.size} sockets wait for a worker already`);
    }
    const { queueTimeout } = this.#settings;
    const giveUp = (reason: unknown) => {
      this.#waiting.delete(waiting);
      waiting.slot.reject(reason);
    };
    const expire = () => giveUp(new HandoffError("timeout", `no worker had room in ${queueTimeout} ms`));
    const deadline = setTimeout(expire, queueTimeout);
    const abort = () => giveUp(signal?.reason);
    signal?.addEventListener("abort", abort);
    this.#waiting.add(waiting);
    try {
      return await waiting.slot.promise;
    } finally {
      this.#waiting.delete(waiting);
      clearTimeout(deadline);
      signal?.removeEventListener("abort", abort);
    }
  }

  /**
   * Waits until a worker has room for a socket that no other socket waits for. Returns at once when the signal is
   * aborted.
   *
   * @param reserved Returns the number of sockets that get room first.
   */
  async room(signal: AbortSignal, reserved: () => number): Promise<void> {
    while (!signal.aborted && !this.#hasRoom(reserved())) {
      this.#tellIfFull();
      if (signal.aborted) break;
      const changed = Promise.withResolvers<void>();
      this.#forRoom.add(changed.resolve);
      signal.addEventListener("abort", changed.resolve as () => void);
      await changed.promise;
      signal.removeEventListener("abort", changed.resolve as () => void);
      this.#forRoom.delete(changed.resolve);
    }
  }

  /** Assigns waiting sockets to workers that have room. */
  assign(): void {
    for (const waiting of this.#waiting) {
      if (this.#offerTo(waiting)) this.#waiting.delete(waiting);
      else if (waiting.tried.size === 0 && waiting.worker === undefined && waiting.avoid === undefined) break;
    }
    if (!this.#hasRoom(0)) return;
    this.#begun = true;
    if (this.#full) {
      this.#full = false;
      this.#onChange(false);
    }
    for (const resolve of this.#forRoom) resolve();
  }

  /** Refuses the sockets that wait, and further ones. */
  close(): void {
    this.#closed = true;
    for (const { slot } of this.#waiting) slot.reject(poolClosed());
    this.#waiting.clear();
  }

  #hasRoom(reserved: number): boolean {
    // A socket that waits for one worker does not need the room of the others.
    if (this.#waiting.values().some(({ worker }) => worker === undefined)) return false;
    return reserved < this.#slots.reduce((sum, { room }) => sum + room, 0);
  }

  #tellIfFull(): void {
    if (this.#full || !this.#begun || this.#closed || this.#slots.some(({ free }) => free)) return;
    this.#full = true;
    this.#onChange(true);
  }

  /**
   * Chooses a worker for one socket, or rejects it if no worker is left. Returns whether the socket need not wait any
   * longer.
   */
  #offerTo({ tried, lastError, slot, worker, avoid }: QueuedSocket): boolean {
    const possible = this.#slots.filter(({ alive, processId, index }) => {
      return alive && !tried.has(processId) && (worker === undefined || worker === index);
    });
    const others = possible.filter(({ processId }) => processId !== avoid);
    const candidates = others.length === 0 ? possible : others;
    if (candidates.length === 0) {
      slot.reject(lastError ?? noWorker());
      return true;
    }
    const chosen = this.#choose(candidates.filter(({ free }) => free));
    if (chosen === undefined) return false;
    this.#next = (chosen.index + 1) % this.#slots.length;
    chosen.promised++;
    slot.resolve(chosen);
    return true;
  }

  /** Returns the next worker in turn; with `least-loaded`, the next in turn of those with the fewest sockets. */
  #choose(free: WorkerSlot[]): WorkerSlot | undefined {
    const size = this.#slots.length;
    const turn = ({ index }: WorkerSlot) => (index - this.#next + size) % size;
    const leastLoaded = this.#settings.strategy === "least-loaded";
    return free.reduce<WorkerSlot | undefined>((best, slot) => {
      if (best === undefined) return slot;
      const difference = leastLoaded ? slot.load - best.load : 0;
      return (difference || turn(slot) - turn(best)) < 0 ? slot : best;
    }, undefined);
  }
}

/** Returns the error of a pool that takes no more sockets because every slot was abandoned. */
export function noWorker(options?: ErrorOptions): HandoffError {
  return new HandoffError("target-exited", "no worker of the pool can be kept running", options);
}
