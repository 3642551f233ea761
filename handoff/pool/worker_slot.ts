/**
 * A slot for one worker in a pool: starts its process, restarts it after it has ended, and forwards its output.
 *
 * @module
 */
import { check, STRING } from "../../internal/options.ts";
import { unreferenced } from "../../internal/runtime.ts";
import { describeExit, discardChild, killProcess, reserveOutput, spawnWorkerCommand } from "../spawn.ts";
import type {
  FilledPoolOptions,
  PoolRestartOptions,
  WorkerEnd,
  WorkerInfo,
  WorkerState,
  WorkerStatistics,
} from "./options.ts";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import type { Listener } from "../../sockets/listener.ts";
import type { SharedListener, ShareListenerOptions } from "../shared_listener.ts";
import type { AnySocket } from "../../sockets/duplicate_socket.ts";
import { errorMessage, HandoffError } from "../errors.ts";
import { HandoffSource, type MessageWithSocket, observe, onUnproven } from "../source.ts";
import type { PostMessageOptions, SendOptions } from "../outgoing.ts";
import type { WorkerOutput } from "./worker_output.ts";

/** Spawns a worker for a slot of the pool. */
async function spawnWorker(settings: FilledPoolOptions, index: number): Promise<Spawned> {
  const { outputPrefix: prefix } = settings;
  const release = prefix === undefined ? undefined : reserveOutput();
  if (prefix === undefined || release === undefined) {
    return { child: await spawnWorkerCommand(settings, { output: "inherit" }) };
  }
  let spawned = false;
  try {
    const { WorkerOutput } = await import("./worker_output.ts");
    const child = await spawnWorkerCommand(settings, { output: "piped" });
    spawned = true;
    child.status.then(release);
    return { child, output: new WorkerOutput(child, prefixOf(prefix, child, index), settings.trusted) };
  } finally {
    if (!spawned) release();
  }
}

/** A process that was spawned. */
interface Spawned {
  readonly child: Deno.ChildProcess;
  /** Its output, if the pool passes it on. */
  readonly output?: WorkerOutput;
}

function prefixOf(
  prefix: NonNullable<FilledPoolOptions["outputPrefix"]>,
  child: Deno.ChildProcess,
  index: number,
): string {
  try {
    const text = typeof prefix === "string" ? prefix : prefix({ index, processId: child.pid });
    check("outputPrefix", text, STRING);
    return text;
  } catch (error) {
    discardChild(child, { output: "piped" });
    throw error;
  }
}

function exitReason(processId: number, status: Deno.CommandStatus, output: WorkerOutput | undefined): string {
  const how = `process ${processId} ${describeExit(status)}`;
  const lastError = status.success ? "" : output?.lastError ?? "";
  return lastError === "" ? how : `${how}: ${lastError}`;
}

/**
 * The time below which the life of a worker counts as short, in milliseconds, from when it was ready. A worker that
 * never was ready counts as short-lived too.
 */
const SHORT_LIFE_MS = 1_000;
/** The reasons why a worker was ended. */
const [POOL_CLOSED, REPLACED, NOT_READY] = ["the pool was closed", "it was replaced", "it did not become ready"];
/**
 * The share of a worker's sockets that it says it has closed, and of which the source cannot see that, from which it is
 * replaced when it has no room.
 */
const MAX_UNPROVABLE = 1 / 2;

/** What a slot tells its pool. */
interface WorkerSlotEvents {
  /** Called when the slot may be able to take a socket, or will never be able to again. */
  changed(): void;
  started(worker: WorkerInfo): void;
  ready(worker: WorkerInfo): void;
  ended(worker: WorkerInfo, end: WorkerEnd): void;
  givenUp(worker: WorkerInfo): void;
  /** Called with a message of a worker. */
  message(worker: WorkerInfo, data: unknown): void;
  /** Called with a socket that a worker hands back. Resolves when another process has it, or it is closed. */
  returned(worker: WorkerInfo, message: MessageWithSocket): Promise<void>;
}

