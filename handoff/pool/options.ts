/**
 * What a pool is given and what it tells: options and statistics.
 *
 * @module
 */
import type { SocketAddr } from "../../ffi/socket_address.ts";
import type { Socket } from "../../sockets/socket.ts";
import type { SendOptions } from "../source.ts";
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
export type WorkerPoolOptions = WorkerPoolSettings & WorkerCommand;

/** How a {@linkcode WorkerPool} works, whatever its workers run. */
export interface WorkerPoolSettings {
  /** How many workers. Defaults to `navigator.hardwareConcurrency`. */
  size?: number;
  /** Which worker gets the next socket. Defaults to `"least-loaded"`. */
  strategy?: WorkerStrategy;
  /**
   * How many sockets a worker may have: on their way to it, or its own and not closed. Defaults to `10_000`, the
   * `maxConnections` of `serveHttp`: a worker that serves fewer leaves the others waiting for as long as `sendTimeout`.
   */
  maxSocketsPerWorker?: number;
  /** How many sockets {@linkcode WorkerPool.dispatch} lets wait until a worker has room. Defaults to `1024`. */
  maxQueue?: number;
  /** How many workers {@linkcode WorkerPool.dispatch} offers a socket to, one after the other. Defaults to `3`. */
  attempts?: number;
  /**
   * How long a worker may take from its start until it has called {@linkcode receive}, in milliseconds, from 1 to
   * 2 147 483 647; then it is ended and another is started. Defaults to `30_000`.
   */
  startTimeout?: number;
  /**
   * How long a worker may take to take a socket, in milliseconds, from 1 to 2 147 483 647; then the socket is offered to
   * another. A worker that is not heard of meanwhile gets nothing more, and is ended when it stays silent for as long
   * again. Defaults to `10_000`.
   */
  sendTimeout?: number;
  /**
   * How long a socket may wait until a worker has room, in milliseconds, from 1 to 2 147 483 647. Defaults to `10_000`.
   */
  queueTimeout?: number;
  /**
   * How long a worker that takes no more sockets may take to finish those it has and to end, in milliseconds, from 0 to
   * 2 147 483 647; then it is ended, and they with it. It is so for a worker that has left its `receive` loop, and, where
   * nothing else is said, in {@linkcode WorkerPool.close} and {@linkcode WorkerPool.restart}. Defaults to `10_000`.
   */
  drainTimeout?: number;
  /**
   * How long a worker's place stays empty after it has ended, in milliseconds, from 0 to 2 147 483 647; twice as long
   * after each one more that ended within a second. Defaults to `100`.
   */
  restartDelay?: number;
  /** The longest that a place stays empty, in milliseconds: from 0 to 2 147 483 647. Defaults to `10_000`. */
  maxRestartDelay?: number;
  /** How many workers in a row may end within a second before their place is given up. Defaults to `10`. */
  maxFailures?: number;
  /** Whether the workers run programs of one's own, as {@linkcode HandoffSourceOptions.trusted} says. Defaults to true. */
  trusted?: boolean;
  /** Put before each line a worker prints. Without it, workers print where this process does, untouched. */
  outputPrefix?: string | ((worker: WorkerInfo) => string);
  /** Ends the pool at once, workers included. */
  signal?: AbortSignal;
}

/** Options with everything filled in that has a default. */
export type FilledPoolOptions =
  & WorkerPoolOptions
  & Required<Omit<WorkerPoolSettings, "outputPrefix" | "signal">>;

/** How {@linkcode WorkerPool.serve} hands connections over. */
export interface PoolServeOptions {
  /**
   * Who accepts. `"connections"`: this process, which hands each connection to a worker, and may look at it first.
   * `"listener"`: every worker by itself, on a duplicate of the listener, so that nothing is between the client and the
   * worker; the system chooses the worker. Workers' code is the same. Defaults to `"connections"`.
   */
  distribute?: "connections" | "listener";
  /** Any JSON value that goes along with each connection, at most 1 MiB of it. */
  data?: unknown;
  /** Bytes that each worker reads before those of the connection, at most 1 MiB. */
  initialBytes?: Uint8Array;
  /**
   * Called with each connection before it is handed over, for instance to look at its first bytes with
   * {@linkcode Socket.peek}. What it returns goes along, in place of `data` and `initialBytes`. If it throws or rejects,
   * the connection is closed (`connectiondrop`). A connection that it has closed, or given to somebody else, is left
   * alone. At most `maxQueue` calls of it are under way at a time.
   */
  onConnection?: (socket: Socket<SocketAddr>) => ConnectionExtras | void | Promise<ConnectionExtras | void>;
  /** Ends accepting. The listener stays open. */
  signal?: AbortSignal;
}

/** What travels along with a connection. */
export type ConnectionExtras = Omit<SendOptions, "signal">;

/** How long the parts of {@linkcode WorkerPool.restart} may take. */
export interface PoolRestartOptions {
  /** How long each new worker may take to become ready, in milliseconds. Defaults to the pool's `startTimeout`. */
  startTimeout?: number;
  /** How long each old worker may take to finish, in milliseconds. Defaults to the pool's `drainTimeout`. */
  drainTimeout?: number;
}

/**
 * Where the worker of a place stands:
 * `starting`, it was spawned and has not called `receive` yet; `ready`, it takes sockets; `leaving`, the pool is closing
 * and it finishes what it has; `ended`, there is none, before the first, between two, or in a closed pool; `given-up`,
 * there will be no other, for too many could not stay, unless {@linkcode WorkerPool.restart} starts one. A worker that
 * leaves while the pool is open, or is replaced, has lost its place, and shows no more.
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
  /** Sockets that became a worker's: offers that it took, and connections that it accepted by itself. */
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

/** How a worker ended. */
export interface WorkerEnd {
  /** In words. */
  readonly reason: string;
  /** The exit code of its process, if there was one. */
  readonly exitCode: number | undefined;
  /** The signal that ended its process, if one did. */
  readonly signal: Deno.Signal | undefined;
}

/** What happens to a pool's workers. */
export type WorkerEventType = "workerstart" | "workerready" | "workerend" | "workergiveup";
