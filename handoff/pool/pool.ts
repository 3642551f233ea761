/**
 * A pool of worker processes.
 *
 * @module
 */
import type {
  ConnectionExtras,
  DispatchOptions,
  FilledPoolOptions,
  PoolMessageOptions,
  PoolRestartOptions,
  PoolServeOptions,
  WorkerEnd,
  WorkerEventType,
  WorkerInfo,
  WorkerPoolOptions,
  WorkerPoolStatistics,
} from "./options.ts";
import {
  BYTES,
  checkOptions,
  duration,
  either,
  FUNCTION,
  integer,
  limit,
  oneOf,
  SIGNAL,
  STRING,
} from "../../internal/options.ts";
import { nodeBuiltin, settleWithin } from "../../internal/runtime.ts";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import { INVALID_SOCKET } from "../../ffi/platform.ts";
import { type MessageWithSocket, sourceTimeouts } from "../source.ts";
import { checkWorkerCommand } from "../spawn.ts";
import { type AnySocket, kindOfSocket } from "../../sockets/duplicate_socket.ts";
import { holderOf } from "../../sockets/descriptor.ts";
import { acceptUntil, acceptWithRetry, type Listener, throwUnlessTransient } from "../../sockets/listener.ts";
import type { Socket } from "../../sockets/socket.ts";
import { errorAbout, HandoffError } from "../errors.ts";
import { SEND_RULES, type SendOptions } from "../outgoing.ts";
import { SHARE_LIMIT } from "../protocol.ts";
import { noWorker, Scheduler } from "./scheduler.ts";
import type { SharedAccepting } from "./shared_accepting.ts";
import { poolClosed, WorkerSlot } from "./worker_slot.ts";

const NOT_READY = "Cannot start the pool";
/** The number of workers of a slot that may end before the program counts as one that cannot start. */
const START_ATTEMPTS = 2;
const NO_RESTART = "Cannot restart the pool";
/** The time between two looks whether a worker is about to end, in milliseconds. Its words may come in any order. */
const HOLDER_LOOK_MS = 50;

/** The worker that took a socket, and the number of offers. */
export interface DispatchResult {
  /** The worker that owns the socket now. */
  readonly worker: WorkerInfo;
  /** The number of workers that the socket was offered to. */
  readonly attempts: number;
}

/** An event about a worker of a {@linkcode WorkerPool}. */
export class WorkerEvent extends Event {
  /** The name of the event. */
  declare readonly type: WorkerEventType;
  /** The worker. */
  readonly worker: WorkerInfo;
  /** The reason of a `workerend`: how the worker's process ended, or why the pool ended it. */
  readonly reason: string | undefined;
  /** The exit code of the worker's process, for `workerend`; `undefined` if there was no process. */
  readonly exitCode: number | undefined;
  /** The signal that ended the worker's process, for `workerend`, if a signal did. */
  readonly signal: Deno.Signal | undefined;

  /**
   * Creates the event.
   *
   * @param type The name of the event.
   * @param worker The worker.
   * @param end How the worker ended, for `workerend`.
   */
  constructor(type: WorkerEventType, worker: WorkerInfo, end: Partial<WorkerEnd> = {}) {
    super(type);
    this.worker = worker;
    this.reason = end.reason;
    this.exitCode = end.exitCode;
    this.signal = end.signal;
  }
}

/** A message of a worker: {@linkcode HandoffTarget.postMessage}. */
export class WorkerMessageEvent extends Event {
  /** The worker. */
  readonly worker: WorkerInfo;
  /** The message: any JSON value. */
  readonly data: unknown;

  /**
   * Creates the event.
   *
   * @param type `workermessage`.
   * @param worker The worker.
   * @param data The message.
   */
  constructor(type: "workermessage", worker: WorkerInfo, data: unknown) {
    super(type);
    this.worker = worker;
    this.data = data;
  }
}

/**
 * The event of a connection that the pool has closed, because no worker took it: one that {@linkcode WorkerPool.serve}
 * accepted, or that a worker handed back.
 */
export class ConnectionDropEvent extends Event {
  /** The reason: a {@linkcode HandoffError}, or the error that prevented the connection from being offered. */
  readonly error: unknown;

