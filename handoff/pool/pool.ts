/**
 * A pool of worker processes.
 *
 * @module
 */
import type { PoolSettings, WorkerInfo, WorkerPoolOptions, WorkerPoolStatistics } from "./options.ts";
import { nodeBuiltin, validateDuration } from "../../internal/runtime.ts";
import { checkedTimeout, type SendOptions } from "../source.ts";
import { checkWorkerCommand } from "../spawn.ts";
import type { AnySocket } from "../../sockets/duplicate_socket.ts";
import { HandoffError } from "../errors.ts";
import { noWorker, poolClosed, Scheduler } from "./scheduler.ts";
import { WorkerSlot } from "./worker_slot.ts";

/** What happens to a pool's workers. */
export type WorkerEventType = "workerstart" | "workerready" | "workerend" | "workergiveup";

/** Something happened to a worker of a {@linkcode WorkerPool}. */
export class WorkerEvent extends Event {
  /** What happened. */
  declare readonly type: WorkerEventType;
  /** The worker. */
  readonly worker: WorkerInfo;
  /** Why it ended; empty for other events. */
  readonly reason: string;

  /**
   * Makes the event.
   *
   * @param type What happened.
   * @param worker To which worker.
   * @param reason Why.
   */
  constructor(type: WorkerEventType, worker: WorkerInfo, reason = "") {
    super(type);
    this.worker = worker;
    this.reason = reason;
  }
}

const NOT_READY = "The pool does not become ready";

/** Who got a socket, and after how many offers. */
export interface DispatchResult {
  /** The worker that owns the socket now. */
  readonly worker: WorkerInfo;
  /** How many workers it was offered to. */
  readonly attempts: number;
}

/** Fills in the defaults. Throws what is wrong with the options. */
function poolSettings(options: WorkerPoolOptions): PoolSettings {
  checkWorkerCommand(options);
  const settings: PoolSettings = {
    ...options,
    size: options.size ?? navigator.hardwareConcurrency,
    strategy: options.strategy ?? "least-loaded",
    maxSocketsPerWorker: options.maxSocketsPerWorker ?? 1024,
    maxQueue: options.maxQueue ?? 1024,
    attempts: options.attempts ?? 3,
    timeout: checkedTimeout(options.timeout ?? 10_000),
    restartDelay: validateDuration("The pool's restartDelay", options.restartDelay ?? 100),
    maxRestartDelay: validateDuration("The pool's maxRestartDelay", options.maxRestartDelay ?? 10_000),
    maxFailures: options.maxFailures ?? 10,
    trusted: options.trusted ?? true,
  };
  for (const name of ["size", "maxSocketsPerWorker", "attempts"] as const) atLeast(1, name, settings[name]);
  for (const name of ["maxQueue", "maxFailures"] as const) atLeast(0, name, settings[name]);
  return settings;
}