/** The number of sockets of one worker that are handed on at a time. Others stay with the worker. */
const MAX_RETURNED = 16;

/** Returns the error of a pool that takes no more sockets because it was closed. */
export function poolClosed(options?: ErrorOptions): HandoffError {
  return new HandoffError("closed", POOL_CLOSED, options);
}

/** One worker process. */
interface Worker {
  readonly child: Deno.ChildProcess;
  /** Resolves when the process has ended, its output was passed on, and the event of its end was emitted. */
  readonly ended: Promise<void>;
  readonly source: HandoffSource;
  readonly info: WorkerInfo;
  /** The reason why it is ended, if its exit code does not say so. */
  why: string | undefined;
}

/** Keeps one worker running. */
export class WorkerSlot {
  readonly index: number;
  state: WorkerState = "ended";
  taken = 0;
  returned = 0;
  restarts = -1;
  /** The number of sockets that are reserved for this worker and not yet in flight. */
  promised = 0;
  readonly #settings: FilledPoolOptions;
  readonly #events: WorkerSlotEvents;
  #worker: Worker | undefined;
  /** The listeners on which the slot's workers accept themselves. */
  readonly #shares = new Set<SharedListener>();
  /** The number of connections that the slot's workers accepted on earlier listeners. */
  #accepted = 0;
  #readyAt = Infinity;
  #shortLives = 0;
  /**
   * The time at which an offer expired, until the next message from the worker. The worker gets no more sockets until
   * then.
   */
  #silentSince: number | undefined;
  #starting: Promise<unknown> = Promise.resolve();
  #restart: ReturnType<typeof setTimeout> | undefined;
  /** Whether another worker is being started to replace the one in the slot. */
  #replacing = false;
  /** The worker that is being replaced because it has no room. */
  #usedUp: Worker | undefined;
  /** Settles when the slot can be given to another worker. */
  #turn: Promise<unknown> = Promise.resolve();
  /** The worker that is to replace the one in the slot, after it was spawned. */
  #candidate: Worker | undefined;
  #closed = false;
  /** All worker processes of this slot that have not ended, with the promise of {@linkcode Worker.ended}. */
  readonly #running = new Map<Deno.ChildProcess, Promise<void>>();

  constructor(index: number, settings: FilledPoolOptions, events: WorkerSlotEvents) {
    this.index = index;
    this.#settings = settings;
    this.#events = events;
  }

  /** The process id of the slot's worker; 0 if the slot is empty. */
  get processId(): number {
    return this.#worker?.info.processId ?? 0;
  }

  get load(): number {
    const source = this.#worker?.source;
    return (source === undefined ? 0 : observe(source).held + source.inFlight) + this.promised;
  }

  /** Whether a worker of this slot is about to end, or has ended. */
  isEnding(processId: number): boolean {
    return processId !== this.processId || this.state !== "ready" || this.#silent;
  }

  /** The number of further sockets that the worker can take now. */
  get room(): number {
    return this.state === "ready" && !this.#silent ? Math.max(0, this.#settings.maxSocketsPerWorker - this.load) : 0;
  }

  /** Whether the worker can take one more socket now. */
  get free(): boolean {
    return this.room > 0;
  }

  /** Whether this slot has, or will have, a worker. */
  get alive(): boolean {
    return !this.#closed && this.state !== "given-up";
  }

