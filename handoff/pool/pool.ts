/**
 * A pool of worker processes.
 *
 * @module
 */
import type {
  ConnectionExtras,
  FilledPoolOptions,
  PoolRestartOptions,
  PoolServeOptions,
  WorkerEnd,
  WorkerEventType,
  WorkerInfo,
  WorkerPoolOptions,
  WorkerPoolStatistics,
} from "./options.ts";
import { nodeBuiltin, validateDuration } from "../../internal/runtime.ts";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import { INVALID_SOCKET } from "../../ffi/platform.ts";
import { type SendOptions, sourceTimeouts } from "../source.ts";
import { checkWorkerCommand } from "../spawn.ts";
import type { AnySocket } from "../../sockets/duplicate_socket.ts";
import { acceptUntil, acceptWithRetry, type Listener, throwUnlessTransient } from "../../sockets/listener.ts";
import type { Socket } from "../../sockets/socket.ts";
import { errorAbout, HandoffError } from "../errors.ts";
import { noWorker, Scheduler } from "./scheduler.ts";
import type { SharedAccepting } from "./shared_accepting.ts";
import { poolClosed, WorkerSlot } from "./worker_slot.ts";

const NOT_READY = "The pool does not become ready";
const NO_RESTART = "Cannot restart the pool";

/** Who got a socket, and after how many offers. */
export interface DispatchResult {
  /** The worker that owns the socket now. */
  readonly worker: WorkerInfo;
  /** How many workers it was offered to. */
  readonly attempts: number;
}

/** Something happened to a worker of a {@linkcode WorkerPool}. */
export class WorkerEvent extends Event {
  /** What happened. */
  declare readonly type: WorkerEventType;
  /** The worker. */
  readonly worker: WorkerInfo;
  /** Why it ended, of `workerend`: how its process ended, or why the pool ended it. */
  readonly reason: string | undefined;
  /** The exit code of its process, of `workerend`; `undefined` if there was no process. */
  readonly exitCode: number | undefined;
  /** The signal that ended its process, of `workerend`, if one did. */
  readonly signal: Deno.Signal | undefined;

  /**
   * Makes the event.
   *
   * @param type What happened.
   * @param worker To which worker.
   * @param end How it ended, of `workerend`.
   */
  constructor(type: WorkerEventType, worker: WorkerInfo, end: Partial<WorkerEnd> = {}) {
    super(type);
    this.worker = worker;
    this.reason = end.reason;
    this.exitCode = end.exitCode;
    this.signal = end.signal;
  }
}

/** A connection that {@linkcode WorkerPool.serve} accepted was closed, for no worker took it. */
export class ConnectionDropEvent extends Event {
  /** Why: a {@linkcode HandoffError}, or what kept the connection from being offered. */
  readonly error: unknown;

  /**
   * Makes the event.
   *
   * @param type `connectiondrop`.
   * @param error Why.
   */
  constructor(type: "connectiondrop", error: unknown) {
    super(type);
    this.error = error;
  }
}

/** The events of a {@linkcode WorkerPool}. */
export interface WorkerPoolEventMap {
  /** The process of a worker was started. */
  workerstart: WorkerEvent;
  /** A worker takes sockets. */
  workerready: WorkerEvent;
  /** The process of a worker has ended, or none could be started. */
  workerend: WorkerEvent & { readonly reason: string };
  /** Too many workers of one place could not stay: it stays empty. */
  workergiveup: WorkerEvent;
  /**
   * No worker has room: sockets wait, and {@linkcode WorkerPool.serve} accepts no more, so that clients wait in the
   * listener's backlog. Before the first worker is ready that is so too, and is not told.
   */
  poolfull: Event;
  /** After `poolfull`: a worker has room again, and nothing waits. */
  poolfree: Event;
  /** {@linkcode WorkerPool.serve} has closed a connection that no worker took. */
  connectiondrop: ConnectionDropEvent;
}

/**
 * What listens for an event of a {@linkcode WorkerPool}.
 *
 * @typeParam Type The event's name.
 */
export type WorkerPoolListener<Type extends string> = [Type] extends [keyof WorkerPoolEventMap] ?
    | ((event: WorkerPoolEventMap[Type & keyof WorkerPoolEventMap]) => unknown)
    | { handleEvent(event: WorkerPoolEventMap[Type & keyof WorkerPoolEventMap]): unknown }
  : EventListenerOrEventListenerObject;

