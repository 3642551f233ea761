/**
 * The state of a pool, second by second.
 *
 * @module
 */
import type { Listener, Socket, WorkerPool, WorkerPoolStatistics, WorkerStatistics } from "@winsock/handoff";
import { Latency, Minute } from "./recent.ts";

/** The state of a version of the server. */
export type ServerState = "starting" | "serving" | "upgrading" | "draining" | "ended";

/** An event in the log. */
export interface LogEntry {
  /** The number of the event in this process. */
  readonly id: number;
  /** The time of the event, in milliseconds since 1970. */
  readonly at: number;
  readonly level: "good" | "plain" | "bad";
  readonly text: string;
}

/** The rate and the latency of hand-offs. */
export interface Activity {
  /**
   * The number of connections that workers got in each of the last 60 seconds, or fewer after the start. The latest is
   * last.
   */
  readonly perSecond: readonly number[];
  /**
   * The time from accepting a connection until a worker owns it, in milliseconds; `null` without recent connections,
   * and if the workers accept themselves.
   */
  readonly p50: number | null;
  readonly p99: number | null;
}

/** The data that the page shows. */
export interface Snapshot extends Activity {
  readonly version: number;
  readonly processId: number;
  readonly url: string;
  readonly state: ServerState;
  /** The time since the start, in seconds. */
  readonly uptime: number;
  readonly held: number;
  readonly inFlight: number;
  readonly waiting: number;
  readonly taken: number;
  readonly returned: number;
  /** The number of connections that were closed because no worker took them. */
  readonly refused: number;
  readonly workers: readonly (WorkerStatistics & Activity)[];
  readonly log: readonly LogEntry[];
}

const LOG_LENGTH = 50;

/** The identity of this process. */
export interface Server {
  readonly version: number;
  readonly predecessor: number | undefined;
  readonly url: string;
}

/** Hands connections off to a pool, or lets its workers accept them, and counts them. */
export class Monitor {
  /** Called when the state has changed. */
  onChange: () => void = () => {};

  readonly #pool: WorkerPool;
  readonly #server: Server;
  readonly #started = performance.now();
  readonly #all = newActivity();
  readonly #places: readonly ReturnType<typeof newActivity>[];
  readonly #log: LogEntry[] = [];
  #returned: number[] = [];
  /** The number of connections that each worker has accepted itself, as far as they are counted. */
  #accepted: number[] | undefined;
  #state: ServerState = "starting";
  #refused = 0;
  #entries = 0;

  constructor(pool: WorkerPool, server: Server) {
    this.#pool = pool;
    this.#server = server;
    this.#places = pool.statistics.workers.map(newActivity);
    pool.addEventListener("workerstart", () => this.onChange());
    pool.addEventListener("workerready", ({ worker }) => {
      if (this.#state !== "starting") {
        this.note("good", `Worker ${worker.index}, process ${worker.processId}, is ready`);
      }
    });
    pool.addEventListener("workerend", ({ worker, reason }) => {
      const name = `Worker ${worker.index}, process ${worker.processId}`;
      if (this.leaving) this.note("plain", `${name}, has finished`);
      else this.note("bad", `${name}, ended: ${reason}`);
    });
    pool.addEventListener("workergiveup", ({ worker }) => {
      this.note("bad", `Worker ${worker.index} cannot be kept running: it ended too often`);
    });
    const timer = setInterval(() => this.#tick(), 1_000);
    Deno.unrefTimer(timer);
  }

  get state(): ServerState {
    return this.#state;
  }

  /** Whether the next version serves. */
  get leaving(): boolean {
    return this.#state === "draining" || this.#state === "ended";
  }

  /** Changes the state of the server. */
  become(state: ServerState): void {
    const { version, predecessor } = this.#server;
    const before = this.#state;
    this.#state = state;
    if (state === "serving" && before === "starting") {
      const origin = predecessor === undefined ? "" : `, and takes over from process ${predecessor}`;
      this.note("good", `Version ${version}, process ${Deno.pid}, serves${origin}`);
    } else if (state === "upgrading") {
      this.note("plain", `Version ${version + 1} is starting`);
    } else if (state === "draining") {
      this.note("plain", `Version ${version} takes no more connections, and finishes those it has`);
    } else if (state === "ended") {
      this.note("plain", `Version ${version} has ended`);
    } else {
      this.onChange();
    }
  }

  note(level: LogEntry["level"], text: string): void {
    this.#log.push({ id: ++this.#entries, at: Date.now(), level, text });
    if (this.#log.length > LOG_LENGTH) this.#log.shift();
    this.onChange();
  }

  /** Hands a connection off to a worker, or closes it. */
  async dispatch(socket: Socket): Promise<void> {
    const began = performance.now();
    try {
      const { worker } = await this.#pool.dispatch(socket);
      const milliseconds = performance.now() - began;
      for (const { minute, latency } of [this.#all, this.#places[worker.index]!]) {
        minute.add();
        latency.add(milliseconds);
      }
    } catch (error) {
      socket.close();
      this.#refused++;
      this.note("bad", `A connection is refused: ${error instanceof Error ? error.message : error}`);
    }
  }

  /** Lets the workers accept themselves, until the pool is closed. */
  async share(listener: Listener): Promise<void> {
    this.#accepted = this.#places.map(() => 0);
    await this.#pool.serve(listener, { distribute: "listener" });
  }

  get statistics(): WorkerPoolStatistics {
    return this.#pool.statistics;
  }

  snapshot(): Snapshot {
    const { inFlight, waiting, taken, returned, workers } = this.#pool.statistics;
    return {
      version: this.#server.version,
      processId: Deno.pid,
      url: this.#server.url,
      state: this.#state,
      uptime: (performance.now() - this.#started) / 1_000,
      held: workers.reduce((sum, { held }) => sum + held, 0),
      inFlight,
      waiting,
      taken,
      returned,
      refused: this.#refused,
      ...activity(this.#all),
      workers: workers.map((worker, index) => ({ ...worker, ...activity(this.#places[index]!) })),
      log: this.#log,
    };
  }

  #tick(): void {
    this.#count();
    for (const { minute } of [this.#all, ...this.#places]) minute.tick();
    const returned = this.#pool.statistics.workers.map(({ returned }) => returned);
    for (const [index, count] of returned.entries()) {
      const more = count - (this.#returned[index] ?? 0);
      if (more === 0) continue;
      this.note("plain", `${more === 1 ? "A connection" : `${more} connections`} came back from worker ${index}`);
    }
    this.#returned = returned;
    this.onChange();
  }

  /** Counts the connections that the workers have accepted themselves. */
  #count(): void {
    if (this.#accepted === undefined) return;
    for (const [index, { taken }] of this.#pool.statistics.workers.entries()) {
      const more = taken - this.#accepted[index]!;
      this.#accepted[index] = taken;
      for (const { minute } of [this.#all, this.#places[index]!]) minute.add(more);
    }
  }
}

function newActivity() {
  return { minute: new Minute(), latency: new Latency() };
}

function activity({ minute, latency }: ReturnType<typeof newActivity>): Activity {
  return { perSecond: minute.seconds, ...latency.quantiles };
}