  /**
   * Creates the event.
   *
   * @param type `connectiondrop`.
   * @param error The reason why the connection was closed.
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
  /** A worker is ready to take sockets. */
  workerready: WorkerEvent;
  /** The process of a worker has ended, or could not be started. */
  workerend: WorkerEvent & { readonly reason: string };
  /** Too many workers of one slot ended soon after their start: the pool abandons the slot, which stays empty. */
  workergiveup: WorkerEvent;
  /**
   * No worker has room. Sockets wait, and {@linkcode WorkerPool.serve} accepts no more, so that clients wait in the
   * listener's backlog. There is no such event before the first worker is ready.
   */
  poolfull: Event;
  /** Follows `poolfull` when a worker has room again and no socket waits. */
  poolfree: Event;
  /** A worker has sent a message. */
  workermessage: WorkerMessageEvent;
  /** The pool has closed a connection that it accepted, or that a worker handed back, and that no worker took. */
  connectiondrop: ConnectionDropEvent;
}

/**
 * The type of a listener of an event of a {@linkcode WorkerPool}.
 *
 * @typeParam Type The name of the event.
 */
export type WorkerPoolListener<Type extends string> = [Type] extends [keyof WorkerPoolEventMap] ?
    | ((event: WorkerPoolEventMap[Type & keyof WorkerPoolEventMap]) => unknown)
    | { handleEvent(event: WorkerPoolEventMap[Type & keyof WorkerPoolEventMap]): unknown }
  : EventListenerOrEventListenerObject;

/** The most workers of a pool: more processes are a mistake, such as a number in another unit. */
const MAX_SIZE = 1_024;
const DISTRIBUTE = oneOf("connections", "listener");

/** Returns the options with their defaults. Throws if the options are not valid. */
function filledOptions(options: WorkerPoolOptions): FilledPoolOptions {
  checkWorkerCommand(options);
  checkOptions(options, {
    size: integer(1, MAX_SIZE),
    strategy: oneOf("least-loaded", "round-robin"),
    maxSocketsPerWorker: SHARE_LIMIT,
    maxQueue: limit(0),
    attempts: limit(1),
    queueTimeout: duration(1),
    drainTimeout: duration(0),
    restartDelay: duration(0),
    maxRestartDelay: duration(0),
    maxFailures: limit(0),
    onReturn: FUNCTION,
    outputPrefix: either(STRING, FUNCTION),
    signal: SIGNAL,
  });
  const settings: FilledPoolOptions = {
    ...options,
    ...sourceTimeouts(options),
    size: options.size ?? navigator.hardwareConcurrency,
    strategy: options.strategy ?? "least-loaded",
    maxSocketsPerWorker: options.maxSocketsPerWorker ?? 10_000,
    maxQueue: options.maxQueue ?? 1024,
    attempts: options.attempts ?? 3,
    queueTimeout: options.queueTimeout ?? 10_000,
    drainTimeout: options.drainTimeout ?? 10_000,
    restartDelay: options.restartDelay ?? 100,
    maxRestartDelay: options.maxRestartDelay ?? 10_000,
    maxFailures: options.maxFailures ?? 10,
    trusted: options.trusted ?? true,
  };
  return settings;
}

