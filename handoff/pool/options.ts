/**
 * The options and the statistics of a pool.
 *
 * @module
 */
import type { SocketAddr } from "../../ffi/socket_address.ts";
import type { AnySocket } from "../../sockets/duplicate_socket.ts";
import type { Socket } from "../../sockets/socket.ts";
import type { PostMessageOptions, SendOptions } from "../outgoing.ts";
import type { WorkerCommand } from "../spawn.ts";

/** Which worker gets the next socket: the worker with the fewest sockets, or each worker in turn. */
export type WorkerStrategy = "least-loaded" | "round-robin";

/** One worker of a pool. */
export interface WorkerInfo {
  /** The number of the worker's slot in the pool, from 0. A worker that replaces another has the same number. */
  readonly index: number;
  /**
   * The worker's process id. 0 if there is no process: the slot is empty or abandoned, or no worker could be spawned.
   */
  readonly processId: number;
}

/** Options of a {@linkcode WorkerPool}: what its workers run, and the settings. */
export type WorkerPoolOptions = WorkerPoolSettings & WorkerCommand;

/** Settings of a {@linkcode WorkerPool} that do not depend on what its workers run. */
export interface WorkerPoolSettings {
  /** The number of workers, from 1 to 1 024. Defaults to `navigator.hardwareConcurrency`. */
  size?: number;
  /** The choice of the worker that gets the next socket. Defaults to `"least-loaded"`. */
  strategy?: WorkerStrategy;
  /**
   * The number of sockets that a worker may have: those in flight to it, and those that it owns and has not closed.
   * Defaults to `10_000`, the `maxConnections` of `serveHttp`. If a worker serves fewer, its other sockets wait for as
   * long as `sendTimeout`.
   */
  maxSocketsPerWorker?: number;
  /**
   * The number of sockets that may wait in {@linkcode WorkerPool.dispatch} until a worker has room. Defaults to `1024`.
   */
  maxQueue?: number;
  /**
   * The number of workers that {@linkcode WorkerPool.dispatch} offers a socket to, one after the other. Defaults to
   * `3`.
   */
  attempts?: number;
  /**
   * The time from a worker's start until it must have called {@linkcode receive}, in milliseconds, from 1 to 2 147 483
   * 647. After this time the pool ends the worker and starts another. Defaults to `30_000`.
   */
  startTimeout?: number;
  /**
   * The time that a worker may take to take a socket, in milliseconds, from 1 to 2 147 483 647. After this time the
   * socket is offered to another worker. If nothing was heard of the worker during this time, it gets no more sockets.
   * It is ended if it stays silent for as long again. Defaults to `10_000`.
   */
  sendTimeout?: number;
  /**
   * The time that a socket may wait until a worker has room, in milliseconds, from 1 to 2 147 483 647. Defaults to
   * `10_000`.
   */
  queueTimeout?: number;
  /**
   * The time that a worker may take to finish its sockets and to end, in milliseconds, from 0 to 2 147 483 647. After
   * this time the worker is ended, and its sockets with it. Applies to a worker that has left its `receive` loop. It is
   * also the default of {@linkcode WorkerPool.close} and {@linkcode WorkerPool.restart}. Defaults to `10_000`.
   */
  drainTimeout?: number;
  /**
   * The delay between the end of a worker and the next one in its slot, in milliseconds, from 0 to 2 147 483 647.
   * Doubles after each further worker that ends within a second. Defaults to `100`.
   */
  restartDelay?: number;
  /**
   * The longest delay between two workers of a slot, in milliseconds, from 0 to 2 147 483 647. Defaults to `10_000`.
   */
  maxRestartDelay?: number;
  /**
   * The number of workers in a row that may end within a second before the pool abandons their slot. Defaults to `10`.
   */
  maxFailures?: number;
  /**
   * Whether the source trusts the program that the workers run: {@linkcode HandoffSourceOptions.trusted}. Defaults to
   * `true`.
   *
   * On Windows and macOS the source cannot see what a worker has closed. A worker that is not trusted is replaced there
   * when it has got as many sockets as it may have, and says that it has closed half of them.
   */
  trusted?: boolean;
  /**
   * The text before each line that a worker prints. Without it, the output of workers goes to that of this process,
   * unchanged. On Windows that also happens to the output of some workers if there are many: with `n` processors, Deno
   * can read the output of `2 * n - 1` workers at once. If the workers are not `trusted`, control characters in their lines are replaced by spaces.
   */
  outputPrefix?: string | ((worker: WorkerInfo) => string);
  /** The signal that ends the pool at once, with its workers. */
  signal?: AbortSignal;
  /**
   * Called with each socket that a worker hands back ({@linkcode HandoffTarget.send}). What it returns is sent with the
   * socket, and says which worker gets it. If it throws or rejects, the socket is closed (`connectiondrop`). A socket
   * that it has closed, released or handed off itself is ignored. At most 16 calls for each worker are under way at a
   * time.
   *
   * Without it, and if it returns nothing, the socket goes to another worker with the same `data`. It goes back to the
   * same worker only if the pool has no other.
   */
  onReturn?: (returned: ReturnedSocket) => ConnectionExtras | void | Promise<ConnectionExtras | void>;
}