function atLeast(least: number, name: string, value: number): void {
  if (!(value >= least)) throw new RangeError(`The pool's ${name} is ${value}, not ${least} or more`);
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
 * A socket that a worker rejects, or that comes back because the worker died, is offered to another. A worker that ends
 * is replaced, the sooner the longer it has lived, by one that runs the program as it is on disk by then. A place whose
 * workers cannot stay is given up (`workergiveup`); when all are, {@linkcode WorkerPool.failed} tells. A worker that does not answer gets nothing more, and is ended when it
 * stays silent for as long as `timeout` again.
 *
 * What waits is bounded: `maxQueue` sockets here and `maxSocketsPerWorker` for each worker.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` for the workers' command: for a `script`, this
 * Deno's own path.
 *
 * @example Four workers behind one listener
 * ```ts ignore
 * import { listen, WorkerPool } from "@winsock/handoff";
 *
 * await using pool = new WorkerPool({ script: new URL("worker.ts", import.meta.url), size: 4, prefix: "worker: " });
 * using listener = listen({ port: 8080 });
 * for await (const socket of listener) {
 *   pool.dispatch(socket).catch(() => socket.close());
 * }
 * ```
 */
export class WorkerPool extends EventTarget implements AsyncDisposable {
  /**
   * Resolves when every place has had a worker that is ready, or was given up; rejects with a {@linkcode HandoffError} if all
   * were, or if the pool is closed first.
   */
  readonly ready: Promise<void>;
  /**
   * Resolves when the last place was given up, with a {@linkcode HandoffError} that says so (`target-exited`): from then on
   * `dispatch` rejects everything. A program that can do nothing else ends then, so that whoever watches it knows. Never
   * resolves while a worker can be kept running, nor once the pool is closed.
   */
  readonly failed: Promise<HandoffError>;

  readonly #settings: PoolSettings;
  readonly #places: WorkerSlot[];
  readonly #counters = new Counters();
  readonly #queue: Scheduler;
  readonly #ready = Promise.withResolvers<void>();
  readonly #failed = Promise.withResolvers<HandoffError>();
  readonly #neverReady: Set<WorkerSlot>;
  #inFlight = 0;
  #closing: Promise<void> | undefined;
  readonly #abort = () => {
    this.close({ timeout: 0 });
    for (const place of this.#places) place.kill();
  };

  /**
   * Makes the pool; the workers start right after.
   *
   * @param options How.
   * @throws {TypeError} If neither or both of `script` and `command` are given.
   * @throws {RangeError} If a number is out of its range.
   */
  constructor(options: WorkerPoolOptions) {
    super();
    this.#settings = poolSettings(options);
    this.ready = this.#ready.promise;
    this.ready.catch(() => {});
    this.failed = this.#failed.promise;
    const events = {
      changed: () => this.#queue.assign(),
      started: (place: WorkerSlot) => this.#tell("workerstart", place),
      ready: (place: WorkerSlot) => this.#becomeReady(place),
      ended: (place: WorkerSlot, reason: string) => this.#tell("workerend", place, reason),
      givenUp: (place: WorkerSlot) => this.#giveUp(place),
    };
    this.#places = Array.from(
      { length: this.#settings.size },
      (_, index) => new WorkerSlot(index, this.#settings, events),
    );
    this.#queue = new Scheduler(this.#places, this.#settings);
    this.#neverReady = new Set(this.#places);
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
      taken,
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
    const tried = new Set<number>();
    let lastError: unknown;
    for (let attempts = 1;;) {
      const place = await this.#queue.pick(tried, lastError, options.signal);
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
        if (error.outcome !== "closed" && attempts++ >= this.#settings.attempts) throw error;
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
   * @param options `timeout`: how long the workers may take, in milliseconds: from 0 to 2 147 483 647. Default 10 000.
   * @throws {RangeError} If the timeout is out of its range. The pool stays as it is.
   */
  async close(options: { timeout?: number } = {}): Promise<void> {
    const timeout = validateDuration("The pool's timeout", options.timeout ?? 10_000);
    await (this.#closing ??= this.#close(timeout));
  }

  /** The same as {@linkcode WorkerPool.close} with the default timeout: responses that take longer than 10 s are cut off. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Listens for what happens to the workers.
   *
   * @param type What.
   * @param listener What to do about it.
   * @param options As for any `EventTarget`.
   */
  override addEventListener(
    type: WorkerEventType,
    listener: (event: WorkerEvent) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /**
   * As for any `EventTarget`.
   *
   * @param type What.
   * @param listener What to do about it.
   * @param options How.
   */
  override addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(
    type: string,
    // deno-lint-ignore no-explicit-any -- what the declarations above allow
    listener: any,
    options?: boolean | AddEventListenerOptions,
  ): void {
    super.addEventListener(type, listener, options);
  }

  /**
   * Listens no longer for what happens to the workers.
   *
   * @param type What.
   * @param listener Who listened.
   * @param options As for any `EventTarget`.
   */
  override removeEventListener(
    type: WorkerEventType,
    listener: (event: WorkerEvent) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  /**
   * As for any `EventTarget`.
   *
   * @param type What.
   * @param listener Who listened.
   * @param options How.
   */
  override removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
  override removeEventListener(
    type: string,
    // deno-lint-ignore no-explicit-any -- what the declarations above allow
    listener: any,
    options?: boolean | EventListenerOptions,
  ): void {
    super.removeEventListener(type, listener, options);
  }

  async #close(timeout: number): Promise<void> {
    this.#ready.reject(poolClosed({ what: NOT_READY }));
    this.#queue.close();
    await Promise.all(this.#places.map((place) => place.close(timeout)));
    this.#settings.signal?.removeEventListener("abort", this.#abort);
  }

  #becomeReady(place: WorkerSlot): void {
    this.#neverReady.delete(place);
    if (this.#neverReady.size === 0) this.#ready.resolve();
    this.#tell("workerready", place);
  }

  #giveUp(place: WorkerSlot): void {
    this.#neverReady.delete(place);
    if (this.#places.every(({ alive }) => !alive)) {
      this.#ready.reject(noWorker({ what: NOT_READY }));
      this.#failed.resolve(noWorker({ what: "The pool takes no more sockets" }));
    } else if (this.#neverReady.size === 0) {
      this.#ready.resolve();
    }
    this.#tell("workergiveup", place);
  }

  #tell(type: WorkerEventType, { index, processId }: WorkerSlot, reason?: string): void {
    this.dispatchEvent(new WorkerEvent(type, { index, processId }, reason));
  }
}