/** Counts offers in constant memory. */
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
 * Keeps worker processes running and hands sockets off to them.
 *
 * A socket that a worker rejects, or that comes back because the worker ended, is offered to another worker. A worker
 * that ends is replaced by a new one, which loads the program from disk again. The delay before that doubles for
 * workers that end within a second. If the workers of a slot cannot be kept running, the pool abandons the slot
 * (`workergiveup`). If this happens to all slots, {@linkcode WorkerPool.closed} resolves with an error. A worker that
 * does not answer gets no more sockets. It is ended if it stays silent for as long as `sendTimeout` again.
 *
 * The number of waiting sockets is limited: `maxQueue` in this process and `maxSocketsPerWorker` for each worker.
 * {@linkcode WorkerPoolEventMap} lists the pool's events.
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
   * A promise that resolves when every slot has had a worker that was ready, or was abandoned. It rejects with a
   * {@linkcode HandoffError} if the pool is closed first, or if the program cannot start: the first two workers of a
   * slot ended before they were ready, and no worker of the pool was ready. The error has the reason of the last one:
   * its exit code and, with an `outputPrefix`, a line of its standard error. The pool tries again until all slots are
   * abandoned: {@linkcode WorkerPool.closed} then resolves.
   */
  readonly ready: Promise<void>;
  /**
   * A promise that resolves when the pool can do nothing more; it never rejects. It resolves with `undefined` when the
   * pool was closed and its workers have ended. It resolves with a {@linkcode HandoffError} (`target-exited`) when the
   * last slot was abandoned; from then on `dispatch` rejects every socket. A program that needs the pool should then
   * exit, so that its service manager can start it again.
   */
  readonly closed: Promise<HandoffError | undefined>;

  readonly #settings: FilledPoolOptions;
  readonly #slots: WorkerSlot[];
  readonly #counters = new Counters();
  readonly #queue: Scheduler;
  readonly #ready = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<HandoffError | undefined>();
  /** Aborted when no more connections are to be accepted. */
  readonly #over = new AbortController();
  /** The listeners on which the workers accept themselves. */
  readonly #accepting = new Set<SharedAccepting>();
  #restarting: Promise<void> = Promise.resolve();
  /** The slots that have not yet had a worker that was ready. */
  readonly #neverReady: Set<number>;
  /** The number of workers of each slot that have ended, while no worker has been ready. */
  readonly #endedEarly: number[];
  #inFlight = 0;
  #closing: Promise<void> | undefined;
  /** The reason why the pool can do nothing more, if it was not closed. */
  #failure: HandoffError | undefined;
  readonly #abort = () => {
    this.close({ drainTimeout: 0 });
    for (const slot of this.#slots) slot.kill();
  };

  /**
   * Creates the pool. The workers start right after that.
   *
   * @param options What the workers run, and the settings of the pool.
   * @throws {TypeError} If neither or both of `script` and `command` are given; for a `script`, if this program is
   * compiled, so that there is no Deno to run it.
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
      ended: (worker: WorkerInfo, end: WorkerEnd) => this.#ended(worker, end),
      givenUp: (worker: WorkerInfo) => this.#giveUp(worker),
      message: (worker: WorkerInfo, data: unknown) =>
        void this.dispatchEvent(new WorkerMessageEvent("workermessage", worker, data)),
      returned: (worker: WorkerInfo, message: MessageWithSocket) => this.#handOn(worker, message),
    };
    this.#slots = Array.from(
      { length: this.#settings.size },
      (_, index) => new WorkerSlot(index, this.#settings, events),
    );
    this.#queue = new Scheduler(
      this.#slots,
      this.#settings,
      (full) => void this.dispatchEvent(new Event(full ? "poolfull" : "poolfree")),
    );
    this.#neverReady = new Set(this.#slots.keys());
    this.#endedEarly = this.#slots.map(() => 0);
    this.#settings.signal?.addEventListener("abort", this.#abort);
    if (this.#settings.signal?.aborted) this.#abort();
    // Later, so that the caller can add event listeners first.
    queueMicrotask(() => {
      if (this.#closing !== undefined) return;
      for (const slot of this.#slots) slot.start();
    });
  }

  /** The statistics of the pool. */
  get statistics(): WorkerPoolStatistics {
    const { offered, taken, returned, timeToTake } = this.#counters;
    const workers = this.#slots.map(({ statistics }) => statistics);
    return {
      offered,
      taken: this.#slots.reduce((sum, { accepted }) => sum + accepted, taken),
      returned,
      inFlight: this.#inFlight,
      waiting: this.#queue.size,
      timeToTake,
      workers,
    };
  }

  /**
   * Hands a socket off to a worker, and to another worker if the first does not take it.
   *
   * @param socket The socket. When the promise resolves, a worker owns the socket, and it is closed in this process. If
   * the promise rejects, the socket is unchanged.
   * @param options What is sent together with the socket.
   * @returns The worker that owns the socket.
   * @throws {HandoffError} If no worker took it, with the reason of the last one; if a worker that is not `trusted` may
   * have it and goes on running, with its reason; if too many wait already
   * (`overloaded`); if no worker had room in time (`timeout`); if the pool is closed (`closed`).
   * @throws {WinsockError} If the socket cannot be shared: WSAENOTSOCK if it was closed or released.
   * @throws {TypeError} If the socket is being handed off already, or `data` is not JSON.
   * @throws {RangeError} If `data` or the initial bytes are too long, or there is no slot `worker`.
   * @throws The signal's reason, if it is aborted first.
   */
  async dispatch(socket: AnySocket, options: DispatchOptions = {}): Promise<DispatchResult> {
    checkOptions(options, { ...SEND_RULES, worker: integer(0) });
    kindOfSocket(socket);
    return await this.#dispatch(socket, options, this.#settings);
  }

  /**
   * Sends a message to one worker, or to all workers that are ready. Their programs get it from {@linkcode
   * HandoffTarget.messages}.
   *
   * @param message The message: any JSON value, at most 1 MiB.
   * @param options The worker, and the signal that withdraws the message.
   * @returns Resolves when the programs of these workers have got the message.
   * @throws {HandoffError} If a worker has not got it. All others have got it, or the first error is about one of them.
   * @throws {TypeError} If JSON cannot express the message.
   * @throws {RangeError} If the message is too long, or there is no slot `worker`.
   * @throws The signal's reason, if it is aborted first.
   */
  async postMessage(message: unknown, options: PoolMessageOptions = {}): Promise<void> {
    checkOptions(options, { signal: SIGNAL, worker: integer(0) });
    const { worker } = options;
    const slots = worker === undefined ? this.#slots.filter(({ state }) => state === "ready") : [this.#placeOf(worker)];
    const posted = await Promise.allSettled(slots.map((slot) => slot.postMessage(message, options)));
    for (const result of posted) if (result.status === "rejected") throw result.reason;
  }

  #placeOf(worker: number): WorkerSlot {
    const slot = this.#slots[worker];
    if (slot !== undefined) return slot;
    throw new RangeError(`Invalid \`worker\`: must be from 0 to ${this.#slots.length - 1}, got ${worker}`);
  }

  /** Hands a socket on that a worker has handed back, to another worker if there is one. */
  async #handOn(info: WorkerInfo, { socket, data }: MessageWithSocket): Promise<void> {
    try {
      const extras = await this.#settings.onReturn?.({ socket, data, worker: info }) ?? { data };
      if (socket.handle === INVALID_SOCKET) return;
      await this.#dispatch(socket, extras, { attempts: Infinity, maxQueue: Infinity }, info.processId);
    } catch (error) {
      socket.close();
      this.dispatchEvent(new ConnectionDropEvent("connectiondrop", error));
    }
  }

  /**
   * Accepts connections and hands each off to a worker, until the listener or the pool is closed. With `distribute:
   * "listener"` the workers accept themselves.
   *
   * While no worker has room, no connection is accepted, so that clients wait in the listener's backlog. The event
   * `poolfull` marks the beginning of this, and `poolfree` the end. A connection that a worker does not take is offered
   * to other workers. A connection is closed if no worker takes it, or if no worker had room within `queueTimeout`; the
   * event `connectiondrop` has the reason. These events are not emitted while workers accept themselves.
   *
   * @param listener The listener. It stays open, and nothing else should accept on it meanwhile.
   * @param options What is sent with each connection, and the other options.
   * @returns Resolves when the listener or the pool is closed, or the signal is aborted, and each connection that was
   * accepted belongs to a worker or is closed.
   * @throws {HandoffError} `target-exited` if no worker of the pool can be kept running.
   * @throws {WinsockError} If the system cannot accept. If the reason is a shortage of descriptors or memory, this does
   * not throw but waits.
   */
  async serve(listener: Listener<SocketAddr>, options: PoolServeOptions = {}): Promise<void> {
    checkOptions(options, {
      distribute: DISTRIBUTE,
      initialBytes: BYTES,
      onConnection: FUNCTION,
      signal: SIGNAL,
    });
    if (kindOfSocket(listener) !== "listener") throw new TypeError("Invalid `listener`: must be a Listener");
    const { signal: stop = this.#over.signal, distribute = "connections" } = options;
    const signal = AbortSignal.any([this.#over.signal, stop]);
    if (distribute === "listener") return await this.#share(listener, options, signal);
    const handing = new Set<Promise<void>>();
    const calls = new Set<Promise<unknown>>();
    try {
      for (;;) {
        while (calls.size > 0 && calls.size >= this.#settings.maxQueue) await Promise.race(calls);
        // Each call is about a connection that needs room in a worker after the call.
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

  /** Lets every worker accept itself. */
  async #share(listener: Listener<SocketAddr>, options: PoolServeOptions, signal: AbortSignal): Promise<void> {
    if (options.onConnection !== undefined || options.initialBytes !== undefined) {
      throw new TypeError("Invalid `distribute`: `onConnection` and `initialBytes` need connections, got listener");
    }
    if (!this.#settings.trusted) {
      throw new TypeError("Invalid `distribute`: workers that are not trusted need connections, got listener");
    }
    const { SharedAccepting } = await import("./shared_accepting.ts");
    const { maxSocketsPerWorker: limit, sendTimeout: timeout } = this.#settings;
    const accepting = new SharedAccepting(listener, this.#slots, { data: options.data, limit, timeout });
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
    // The signal ends accepting. It does not withdraw what was accepted.
    const { signal: _signal, ...sent } = options;
    let extras: ConnectionExtras | void = sent;
    try {
      if (options.onConnection !== undefined) {
        const call = Promise.resolve(options.onConnection(socket)).finally(() => calls.delete(settled));
        const settled: Promise<unknown> = call.catch(() => {});
        calls.add(settled);
        extras = await call ?? sent;
        if (socket.handle === INVALID_SOCKET) return;
      }
      await this.#dispatch(socket, extras, { attempts: Infinity, maxQueue: Infinity });
    } catch (error) {
      socket.close();
      this.dispatchEvent(new ConnectionDropEvent("connectiondrop", error));
    } finally {
      this.#queue.assign();
    }
  }

  /**
   * Replaces the workers one after the other by workers that load the program from disk again. For each one it starts a
   * new worker, waits until it is ready, and hands further sockets off to it. The old worker finishes the sockets that
   * it has. No socket is lost, and each slot always has a worker that takes sockets. An abandoned slot gets a worker
   * again.
   *
   * One restart is under way at a time. Another call waits for it.
   *
   * @param options The time that the new workers may take to start, and the old ones to finish.
   * @returns Resolves when all workers are new, and the old ones have ended.
   * @throws {HandoffError} If a new worker does not become ready. That worker is ended, its slot keeps the worker that
   * it has, and the workers of the slots after it are not replaced. `closed` if the pool is closed.
   * @throws {RangeError} If a timeout is out of its range.
   */
  async restart(options: PoolRestartOptions = {}): Promise<void> {
    checkOptions(options, { startTimeout: duration(1), drainTimeout: duration(0) });
    const { startTimeout = this.#settings.startTimeout, drainTimeout = this.#settings.drainTimeout } = options;
    const restarted = this.#restarting.then(() => this.#restart({ startTimeout, drainTimeout }));
    this.#restarting = restarted.catch(() => {});
    await restarted;
  }

  async #restart(timeouts: Required<PoolRestartOptions>): Promise<void> {
    let replaced = 0;
    try {
      for (const slot of this.#slots) {
        if (this.#failure !== undefined) throw this.#failure;
        await slot.replace(timeouts);
        replaced++;
      }
    } catch (error) {
      if (!(error instanceof HandoffError)) throw error;
      const progress = `${replaced} of ${this.#slots.length} workers were replaced`;
      throw new HandoffError(error.outcome, `${error.reason}; ${progress}`, errorAbout(NO_RESTART, { cause: error }));
    }
  }

  async #dispatch(
    socket: AnySocket,
    { data, initialBytes, worker: only, signal }: DispatchOptions,
    { attempts: most, maxQueue }: Pick<FilledPoolOptions, "attempts" | "maxQueue">,
    avoid?: number,
  ): Promise<DispatchResult> {
    if (only !== undefined) this.#placeOf(only);
    const options: SendOptions = { data };
    if (initialBytes !== undefined) options.initialBytes = initialBytes;
    if (signal !== undefined) options.signal = signal;
    const tried = new Set<number>();
    let lastError: unknown;
    for (let attempts = 1;;) {
      const slot = await this.#queue.pick({ tried, lastError, worker: only, avoid, maxQueue, signal });
      const worker = { index: slot.index, processId: slot.processId };
      const began = performance.now();
      this.#counters.offered++;
      this.#inFlight++;
      try {
        const sending = slot.send(socket, options);
        slot.promised--;
        await sending;
        this.#counters.take(performance.now() - began);
        return { worker, attempts };
      } catch (error) {
        this.#counters.returned++;
        if (!(error instanceof HandoffError)) throw error;
        if (!await mayPassOn(socket, slot)) throw error;
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
   * Ends the pool. It refuses the sockets that wait, lets the workers take those in flight and finish those that they
   * have, and ends the workers that take too long.
   *
   * @param options `drainTimeout`: the time that the workers may take, in milliseconds, from 0 to 2 147 483 647.
   * Defaults to the pool's `drainTimeout`.
   * @throws {RangeError} If the timeout is out of its range. The pool stays as it is.
   */
  async close(options: { drainTimeout?: number } = {}): Promise<void> {
    checkOptions(options, { drainTimeout: duration(0) });
    const { drainTimeout = this.#settings.drainTimeout } = options;
    await (this.#closing ??= this.#close(drainTimeout));
  }

  /** Calls {@linkcode WorkerPool.close} with the pool's `drainTimeout`. Responses that take longer are cut off. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Adds a listener of an event of the pool.
   *
   * @typeParam Type The name of the event.
   * @param type The name of the event: one of {@linkcode WorkerPoolEventMap}.
   * @param listener The function or object that is called with the event.
   * @param options The same as for any `EventTarget`.
   */
  override addEventListener<Type extends string>(
    type: Type,
    listener: WorkerPoolListener<Type> | null,
    options?: boolean | AddEventListenerOptions,
  ): void {
    super.addEventListener(type, listener as EventListenerOrEventListenerObject | null, options);
  }

  /**
   * Removes a listener of an event of the pool.
   *
   * @typeParam Type The name of the event.
   * @param type The name of the event.
   * @param listener The function or object that was added.
   * @param options The same as for any `EventTarget`.
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
    await Promise.all(this.#slots.map((slot) => slot.close(drainTimeout)));
    this.#settings.signal?.removeEventListener("abort", this.#abort);
    this.#closed.resolve(undefined);
  }

  #becomeReady(worker: WorkerInfo): void {
    this.#neverReady.delete(worker.index);
    if (this.#neverReady.size === 0) this.#ready.resolve();
    for (const accepting of this.#accepting) accepting.add(this.#slots[worker.index]!);
    this.dispatchEvent(new WorkerEvent("workerready", worker));
  }

  #ended(worker: WorkerInfo, end: WorkerEnd): void {
    this.#endedEarly[worker.index]!++;
    if (this.#neverReady.size === this.#slots.length && this.#endedEarly[worker.index]! >= START_ATTEMPTS) {
      this.#ready.reject(new HandoffError("target-exited", end.reason, errorAbout(NOT_READY)));
    }
    this.dispatchEvent(new WorkerEvent("workerend", worker, end));
  }

  #giveUp(worker: WorkerInfo): void {
    this.#neverReady.delete(worker.index);
    if (this.#slots.every(({ alive }) => !alive)) {
      this.#failure = noWorker(errorAbout("Cannot keep the pool running"));
      this.#ready.reject(noWorker(errorAbout(NOT_READY)));
      this.#closed.resolve(this.#failure);
      this.#over.abort();
    } else if (this.#neverReady.size === 0) {
      this.#ready.resolve();
    }
    this.dispatchEvent(new WorkerEvent("workergiveup", worker));
  }
}

/**
 * Waits until no worker that is not trusted can have a socket that came back. Returns `false` if such a worker goes on
 * running.
 */
async function mayPassOn(socket: AnySocket, slot: WorkerSlot): Promise<boolean> {
  for (let holder = holderOf(socket); holder !== undefined; holder = holderOf(socket)) {
    await settleWithin(holder.ended, HOLDER_LOOK_MS);
    if (!holder.over && !slot.isEnding(holder.processId)) return false;
  }
  return true;
}
