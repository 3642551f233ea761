/**
 * What a pool has done so far.
 *
 * @module
 */
import { nodeBuiltin } from "../../ffi/node_builtins.ts";
import type { WorkerInfo } from "./options.ts";

/**
 * Where the worker of a place stands:
 * `starting`, it was spawned and has not called `receive` yet; `ready`, it takes sockets; `leaving`, the pool is closing
 * and it finishes what it has; `ended`, there is none, before the first, between two, or in a closed pool; `given-up`,
 * there will be no other, for too many could not stay. One that leaves while the pool is open has lost its place, and
 * shows no more.
 */
export type WorkerState = "starting" | "ready" | "leaving" | "ended" | "given-up";

/** What one place of a pool has done. */
export interface WorkerStatistics extends WorkerInfo {
  /** Where its worker stands. */
  readonly state: WorkerState;
  /** Sockets the worker has and has not closed. */
  readonly held: number;
  /** Sockets on their way to it. */
  readonly inFlight: number;
  /** Sockets that became its own, in this place's time. */
  readonly taken: number;
  /** Sockets that came back from it, in this place's time. */
  readonly returned: number;
  /** How many workers have taken this place after the first. */
  readonly restarts: number;
}

/** What a {@linkcode WorkerPool} has done so far. */
export interface WorkerPoolStatistics {
  /** Times a socket was offered to a worker. */
  readonly offered: number;
  /** Offers that ended with the worker owning the socket. */
  readonly taken: number;
  /** Offers that ended with the socket back here. */
  readonly returned: number;
  /** Offers under way. */
  readonly inFlight: number;
  /** Sockets that wait for a worker with credit. */
  readonly waiting: number;
  /** Time from the offer until the source knew that the worker had taken it, in milliseconds. */
  readonly timeToTake: { readonly p50: number; readonly p99: number; readonly max: number };
  /** Each place of the pool. */
  readonly workers: readonly WorkerStatistics[];
}

/** Counts offers, in constant memory however many there are. */
export class Counters {
  readonly #microseconds = nodeBuiltin("node:perf_hooks").createHistogram();
  offered = 0;
  taken = 0;
  returned = 0;

  take(milliseconds: number): void {
    this.taken++;
    this.#microseconds.record(Math.max(1, Math.round(milliseconds * 1000)));
  }

  get timeToTake(): WorkerPoolStatistics["timeToTake"] {
    if (this.taken === 0) return { p50: 0, p99: 0, max: 0 };
    const histogram = this.#microseconds;
    return {
      p50: histogram.percentile(50) / 1000,
      p99: histogram.percentile(99) / 1000,
      max: histogram.max / 1000,
    };
  }
}
