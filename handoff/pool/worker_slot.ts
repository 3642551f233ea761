/**
 * The place of one worker in a pool: starting its process, restarting it after it has ended, and its output.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { killProcess, spawnWorkerCommand } from "../spawn.ts";
import type { PoolSettings, WorkerState, WorkerStatistics } from "./options.ts";
import type { AnySocket } from "../../sockets/duplicate_socket.ts";
import { HandoffError } from "../errors.ts";
import { HandoffSource, type SendOptions } from "../source.ts";

const NEWLINE = 10;
/** Longest line kept together, in bytes; a longer one is passed on in pieces of this size. */
const MAX_LINE = 64 * 1024;

/** Passes lines on, whole, each behind the prefix. Bytes are not looked into. */
export function prefixLines(prefix: string): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  const start = new TextEncoder().encode(prefix);
  let rest = new Uint8Array(0);
  return new TransformStream({
    transform(chunk, controller) {
      rest = concat([rest, chunk]);
      const lines: Uint8Array[] = [];
      for (let end = lineEnd(rest); end > 0; end = lineEnd(rest)) {
        lines.push(start, rest.subarray(0, end));
        rest = rest.subarray(end);
      }
      if (lines.length > 0) controller.enqueue(concat(lines));
    },
    flush(controller) {
      if (rest.byteLength > 0) controller.enqueue(concat([start, rest, Uint8Array.of(NEWLINE)]));
    },
  });
}

/** Where the first line ends, behind its newline; 0 if it does not yet. */
function lineEnd(bytes: Uint8Array): number {
  const end = bytes.indexOf(NEWLINE) + 1;
  return end === 0 && bytes.byteLength >= MAX_LINE ? MAX_LINE : end;
}

/** Spawns a worker for a place in the pool. */
async function spawnWorker(settings: PoolSettings, index: number): Promise<Deno.ChildProcess> {
  const { outputPrefix: prefix } = settings;
  const child = await spawnWorkerCommand(settings, { output: prefix === undefined ? "inherit" : "piped" });
  if (prefix !== undefined) {
    const text = prefixOf(prefix, child, index);
    passOn(child.stdout, text, stdout);
    passOn(child.stderr, text, stderr);
  }
  return child;
}

function prefixOf(prefix: NonNullable<PoolSettings["outputPrefix"]>, child: Deno.ChildProcess, index: number): string {
  try {
    return typeof prefix === "string" ? prefix : prefix({ index, processId: child.pid });
  } catch (error) {
    killProcess(child);
    throw error;
  }
}

/** One of this process's outputs, that several workers write whole lines to. */
class SharedOutput {
  readonly #output: { write(bytes: Uint8Array): Promise<number> };
  #last: Promise<void> = Promise.resolve();

  constructor(output: { write(bytes: Uint8Array): Promise<number> }) {
    this.#output = output;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#last = this.#last.then(async () => {
      for (let offset = 0; offset < bytes.byteLength;) offset += await this.#output.write(bytes.subarray(offset));
    }).catch(() => {});
  }
}

const stdout = new SharedOutput(Deno.stdout);
const stderr = new SharedOutput(Deno.stderr);

function passOn(from: ReadableStream<Uint8Array<ArrayBuffer>>, prefix: string, to: SharedOutput): void {
  from.pipeThrough(prefixLines(prefix)).pipeTo(new WritableStream({ write: (lines) => to.write(lines) }))
    .catch(() => {});
}

/** A worker that ends sooner than this after it was ready, or never was, counts as one that cannot stay. */
const SHORT_LIFE_MS = 1_000;

/** What a pool is told of a place. */
interface WorkerSlotEvents {
  /** It may be able to take a socket now, or never will again. */
  changed(): void;
  started(place: WorkerSlot): void;
  ready(place: WorkerSlot): void;
  ended(place: WorkerSlot, reason: string): void;
  givenUp(place: WorkerSlot): void;
}

/** One worker process. */
interface Worker {
  readonly child: Deno.ChildProcess;
  readonly source: HandoffSource;
}

/** Keeps one worker running. */
export class WorkerSlot {
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
  readonly #events: WorkerSlotEvents;
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

  constructor(index: number, settings: PoolSettings, events: WorkerSlotEvents) {
    this.index = index;
    this.#settings = settings;
    this.#events = events;
  }

  get load(): number {
    return (this.#worker === undefined ? 0 : this.#worker.source.held + this.#worker.source.inFlight) + this.promised;
  }

  /** Whether the worker can take one more socket now. */
  get free(): boolean {
    return this.state === "ready" && this.load < this.#settings.maxSocketsPerWorker && !this.#silent;
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
      return this.#clear(`it cannot be spawned: ${error instanceof Error ? error.message : error}`);
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
      killProcess(child);
      return this.#clear(`no channel to it can be opened: ${error instanceof Error ? error.message : error}`);
    }
    const worker = this.#worker = { child, source };
    this.state = "starting";
    this.#events.started(this);
    source.ready.then(() => this.#becomeReady(worker), () => {});
    source.closed.then((failure) => this.#leave(worker, failure));
  }

  /** Hands a socket to the worker. */
  async send(socket: AnySocket, options: SendOptions): Promise<void> {
    const worker = this.#worker;
    if (worker === undefined) throw new HandoffError("target-exited", "the worker has ended");
    const began = performance.now();
    try {
      await worker.source.send(socket, options);
      this.taken++;
    } catch (error) {
      this.returned++;
      if (error instanceof HandoffError && error.outcome === "timeout") this.#markUnresponsive(worker, began);
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
    for (const child of this.#running) killProcess(child);
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
  #markUnresponsive(worker: Worker, since: number): void {
    if (worker !== this.#worker || worker.source.lastHeard > since) return;
    this.#silentSince ??= since;
    const timer = setTimeout(() => {
      if (worker === this.#worker && this.#silent) killProcess(worker.child);
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
      child.status.then(() => this.#clear("the pool was closed"));
      return;
    }
    if (failure?.outcome === "channel-broken" || failure?.outcome === "timeout") killProcess(child);
    const deadline = setTimeout(() => killProcess(child), this.#settings.timeout);
    child.status.then(() => clearTimeout(deadline));
    this.#clear(failure?.reason ?? "it takes no more sockets");
  }

  /** The place is empty: a new worker takes it after a while. */
  #clear(reason: string): void {
    this.state = "ended";
    this.#events.ended(this, reason);
    this.#worker = undefined;
    this.processId = 0;
    if (this.#closed) return;
    const short = performance.now() - this.#readyAt < SHORT_LIFE_MS || this.#readyAt === Infinity;
    this.#shortLives = short ? this.#shortLives + 1 : 0;
    if (this.#shortLives > this.#settings.maxFailures) {
      this.state = "given-up";
      this.#events.givenUp(this);
      return this.#events.changed();
    }
    const delay = this.#settings.restartDelay * 2 ** Math.max(0, this.#shortLives - 1);
    this.#restart = setTimeout(() => this.start(), Math.min(delay, this.#settings.maxRestartDelay));
    this.#events.changed();
  }
}