  /** The number of connections that workers of this slot have accepted themselves. */
  get accepted(): number {
    let accepted = this.#accepted;
    for (const share of this.#shares) accepted += share.accepted;
    return accepted;
  }

  get statistics(): WorkerStatistics {
    const { index, processId, state, returned } = this;
    const taken = this.taken + this.accepted;
    const source = this.#worker?.source;
    const held = source === undefined ? 0 : observe(source).held;
    const inFlight = source?.inFlight ?? 0;
    return { index, processId, state, held, inFlight, taken, returned, restarts: Math.max(0, this.restarts) };
  }

  /** Starts a worker in the slot, which is empty. */
  start(): void {
    this.#starting = this.#start();
  }

  async #start(): Promise<void> {
    this.#readyAt = Infinity;
    let worker: Worker;
    try {
      worker = await this.#spawn(this.#settings.startTimeout);
    } catch {
      // The event of its end has been emitted already.
      return this.#clear();
    }
    this.#settle(worker);
    worker.source.ready.then(() => this.#becomeReady(worker), () => {});
  }

  /**
   * Starts another worker, gives it the slot when it is ready, and lets the old worker finish and end.
   *
   * @throws {HandoffError} If the new worker does not become ready. The slot stays as it is.
   */
  async replace(timeouts: Required<PoolRestartOptions>): Promise<void> {
    // One at a time: the worker that is to be replaced is the one that has the slot then.
    const turn = this.#turn.then(() => this.#replace(timeouts));
    this.#turn = turn.catch(() => {});
    const before = await turn;
    if (before !== undefined) await this.#finish(before, timeouts.drainTimeout);
  }

  /** Gives the slot to another worker. Returns the one that had it, if that has sockets to finish. */
  async #replace({ startTimeout }: Required<PoolRestartOptions>): Promise<Worker | undefined> {
    await this.#starting;
    clearTimeout(this.#restart);
    this.#replacing = true;
    let worker: Worker;
    try {
      worker = await this.#prepare(startTimeout);
    } catch (error) {
      // The worker in the slot may have ended, meanwhile or before.
      if (this.state === "ended" && !this.#closed) this.#refill(performance.now() - this.#readyAt);
      throw error;
    } finally {
      this.#replacing = false;
      this.#candidate = undefined;
    }
    const before = this.#worker;
    const used = this.state === "ready";
    this.#shortLives = 0;
    this.#settle(worker);
    this.#becomeReady(worker);
    if (used) return before;
    if (before !== undefined) this.#end(before, REPLACED);
    return undefined;
  }

  /**
   * Replaces a worker that has no room because of sockets that it says it has closed, if it is not trusted and the system
   * does not tell whether that is true.
   */
  async #replaceUsedUp(worker: Worker): Promise<void> {
    const { maxSocketsPerWorker: most, startTimeout, drainTimeout, maxRestartDelay } = this.#settings;
    const isUsedUp = () => {
      const { held, unprovable } = observe(worker.source);
      return worker === this.#worker && held >= most && unprovable >= most * MAX_UNPROVABLE;
    };
    if (this.#usedUp === worker || !isUsedUp()) return;
    this.#usedUp = worker;
    while (isUsedUp() && !this.#closed) {
      try {
        return await this.replace({ startTimeout, drainTimeout });
      } catch {
        // The event of its end has been emitted. The worker that has the slot takes nothing until another one starts.
        await unreferenced(maxRestartDelay);
      }
    }
  }

  /** Starts a worker that is to get the slot, and waits until it is ready. */
  async #prepare(startTimeout: number): Promise<Worker> {
    if (this.#closed) throw poolClosed();
    const spawning = this.#spawn(startTimeout);
    this.#starting = spawning.then((worker) => this.#candidate = worker, () => {});
    let worker: Worker | undefined;
    try {
      worker = await spawning;
      await worker.source.ready;
      if (!this.#closed) return worker;
    } catch (error) {
      // A worker that ended by itself has a reason of its own.
      const ended = error instanceof HandoffError && error.outcome === "target-exited";
      if (worker !== undefined) this.#end(worker, ended ? undefined : NOT_READY);
      if (error instanceof HandoffError || this.#closed) throw this.#closed ? poolClosed() : error;
      throw new HandoffError("target-exited", errorMessage(error), { cause: error });
    }
    this.#end(worker, POOL_CLOSED);
    throw poolClosed();
  }

  /** Spawns a worker, which does not have the slot yet. */
  async #spawn(startTimeout: number): Promise<Worker> {
    const { index } = this;
    let spawned: Spawned;
    try {
      spawned = await spawnWorker(this.#settings, index);
    } catch (error) {
      const reason = `it cannot be spawned: ${error instanceof Error ? error.message : error}`;
      this.#events.ended({ index, processId: 0 }, { reason, exitCode: undefined, signal: undefined });
      throw error;
    }
    const { child, output } = spawned;
    const info = { index, processId: child.pid };
    let worker: Worker | undefined;
    let failure: string | undefined;
    const ended = child.status.then(async (status) => {
      // What it has printed last comes before the event, and may say why it has ended.
      await output?.end();
      this.#running.delete(child);
      const reason = worker?.why ?? failure ?? exitReason(child.pid, status, output);
      this.#events.ended(info, { reason, exitCode: status.code, signal: status.signal ?? undefined });
    });
    this.#running.set(child, ended);
    this.restarts++;
    try {
      const { sendTimeout, trusted } = this.#settings;
      const onRelease = () => this.#events.changed();
      const source = new HandoffSource(child, { startTimeout, sendTimeout, trusted, onRelease });
      const made: Worker = { child, ended, source, info, why: undefined };
      onUnproven(source, () => void this.#replaceUsedUp(made));
      worker = made;
    } catch (error) {
      failure = `no channel to it can be opened: ${error instanceof Error ? error.message : error}`;
      killProcess(child);
      await ended;
      throw error;
    }
    this.#events.started(info);
    this.#listen(worker);
    return worker;
  }

  /** Passes on what the worker hands back. */
  async #listen({ source, info }: Worker): Promise<void> {
    const handing = new Set<Promise<void>>();
    for await (const message of source.messages) {
      if (message.socket === undefined) {
        this.#events.message(info, message.data);
        continue;
      }
      const handed: Promise<void> = this.#events.returned(info, message).finally(() => handing.delete(handed));
      handing.add(handed);
      if (handing.size >= MAX_RETURNED) await Promise.race(handing);
    }
  }

  /** Sends a message to the worker. */
  async postMessage(message: unknown, options: PostMessageOptions): Promise<void> {
    if (this.#worker === undefined) throw new HandoffError("target-exited", "the worker has ended");
    await this.#worker.source.postMessage(message, options);
  }

  /** Gives the slot to a worker. */
  #settle(worker: Worker): void {
    this.#worker = worker;
    this.#silentSince = undefined;
    this.state = "starting";
    worker.source.closed.then((failure) => this.#leave(worker, failure));
  }

  /** Hands a socket off to the worker. */
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

  /** Lets the worker accept on a listener itself. Returns `undefined` if there is no worker that is ready. */
  async share(listener: Listener<SocketAddr>, options: ShareListenerOptions): Promise<SharedListener | undefined> {
    if (this.state !== "ready") return undefined;
    const share = await this.#worker?.source.shareListener(listener, options);
    if (share !== undefined) this.#shares.add(share);
    share?.stopped.then(() => {
      this.#shares.delete(share);
      this.#accepted += share.accepted;
    });
    return share;
  }

  /** Ends the worker because it does not answer, if it has this process id. */
  endSilent(processId: number, milliseconds: number): void {
    const worker = this.#worker;
    if (worker?.info.processId === processId) this.#end(worker, `it did not answer for ${milliseconds} ms`);
  }

  /** Lets the worker finish the sockets that it has, and ends it if that takes too long. */
  async close(timeout: number): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#restart);
    await this.#starting;
    const deadline = setTimeout(() => this.kill(), timeout);
    // Workers that are not ready have nothing to finish.
    if (this.#candidate !== undefined) this.#end(this.#candidate, POOL_CLOSED);
    if (this.#worker !== undefined && this.state === "starting") this.#end(this.#worker, POOL_CLOSED);
    await this.#worker?.source.close();
    await Promise.all(this.#running.values());
    clearTimeout(deadline);
  }

  /** Ends all processes of this slot at once. */
  kill(): void {
    for (const child of this.#running.keys()) killProcess(child);
  }

  get #silent(): boolean {
    if (this.#silentSince === undefined) return false;
    if (this.#worker === undefined || observe(this.#worker.source).lastHeard <= this.#silentSince) return true;
    this.#silentSince = undefined;
    return false;
  }

  #becomeReady(worker: Worker): void {
    if (worker !== this.#worker) return;
    this.state = "ready";
    this.#readyAt = performance.now();
    this.#events.ready(worker.info);
    this.#events.changed();
  }

  /**
   * Marks a worker that let an offer expire. It gets no more sockets until it is heard of. Its source ends it if it stays
   * silent for as long again.
   */
  #markUnresponsive(worker: Worker, since: number): void {
    if (worker !== this.#worker || observe(worker.source).lastHeard > since) return;
    const { sendTimeout } = this.#settings;
    this.#silentSince ??= since;
    Deno.unrefTimer(setTimeout(() => this.#events.changed(), sendTimeout));
  }

  /** Handles the end of the channel. The worker may still have connections of its own to finish. */
  #leave(worker: Worker, failure: HandoffError | undefined): void {
    if (worker !== this.#worker) return;
    const { child, ended } = worker;
    if (this.#closed) {
      this.state = "leaving";
      if (failure?.outcome !== "target-exited") worker.why ??= POOL_CLOSED;
      ended.then(() => this.#clear());
      return;
    }
    if (failure?.outcome !== "target-exited") worker.why ??= failure?.reason;
    if (failure?.outcome === "channel-broken" || failure?.outcome === "timeout") killProcess(child);
    this.#killAfter(child, this.#settings.drainTimeout);
    this.#clear(failure?.outcome === "target-exited" ? ended : undefined);
  }

  /** Lets a worker that has lost its slot finish the sockets that it has, and waits for its end. */
  async #finish(worker: Worker, drainTimeout: number): Promise<void> {
    worker.why ??= REPLACED;
    this.#killAfter(worker.child, drainTimeout);
    await worker.source.close();
    await worker.ended;
  }

  #end(worker: Worker, why: string | undefined): void {
    worker.why ??= why;
    killProcess(worker.child);
  }

  #killAfter(child: Deno.ChildProcess, milliseconds: number): void {
    const deadline = setTimeout(() => killProcess(child), milliseconds);
    child.status.then(() => clearTimeout(deadline));
  }

  /**
   * Empties the slot. A new worker gets it after a delay.
   *
   * @param ended Resolves when the event of the end of a process that has ended was emitted.
   */
  #clear(ended?: Promise<void>): void {
    this.state = "ended";
    this.#worker = undefined;
    const lived = performance.now() - this.#readyAt;
    const refill = () => {
      if (this.state === "ended" && !this.#closed && !this.#replacing) this.#refill(lived);
      this.#events.changed();
    };
    if (ended === undefined) return refill();
    this.#events.changed();
    ended.then(refill);
  }

  /** @param lived The time since the last worker of the slot was ready, in milliseconds; negative if it never was. */
  #refill(lived: number): void {
    const short = lived < SHORT_LIFE_MS;
    this.#shortLives = short ? this.#shortLives + 1 : 0;
    if (this.#shortLives > this.#settings.maxFailures) {
      this.state = "given-up";
      return this.#events.givenUp({ index: this.index, processId: 0 });
    }
    // The end of the last worker and the failure of its replacement can both refill the slot.
    clearTimeout(this.#restart);
    const delay = this.#settings.restartDelay * 2 ** Math.max(0, this.#shortLives - 1);
    this.#restart = setTimeout(() => this.start(), Math.min(delay, this.#settings.maxRestartDelay));
  }
}