/** A socket that a worker has handed back to its pool. */
export interface ReturnedSocket {
  /** The socket, which belongs to this process. Bytes that the worker has read ahead are its `initialBytes`. */
  readonly socket: AnySocket;
  /** The `data` of the worker's {@linkcode HandoffTarget.send}. */
  readonly data: unknown;
  /** The worker that handed it back. */
  readonly worker: WorkerInfo;
}

/** The options, with all defaults. */
export type FilledPoolOptions =
  & WorkerPoolOptions
  & Required<Omit<WorkerPoolSettings, "outputPrefix" | "signal" | "onReturn">>;

/** Options of {@linkcode WorkerPool.serve}. */
export interface PoolServeOptions {
  /**
   * The process that accepts. With `"connections"` this process accepts and hands each connection off to a worker; it
   * can look at the connection first. With `"listener"` every worker accepts itself, on a duplicate of the listener: no
   * process is between the client and the worker, and the system chooses the worker. The code of the workers is the
   * same. A worker that does not take the listener, or stops accepting because of an error, is offered it again every
   * second while it runs. Defaults to `"connections"`.
   */
  distribute?: "connections" | "listener";
  /** The data that is sent with each connection: any JSON value, at most 1 MiB. */
  data?: unknown;
  /** The bytes that each worker reads before those of the connection, at most 1 MiB. */
  initialBytes?: Uint8Array;
  /**
   * Called with each connection before it is handed off, for instance to look at its first bytes with {@linkcode
   * Socket.peek}. What it returns is sent with the connection, instead of `data` and `initialBytes`. If it throws or
   * rejects, the connection is closed (`connectiondrop`). A connection that it has closed or released is ignored. At
   * most `maxQueue` calls are under way at a time.
   */
  onConnection?: (socket: Socket<SocketAddr>) => ConnectionExtras | void | Promise<ConnectionExtras | void>;
  /** The signal that ends accepting. The listener stays open. */
  signal?: AbortSignal;
}

/** Options of {@linkcode WorkerPool.dispatch}. */
export interface DispatchOptions extends SendOptions {
  /**
   * The index of the only worker that may get the socket, such as the one that has the client's session. The socket
   * waits until that worker has room, also while it is being restarted, for at most `queueTimeout`. Defaults to any
   * worker.
   */
  worker?: number;
}

/** What is sent with a connection, and which worker gets it. */
export type ConnectionExtras = Omit<DispatchOptions, "signal">;

/** Options of {@linkcode WorkerPool.postMessage}. */
export interface PoolMessageOptions extends PostMessageOptions {
  /** The index of the worker that gets the message. Defaults to all workers that are ready. */
  worker?: number;
}

/** Options of {@linkcode WorkerPool.restart}. */
export interface PoolRestartOptions {
  /** The time that each new worker may take to become ready, in milliseconds. Defaults to the pool's `startTimeout`. */
  startTimeout?: number;
  /** The time that each old worker may take to finish, in milliseconds. Defaults to the pool's `drainTimeout`. */
  drainTimeout?: number;
}

/**
 * The state of the worker in a slot:
 *
 * - `starting`: it was spawned and has not called `receive` yet.
 * - `ready`: it takes sockets.
 * - `leaving`: the pool is closing, and the worker finishes the sockets that it has.
 * - `ended`: there is no worker: before the first one, between two, or in a closed pool.
 * - `given-up`: the slot is abandoned, because too many workers ended soon after their start. No other worker follows,
 *   unless {@linkcode WorkerPool.restart} starts one.
 *
 * A worker that leaves while the pool is open, or that is replaced, has lost its slot and is not shown.
 */
export type WorkerState = "starting" | "ready" | "leaving" | "ended" | "given-up";

/** Statistics of one slot of a pool. */
export interface WorkerStatistics extends WorkerInfo {
  /** The state of the slot's worker. */
  readonly state: WorkerState;
  /** The number of sockets that the worker has and has not closed. */
  readonly held: number;
  /** The number of sockets in flight to the worker. */
  readonly inFlight: number;
  /** The number of sockets that workers of this slot have taken. */
  readonly taken: number;
  /** The number of sockets that came back from workers of this slot. */
  readonly returned: number;
  /** The number of workers that this slot had after the first. */
  readonly restarts: number;
}

/** Statistics of a {@linkcode WorkerPool}. */
export interface WorkerPoolStatistics {
  /** The number of times that a socket was offered to a worker. */
  readonly offered: number;
  /**
   * The number of sockets that workers own or have owned: offers that they took, and connections that they accepted
   * themselves.
   */
  readonly taken: number;
  /** The number of offers that ended with the socket back in this process. */
  readonly returned: number;
  /** The number of offers under way. */
  readonly inFlight: number;
  /** The number of sockets that wait for a worker with room. */
  readonly waiting: number;
  /** The time from an offer until the source knew that the worker had taken the socket, in milliseconds. */
  readonly timeToTake: { readonly p50: number; readonly p99: number; readonly max: number };
  /** The statistics of each slot of the pool. */
  readonly workers: readonly WorkerStatistics[];
}

/** How a worker ended. */
export interface WorkerEnd {
  /** The reason, in words. */
  readonly reason: string;
  /** The exit code of the worker's process, if there was a process. */
  readonly exitCode: number | undefined;
  /** The signal that ended the worker's process, if a signal did. */
  readonly signal: Deno.Signal | undefined;
}

/** The name of an event about a worker of a pool. */
export type WorkerEventType = "workerstart" | "workerready" | "workerend" | "workergiveup";