/** Fills in the defaults. Throws what is wrong with the options. */
function filledOptions(options: WorkerPoolOptions): FilledPoolOptions {
  checkWorkerCommand(options);
  const settings: FilledPoolOptions = {
    ...options,
    ...sourceTimeouts(options),
    size: options.size ?? navigator.hardwareConcurrency,
    strategy: options.strategy ?? "least-loaded",
    maxSocketsPerWorker: options.maxSocketsPerWorker ?? 10_000,
    maxQueue: options.maxQueue ?? 1024,
    attempts: options.attempts ?? 3,
    queueTimeout: validateDuration("queueTimeout", options.queueTimeout ?? 10_000, 1),
    drainTimeout: validateDuration("drainTimeout", options.drainTimeout ?? 10_000),
    restartDelay: validateDuration("restartDelay", options.restartDelay ?? 100),
    maxRestartDelay: validateDuration("maxRestartDelay", options.maxRestartDelay ?? 10_000),
    maxFailures: options.maxFailures ?? 10,
    trusted: options.trusted ?? true,
  };
  if (settings.strategy !== "least-loaded" && settings.strategy !== "round-robin") {
    throw new TypeError(`Invalid \`strategy\`: must be least-loaded or round-robin, got ${settings.strategy}`);
  }
  for (const name of ["size", "maxSocketsPerWorker", "attempts"] as const) atLeast(1, name, settings[name]);
  for (const name of ["maxQueue", "maxFailures"] as const) atLeast(0, name, settings[name]);
  return settings;
}

/** Bounds may be infinite; places are counted. */
function atLeast(least: number, name: string, value: number): void {
  if (value >= least && (name !== "size" || Number.isSafeInteger(value))) return;
  throw new RangeError(`Invalid \`${name}\`: must be ${least} or more, got ${value}`);
}

/** Counts offers, in constant memory however many there are. */
class Counters {
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

/**
 * Keeps worker processes running and hands them sockets.
 *
 * A socket that a worker rejects, or that comes back because the worker ended, is offered to another. A worker that ends is
 * replaced by one that runs the program as it is on disk by then, after a delay that doubles for workers that end within a
 * second. A place whose workers cannot stay is given up (`workergiveup`); when all are, {@linkcode WorkerPool.closed} tells.
 * A worker that does not answer gets nothing more, and is ended when it stays silent for as long as `sendTimeout` again.
 *
 * What waits is bounded: `maxQueue` sockets here and `maxSocketsPerWorker` for each worker. The pool's events are those of
 * {@linkcode WorkerPoolEventMap}.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` for the workers' command: for a `script`, this
 * Deno's own path.
 *
 * @example Four workers behind one listener
 * ```ts ignore
 * import { listen, WorkerPool } from "@winsock/handoff";
 *
 * const script = new URL("worker.ts", import.meta.url);
 * await using pool = new WorkerPool({ script, size: 4, outputPrefix: "worker: " });
 * using listener = listen({ port: 8080 });
 * await pool.serve(listener);
 * ```
 */
export class WorkerPool extends EventTarget implements AsyncDisposable {
  /**
   * Resolves when every place has had a worker that is ready, or was given up; rejects with a {@linkcode HandoffError} if all
   * were, or if the pool is closed first.
   */
  readonly ready: Promise<void>;
  /**
   * Resolves when the pool can do nothing more; never rejects. With `undefined` when it was closed and its workers have
   * ended; with a {@linkcode HandoffError} (`target-exited`) when the last place was given up: from then on `dispatch`
   * rejects everything. A program that can do nothing else ends then, so that its service manager knows.
   */
  readonly closed: Promise<HandoffError | undefined>;

  readonly #settings: FilledPoolOptions;
  readonly #places: WorkerSlot[];
  readonly #counters = new Counters();
  readonly #queue: Scheduler;
  readonly #ready = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<HandoffError | undefined>();
  /** Aborted when nothing is to be accepted any more. */
  readonly #over = new AbortController();
  /** What the workers accept on by themselves. */
  readonly #accepting = new Set<SharedAccepting>();
  #restarting: Promise<void> = Promise.resolve();
  /** Places that have had no worker that was ready. */
  readonly #neverReady: Set<number>;
  #inFlight = 0;
  #closing: Promise<void> | undefined;
  /** Why the pool can do nothing more, where it was not closed. */
  #failure: HandoffError | undefined;
  readonly #abort = () => {
    this.close({ drainTimeout: 0 });
    for (const place of this.#places) place.kill();
  };

