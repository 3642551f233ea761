/**
 * What a pool is given and what it tells: options and statistics.
 *
 * @module
 */
import type { WorkerCommand } from "../spawn.ts";

/** Which worker gets the next socket: the one with the fewest, or each in turn. */
export type WorkerStrategy = "least-loaded" | "round-robin";

/** One worker process of a pool. */
export interface WorkerInfo {
  /** Its place in the pool, from 0; a worker that takes another's place has the same. */
  readonly index: number;
  /** Its process id; 0 where there is no process: the place is empty or given up, or no worker could be spawned. */
  readonly processId: number;
}

/** How a {@linkcode WorkerPool} works: what its workers run, and the rest. */
export interface WorkerPoolOptions extends WorkerCommand {
  /** How many workers. Default `navigator.hardwareConcurrency`. */
  size?: number;
  /** Which worker gets the next socket. Default `least-loaded`. */
  strategy?: WorkerStrategy;
  /** How many sockets a worker may have: on their way to it, or its own and not closed. Default 1024. */
  maxSocketsPerWorker?: number;
  /** How many sockets may wait in the pool for a worker that has credit; more are refused. Default 1024. */
  maxQueue?: number;
  /** How many workers a socket is offered to, one after the other, before it comes back. Default 3. */
  attempts?: number;
  /**
   * How long a worker may take to become ready, to take a socket, and a socket may wait for a worker, in milliseconds:
   * more than 0, at most 30 000. Default 10 000.
   *
   * A worker that has left its `receive` loop is replaced, and has as long to finish the connections it has; then it is
   * ended, and they with it.
   */
  timeout?: number;
  /**
   * How long a worker's place stays empty after it has ended, in milliseconds, from 0 to 2 147 483 647; twice as long
   * after each one more that ended within a second. Default 100.
   */
  restartDelay?: number;
  /** The longest that a place stays empty, in milliseconds: from 0 to 2 147 483 647. Default 10 000. */
  maxRestartDelay?: number;
  /** How many workers in a row may end within a second before their place is given up. Default 10. */
  maxFailures?: number;
  /** Whether the workers run programs of one's own, as {@linkcode HandoffSourceOptions.trusted} says. Defaults to true. */
  trusted?: boolean;
  /** Put before each line a worker prints. Without it, workers print where this process does, untouched. */
  outputPrefix?: string | ((worker: WorkerInfo) => string);
  /** Ends the pool at once, workers included. */
  signal?: AbortSignal;
}

/** Options with everything filled in that has a default. */
export type PoolSettings =
  & WorkerPoolOptions
  & Required<Omit<WorkerPoolOptions, keyof WorkerCommand | "outputPrefix" | "signal">>;

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
