/**
 * One place of a pool, and the worker processes that take it one after the other.
 *
 * @module
 */
import type { SharedSocket } from "../../sockets/duplicate_socket.ts";
import { HandoffError } from "../errors.ts";
import type { SendOptions } from "../source.ts";
import { HandoffSource } from "../source.ts";
import { endProcess } from "../spawn.ts";
import type { PoolSettings } from "./options.ts";
import { spawnWorker } from "./spawn_worker.ts";
import type { WorkerState, WorkerStatistics } from "./statistics.ts";

/** A worker that ends sooner than this after it was ready, or never was, counts as one that cannot stay. */
const SHORT_LIFE_MS = 1_000;

/** What a pool is told of a place. */
export interface PlaceEvents {
  /** It may be able to take a socket now, or never will again. */
  changed(): void;
  started(place: Place): void;
  ready(place: Place): void;
  ended(place: Place, reason: string): void;
  givenUp(place: Place): void;
}

/** One worker process. */
interface Worker {
  readonly child: Deno.ChildProcess;
  readonly source: HandoffSource;
}

/** Keeps one worker running. */
export class Place {
  readonly index: number;
  /** Of the process that has the place; 0 while there is none. */
  processId = 0;
  state: WorkerState = "ended";
  taken = 0;
  returned = 0;
  restarts = -1;
  /** Sockets that were promised to this worker and are not on their way yet. */
  promised = 0;
  readonly #settings: PoolSettings;
  readonly #events: PlaceEvents;
  #worker: Worker | undefined;
  #readyAt = Infinity;
  #shortLives = 0;
  /** When an offer expired that nothing was heard after; until something is, the worker gets no more. */
  #silentSince: number | undefined;
  #starting: Promise<void> = Promise.resolve();
  #restart: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  /** All worker processes of this place that have not ended. */
  readonly #running = new Set<Deno.ChildProcess>();

  constructor(index: number, settings: PoolSettings, events: PlaceEvents) {
    this.index = index;
    this.#settings = settings;
    this.#events = events;
  }

  get load(): number {
    return (this.#worker === undefined ? 0 : this.#worker.source.held + this.#worker.source.inFlight) + this.promised;
  }

  /** Whether the worker can take one more socket now. */
  get free(): boolean {
    return this.state === "ready" && this.load < this.#settings.credit && !this.#silent;
  }

  /** Whether this place has, or will have, a worker. */
  get alive(): boolean {
    return !this.#closed && this.state !== "given-up";
  }

  get statistics(): WorkerStatistics {
    const { index, processId, state, taken, returned } = this;
    const { held = 0, inFlight = 0 } = this.#worker?.source ?? {};
    return { index, processId, state, held, inFlight, taken, returned, restarts: Math.max(0, this.restarts) };
  }

  /** Spawns a worker. */
  start(): void {
    this.#starting = this.#start();
  }

  async #start(): Promise<void> {
    this.#readyAt = Infinity;
    this.#silentSince = undefined;
    let child: Deno.ChildProcess;
    try {
      child = await spawnWorker(this.#settings, this.index);
    } catch (error) {
      return this.#vacate(`it cannot be spawned: ${error instanceof Error ? error.message : error}`);
    }
    this.processId = child.pid;
    this.#running.add(child);
    child.status.then(() => this.#running.delete(child));
    this.restarts++;
    let source: HandoffSource;
    try {
      source = new HandoffSource(child, {
        timeout: this.#settings.timeout,
        trusted: this.#settings.trusted,
        onRelease: () => this.#events.changed(),
      });
    } catch (error) {
      endProcess(child);
      return this.#vacate(`no channel to it can be opened: ${error instanceof Error ? error.message : error}`);
    }
    const worker = this.#worker = { child, source };
    this.state = "starting";
    this.#events.started(this);
    source.ready.then(() => this.#becomeReady(worker), () => {});
    source.closed.then((failure) => this.#leave(worker, failure));
  }

  /** Hands a socket to the worker. */
  async send(socket: SharedSocket, options: SendOptions): Promise<void> {
    const worker = this.#worker;
    if (worker === undefined) throw new HandoffError("target-exited", "the worker has ended");
    const began = performance.now();
    try {
      await worker.source.send(socket, options);
      this.taken++;
    } catch (error) {
      this.returned++;
      if (error instanceof HandoffError && error.outcome === "timeout") this.#suspect(worker, began);
      throw error;
    }
  }

  /** Lets the worker finish what it has, and ends it when that takes too long. */
  async close(timeout: number): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#restart);
    await this.#starting;
    const deadline = setTimeout(() => this.kill(), timeout);
    if (this.state === "starting") this.kill();
    await this.#worker?.source.close();
    await Promise.all([...this.#running].map((child) => child.status));
    clearTimeout(deadline);
  }

  /** Ends all processes of this place at once. */
  kill(): void {
    for (const child of this.#running) endProcess(child);
  }

  get #silent(): boolean {
    if (this.#silentSince === undefined) return false;
    if ((this.#worker?.source.lastHeard ?? 0) <= this.#silentSince) return true;
    this.#silentSince = undefined;
    return false;
  }

  #becomeReady(worker: Worker): void {
    if (worker !== this.#worker) return;
    this.state = "ready";
    this.#readyAt = performance.now();
    this.#events.ready(this);
    this.#events.changed();
  }

  /** A worker that let an offer expire gets nothing until it is heard of, and is ended if it is not for as long again. */
  #suspect(worker: Worker, since: number): void {
    if (worker !== this.#worker || worker.source.lastHeard > since) return;
    this.#silentSince ??= since;
    const timer = setTimeout(() => {
      if (worker === this.#worker && this.#silent) endProcess(worker.child);
      else this.#events.changed();
    }, this.#settings.timeout);
    Deno.unrefTimer(timer);
  }

  /** The channel is over. The worker may still have connections of its own to finish. */
  #leave(worker: Worker, failure: HandoffError | undefined): void {
    if (worker !== this.#worker) return;
    const { child } = worker;
    if (this.#closed) {
      this.state = "leaving";
      child.status.then(() => this.#vacate("the pool was closed"));
      return;
    }
    if (failure?.outcome === "channel-broken" || failure?.outcome === "timeout") endProcess(child);
    const deadline = setTimeout(() => endProcess(child), this.#settings.timeout);
    child.status.then(() => clearTimeout(deadline));
    this.#vacate(failure?.reason ?? "it takes no more sockets");
  }

  /** The place is empty: a new worker takes it after a while. */
  #vacate(reason: string): void {
    this.state = "ended";
    this.#events.ended(this, reason);
    this.#worker = undefined;
    this.processId = 0;
    if (this.#closed) return;
    const short = performance.now() - this.#readyAt < SHORT_LIFE_MS || this.#readyAt === Infinity;
    this.#shortLives = short ? this.#shortLives + 1 : 0;
    if (this.#shortLives > this.#settings.maxRestarts) {
      this.state = "given-up";
      this.#events.givenUp(this);
      return this.#events.changed();
    }
    const delay = this.#settings.restartDelay * 2 ** Math.max(0, this.#shortLives - 1);
    this.#restart = setTimeout(() => this.start(), Math.min(delay, this.#settings.maxRestartDelay));
    this.#events.changed();
  }
}