  /**
   * Makes the pool; the workers start right after.
   *
   * @param options What its workers run, and how it works.
   * @throws {TypeError} If neither or both of `script` and `command` are given; for a `script`, if this program is compiled,
   * so that there is no Deno to run it.
   * @throws {RangeError} If a number is out of its range.
   */
  constructor(options: WorkerPoolOptions) {
    super();
    this.#settings = filledOptions(options);
    this.ready = this.#ready.promise;
    this.ready.catch(() => {});
    this.closed = this.#closed.promise;
    const events = {
      changed: () => this.#queue.assign(),
      started: (worker: WorkerInfo) => void this.dispatchEvent(new WorkerEvent("workerstart", worker)),
      ready: (worker: WorkerInfo) => this.#becomeReady(worker),
      ended: (worker: WorkerInfo, end: WorkerEnd) => void this.dispatchEvent(new WorkerEvent("workerend", worker, end)),
      givenUp: (worker: WorkerInfo) => this.#giveUp(worker),
    };
    this.#places = Array.from(
      { length: this.#settings.size },
      (_, index) => new WorkerSlot(index, this.#settings, events),
    );
    this.#queue = new Scheduler(
      this.#places,
      this.#settings,
      (full) => void this.dispatchEvent(new Event(full ? "poolfull" : "poolfree")),
    );
    this.#neverReady = new Set(this.#places.keys());
    this.#settings.signal?.addEventListener("abort", this.#abort);
    if (this.#settings.signal?.aborted) this.#abort();
    // Later, so that whoever made the pool can listen first.
    queueMicrotask(() => {
      if (this.#closing !== undefined) return;
      for (const place of this.#places) place.start();
    });
  }

  /** What the pool has done so far. */
  get statistics(): WorkerPoolStatistics {
    const { offered, taken, returned, timeToTake } = this.#counters;
    const workers = this.#places.map(({ statistics }) => statistics);
    return {
      offered,
      taken: this.#places.reduce((sum, { accepted }) => sum + accepted, taken),
      returned,
      inFlight: this.#inFlight,
      waiting: this.#queue.size,
      timeToTake,
      workers,
    };
  }

  /**
   * Hands a socket to a worker, and to another if that one does not take it.
   *
   * @param socket The socket. Once this resolves it is a worker's, and closed here; if it rejects, it is as it was.
   * @param options What travels along.
   * @returns Who has it.
   * @throws {HandoffError} If no worker took it, in the words of the last one; if too many wait already (`overloaded`); if
   * no worker had room in time (`timeout`); if the pool is closed (`closed`).
   * @throws {WinsockError} If the socket cannot be shared: WSAENOTSOCK if it was closed or given up.
   * @throws {TypeError} If the socket is being handed off already, or `data` is no JSON.
   * @throws {RangeError} If `data` or the initial bytes are too long.
   * @throws The signal's reason, if it is aborted first.
   */
  async dispatch(socket: AnySocket, options: SendOptions = {}): Promise<DispatchResult> {
    return await this.#dispatch(socket, options, this.#settings);
  }

  /**
   * Accepts connections and hands each to a worker, until the listener or the pool is closed. Or has the workers accept for
   * themselves: `distribute: "listener"`.
   *
   * While no worker has room nothing is accepted, so that clients wait in the listener's backlog: `poolfull` tells when that
   * begins, `poolfree` when it ends. A connection that a worker does not take is offered to the others. One that no worker
   * takes, or that has waited for `queueTimeout` until one had room, is closed, and `connectiondrop` tells why.
   *
   * @param listener Where to accept. It stays open, and nothing else should accept on it meanwhile.
   * @param options What goes along with each connection.
   * @returns Resolves when the listener or the pool is closed, or the signal is aborted, and each connection that was
   * accepted is a worker's or closed.
   * @throws {HandoffError} `target-exited` if no worker of the pool can be kept running.
   * @throws {WinsockError} If the system cannot accept, for another reason than a shortage of descriptors or memory, which
   * is waited for.
   */
  async serve(listener: Listener<SocketAddr>, options: PoolServeOptions = {}): Promise<void> {
    const { signal: stop = this.#over.signal, distribute = "connections" } = options;
    const signal = AbortSignal.any([this.#over.signal, stop]);
    if (distribute === "listener") return await this.#share(listener, options, signal);
    if (distribute !== "connections") {
      throw new TypeError(`Invalid \`distribute\`: must be connections or listener, got ${distribute}`);
    }
    const handing = new Set<Promise<void>>();
    const calls = new Set<Promise<unknown>>();
    try {
      for (;;) {
        while (calls.size > 0 && calls.size >= this.#settings.maxQueue) await Promise.race(calls);
        // Each call is about a connection that a worker is to have room for when it is over.
        await this.#queue.room(signal, () => calls.size);
        const socket = await acceptWithRetry(listener, throwUnlessTransient, () => acceptUntil(listener, signal));
        if (socket === undefined) break;
        const handed = this.#serve(socket, options, calls).finally(() => handing.delete(handed));
        handing.add(handed);
      }
    } finally {
      await Promise.all(handing);
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Has every worker accept for itself. */
  async #share(listener: Listener<SocketAddr>, options: PoolServeOptions, signal: AbortSignal): Promise<void> {
    if (options.onConnection !== undefined || options.initialBytes !== undefined) {
      throw new TypeError("Invalid `distribute`: `onConnection` and `initialBytes` need connections, got listener");
    }
    if (!this.#settings.trusted) {
      throw new TypeError("Invalid `distribute`: workers that are not trusted need connections, got listener");
    }
    const { SharedAccepting } = await import("./shared_accepting.ts");
    const { maxSocketsPerWorker: limit, sendTimeout: timeout } = this.#settings;
    const accepting = new SharedAccepting(listener, this.#places, { data: options.data, limit, timeout });
    this.#accepting.add(accepting);
    const aborted = Promise.withResolvers<void>();
    const abort = () => aborted.resolve();
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
    try {
      await Promise.race([accepting.ended, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", abort);
      this.#accepting.delete(accepting);
      await accepting.stop();
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #serve(socket: Socket<SocketAddr>, options: PoolServeOptions, calls: Set<Promise<unknown>>): Promise<void> {
    let extras: ConnectionExtras | void = options;
    try {
      if (options.onConnection !== undefined) {
        const call = Promise.resolve(options.onConnection(socket)).finally(() => calls.delete(settled));
        const settled: Promise<unknown> = call.catch(() => {});
        calls.add(settled);
        extras = await call ?? options;
        if (socket.handle === INVALID_SOCKET) return;
      }
      const { data, initialBytes } = extras;
      const travels: SendOptions = initialBytes === undefined ? { data } : { data, initialBytes };
      await this.#dispatch(socket, travels, { attempts: Infinity, maxQueue: Infinity });
    } catch (error) {
      socket.close();
      this.dispatchEvent(new ConnectionDropEvent("connectiondrop", error));
    } finally {
      this.#queue.assign();
    }
  }

  /**
   * Replaces the workers one after the other by ones that run the program as it is on disk: starts a new one, waits until it
   * is ready, hands it what comes from then on, and lets the old one finish what it has. No socket is lost, and no place is
   * without a worker that takes sockets. A place that was given up has a worker again.
   *
   * One restart is under way at a time: another waits for it.
   *
   * @param options How long the new workers may take to start, and the old ones to finish.
   * @returns Resolves when all workers are new, and the old ones have ended.
   * @throws {HandoffError} If a new worker does not become ready: that one is ended, its place keeps the worker it has, and
   * those after it are not replaced. `closed` if the pool is closed.
   * @throws {RangeError} If a timeout is out of its range.
   */
  async restart(options: PoolRestartOptions = {}): Promise<void> {
    const { startTimeout = this.#settings.startTimeout, drainTimeout = this.#settings.drainTimeout } = options;
    validateDuration("startTimeout", startTimeout, 1);
    validateDuration("drainTimeout", drainTimeout);
    const restarted = this.#restarting.then(() => this.#restart({ startTimeout, drainTimeout }));
    this.#restarting = restarted.catch(() => {});
    await restarted;
  }

  async #restart(timeouts: Required<PoolRestartOptions>): Promise<void> {
    try {
      for (const place of this.#places) {
        if (this.#failure !== undefined) throw this.#failure;
        await place.replace(timeouts);
      }
    } catch (error) {
      if (!(error instanceof HandoffError)) throw error;
      throw new HandoffError(error.outcome, error.reason, errorAbout(NO_RESTART, { cause: error }));
    }
  }

  async #dispatch(
    socket: AnySocket,
    options: SendOptions,
    { attempts: most, maxQueue }: Pick<FilledPoolOptions, "attempts" | "maxQueue">,
  ): Promise<DispatchResult> {
    const { signal } = options;
    const tried = new Set<number>();
    let lastError: unknown;
    for (let attempts = 1;;) {
      const place = await this.#queue.pick({ tried, lastError, maxQueue, signal });
      const worker = { index: place.index, processId: place.processId };
      const began = performance.now();
      this.#counters.offered++;
      this.#inFlight++;
      try {
        const sending = place.send(socket, options);
        place.promised--;
        await sending;
        this.#counters.take(performance.now() - began);
        return { worker, attempts };
      } catch (error) {
        this.#counters.returned++;
        if (!(error instanceof HandoffError)) throw error;
        // A worker that takes no more sockets has not been offered this one.
        if (error.outcome !== "closed" && attempts++ >= most) throw error;
        if (worker.processId !== 0) tried.add(worker.processId);
        lastError = error;
      } finally {
        this.#inFlight--;
        this.#queue.assign();
      }
    }
  }

  /**
   * Ends the pool: refuses what waits, lets the workers take what is on its way and finish what they have, and ends
   * those that take longer.
   *
   * @param options `drainTimeout`: how long the workers may take, in milliseconds, from 0 to 2 147 483 647. Defaults to the
   * pool's `drainTimeout`.
   * @throws {RangeError} If the timeout is out of its range. The pool stays as it is.
   */
  async close(options: { drainTimeout?: number } = {}): Promise<void> {
    const drainTimeout = validateDuration("drainTimeout", options.drainTimeout ?? this.#settings.drainTimeout);
    await (this.#closing ??= this.#close(drainTimeout));
  }

  /**
   * The same as {@linkcode WorkerPool.close} with the pool's `drainTimeout`: responses that take longer are cut off.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Listens for an event of the pool.
   *
   * @typeParam Type The event's name.
   * @param type Which event: one of {@linkcode WorkerPoolEventMap}.
   * @param listener What is called with it.
   * @param options As for any `EventTarget`.
   */
  override addEventListener<Type extends string>(
    type: Type,
    listener: WorkerPoolListener<Type> | null,
    options?: boolean | AddEventListenerOptions,
  ): void {
    super.addEventListener(type, listener as EventListenerOrEventListenerObject | null, options);
  }

  /**
   * Listens no longer for an event of the pool.
   *
   * @typeParam Type The event's name.
   * @param type Which event.
   * @param listener What was called with it.
   * @param options As for any `EventTarget`.
   */
  override removeEventListener<Type extends string>(
    type: Type,
    listener: WorkerPoolListener<Type> | null,
    options?: boolean | EventListenerOptions,
  ): void {
    super.removeEventListener(type, listener as EventListenerOrEventListenerObject | null, options);
  }

  async #close(drainTimeout: number): Promise<void> {
    this.#over.abort();
    this.#ready.reject(poolClosed(errorAbout(NOT_READY)));
    this.#queue.close();
    await Promise.all(this.#places.map((place) => place.close(drainTimeout)));
    this.#settings.signal?.removeEventListener("abort", this.#abort);
    this.#closed.resolve(undefined);
  }

  #becomeReady(worker: WorkerInfo): void {
    this.#neverReady.delete(worker.index);
    if (this.#neverReady.size === 0) this.#ready.resolve();
    for (const accepting of this.#accepting) accepting.add(this.#places[worker.index]!);
    this.dispatchEvent(new WorkerEvent("workerready", worker));
  }

  #giveUp(worker: WorkerInfo): void {
    this.#neverReady.delete(worker.index);
    if (this.#places.every(({ alive }) => !alive)) {
      this.#failure = noWorker(errorAbout("The pool takes no more sockets"));
      this.#ready.reject(noWorker(errorAbout(NOT_READY)));
      this.#closed.resolve(this.#failure);
      this.#over.abort();
    } else if (this.#neverReady.size === 0) {
      this.#ready.resolve();
    }
    this.dispatchEvent(new WorkerEvent("workergiveup", worker));
  }
}
