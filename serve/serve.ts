/**
 * A server of several processes: one that has the listening socket, and workers that answer.
 *
 * @module
 */
import { pathToFileURL } from "node:url";
import { validateDuration } from "../internal/runtime.ts";
import type { WorkerPoolStatistics } from "../handoff/pool/options.ts";
import { errorAbout, HandoffError } from "../handoff/errors.ts";
import { WorkerPool } from "../handoff/pool/pool.ts";
import { inherit, type ServerVersion } from "../handoff/upgrade/server_version.ts";
import { upgrade } from "../handoff/upgrade/upgrade.ts";
import { onUpgradeRequest } from "../handoff/upgrade/upgrade_requests.ts";
import { listen, type Listener } from "../sockets/listener.ts";
import type { WorkerSettings } from "./worker.ts";

/** How {@linkcode serve} serves. */
export interface ServeOptions {
  /**
   * The module to serve, such as one for `deno serve`: its default export has a `fetch` function, and may have `onListen` and
   * `onError`. A path is relative to the current directory. Each worker loads it anew, so {@linkcode AppServer.restart} brings
   * what is on disk by then.
   */
  main: string | URL;
  /** The address to listen at. Defaults to `"0.0.0.0"`. */
  hostname?: string;
  /** The port to listen at; 0 for any that is free. Defaults to `8000`. */
  port?: number;
  /** The number of workers. Defaults to the number of processors. */
  workers?: number;
  /**
   * How connections get to the workers, as {@linkcode PoolServeOptions.distribute} has it. Defaults to `"listener"`: every
   * worker accepts for itself, which costs less than half of the time for each connection.
   */
  distribute?: "connections" | "listener";
  /**
   * Flags of `deno run` for the workers, such as `["--allow-net=api.example.com"]`. They get ffi access to the system's
   * socket library besides, and no other permission.
   */
  denoFlags?: readonly string[];
  /** Arguments of the workers (`Deno.args`). Defaults to none. */
  args?: readonly string[];
  /** What each line of a worker's output begins with. Defaults to the worker's number in brackets. */
  outputPrefix?: string | ((worker: { readonly index: number }) => string);
  /** How long a worker may take to load the module, in milliseconds. Defaults to `60_000`. */
  startTimeout?: number;
  /** How long a worker may take to finish its responses before it is ended, in milliseconds. Defaults to `10_000`. */
  drainTimeout?: number;
  /**
   * A file that lets `handoff upgrade FILE` replace the whole server, this process included, by a new version. Its program is
   * this process's main module with the same arguments. Needs `--allow-read` and `--allow-write` for the file, and
   * `--allow-env=WINSOCK_HANDOFF_PREDECESSOR`.
   */
  controlFile?: string;
  /** A listening socket to serve on in place of `hostname` and `port`, such as one of systemd's. */
  listener?: Listener;
  /** Told when a worker starts, ends or cannot be kept running. */
  onWorker?: (line: string) => void;
}

const SOCKET_NAME = "http";
/** The part of a worker's time to drain that its own responses get. */
const RESPONSE_SHARE = 0.9;

/** What a server is made of. */
interface ServerParts {
  readonly pool: WorkerPool;
  readonly listener: Listener;
  /** Settles when no more connections are taken: rejects if no worker can be kept running, or the system cannot accept. */
  readonly serving: Promise<void>;
  readonly addr: Deno.NetAddr;
  /** Ends listening for requests to upgrade. */
  readonly requests: Disposable | undefined;
}

/** A running server that {@linkcode serve} has started. */
export class AppServer implements AsyncDisposable {
  /** Where it listens. */
  readonly addr: Deno.NetAddr;
  /**
   * Resolves when the server has ended: after {@linkcode AppServer.shutdown}, or after an upgrade, when a new version serves.
   * Rejects with a {@linkcode HandoffError} if no worker can be kept running, and with the system's error if it cannot
   * accept.
   */
  readonly finished: Promise<void>;
  readonly #pool: WorkerPool;
  readonly #listener: Listener;
  readonly #requests: Disposable | undefined;
  #closing: Promise<void> | undefined;

  /** @ignore Made by {@linkcode serve}. */
  constructor({ pool, listener, serving, addr, requests }: ServerParts) {
    this.#pool = pool;
    this.#listener = listener;
    this.addr = addr;
    this.#requests = requests;
    this.finished = this.#finish(serving);
    this.finished.catch(() => {});
  }

  /** What the workers have done so far. */
  get statistics(): WorkerPoolStatistics {
    return this.#pool.statistics;
  }

  /**
   * Replaces the workers one after the other by ones that load the module anew. No request is refused or cut off that ends
   * within the `drainTimeout`.
   *
   * @returns Resolves when all are replaced.
   * @throws {HandoffError} If a new worker does not become ready; the old one stays.
   */
  restart(): Promise<void> {
    return this.#pool.restart();
  }

  /**
   * Ends the server: it accepts no more, the workers finish their responses, and those that take longer than the
   * `drainTimeout` are ended.
   *
   * @returns Resolves when all workers have ended.
   */
  shutdown(): Promise<void> {
    return this.#closing ??= this.#shutDown();
  }

  /** The same as {@linkcode AppServer.shutdown}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  /** Whatever ends the serving ends the server. */
  async #finish(serving: Promise<void>): Promise<void> {
    try {
      await serving;
    } finally {
      await this.shutdown();
    }
  }

  async #shutDown(): Promise<void> {
    this.#requests?.[Symbol.dispose]();
    this.#listener.close();
    await this.#pool.close();
  }
}

/**
 * Serves a module with several processes.
 *
 * This process listens, and starts workers that answer. A worker that ends is replaced.
 *
 * Needs `--allow-run` for Deno's own path, `--allow-ffi` for {@linkcode LIBRARY_PATHS}, and what `controlFile` says. Not in a
 * compiled program, whose path is not Deno's: there, use {@linkcode WorkerPool} with a `command`.
 *
 * @example Four workers, replaced when the program is told to
 * ```ts ignore
 * import { serve } from "@winsock/handoff/serve";
 *
 * await using server = await serve({ main: "app.ts", port: 8000, workers: 4 });
 * console.log(`Listening on port ${server.addr.port}`);
 * Deno.addSignalListener("SIGHUP", () => server.restart());
 * await server.finished;
 * ```
 *
 * @param options How.
 * @returns The server, when its workers are ready.
 * @throws {TypeError} If `main` is not given, or in a compiled program.
 * @throws {RangeError} If a number is out of its range.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 * @throws {HandoffError} If no worker becomes ready, such as when the module cannot be loaded; workers print why.
 */
export async function serve(options: ServeOptions): Promise<AppServer> {
  const main = moduleUrl(options.main);
  const startTimeout = validateDuration("startTimeout", options.startTimeout ?? 60_000, 1);
  const drainTimeout = validateDuration("drainTimeout", options.drainTimeout ?? 10_000);
  const version = options.controlFile === undefined ? undefined : await inherit();
  const listener = openListener(options, version);
  try {
    const { addr } = listener;
    const shutdownTimeout = Math.floor(drainTimeout * RESPONSE_SHARE);
    const pool = new WorkerPool({
      script: main,
      size: options.workers ?? navigator.hardwareConcurrency,
      denoFlags: [...options.denoFlags ?? [], `--preload=${workerModule(main, { addr, shutdownTimeout })}`],
      args: [...options.args ?? []],
      outputPrefix: options.outputPrefix ?? (({ index }) => `[${index}] `),
      startTimeout,
      drainTimeout,
    });
    tell(pool, options.onWorker);
    try {
      await Promise.race([pool.ready, firstFailure(pool, main)]);
      const serving = pool.serve(listener, { distribute: options.distribute ?? "listener" });
      serving.catch(() => {});
      await version?.markReady();
      const requests = version === undefined ? undefined : answerRequests(version, options);
      const server = new AppServer({ pool, listener, serving, addr, requests });
      version?.retired.then(() => server.shutdown());
      return server;
    } catch (error) {
      await pool.close({ drainTimeout: 0 });
      throw error;
    }
  } catch (error) {
    listener.close();
    throw error;
  }
}

function moduleUrl(main: string | URL): URL {
  if (main instanceof URL) return main;
  if (typeof main !== "string" || main === "") throw new TypeError("Invalid `main`: must be a path or URL of a module");
  // A single letter before the colon is a drive of Windows.
  return /^[a-z][a-z\d+.-]+:/i.test(main) ? new URL(main) : pathToFileURL(main);
}

/**
 * What a worker runs before the module, as a URL. It names both modules, so that the worker needs no permission to import
 * them: a module whose name is computed needs one. The module is the program all the same, for Deno looks for its
 * configuration beside the program.
 */
function workerModule(main: URL, settings: WorkerSettings): string {
  const text = `import * as app from ${JSON.stringify(main.href)};
import { serveModule } from ${JSON.stringify(import.meta.resolve("./worker.ts"))};
serveModule(${JSON.stringify(main.href)}, app, ${JSON.stringify(settings)});
`;
  return `data:application/typescript,${encodeURIComponent(text)}`;
}

function openListener(
  { listener, hostname = "0.0.0.0", port = 8000 }: ServeOptions,
  version?: ServerVersion,
): Listener {
  const address = { hostname, port };
  return listener ?? version?.listen(SOCKET_NAME, address) ?? listen(address);
}

/** Has this process replaced when the control file's reader asks for it. */
function answerRequests(version: ServerVersion, { controlFile }: ServeOptions): Disposable {
  const file = controlFile!;
  return onUpgradeRequest(() => upgrade(version, { script: Deno.mainModule }), { controlFile: file });
}

/** Rejects when a worker ends before it is ready: a module that cannot be loaded now cannot be loaded again and again. */
async function firstFailure(pool: WorkerPool, main: URL): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  pool.addEventListener("workerend", ({ worker, reason }) => {
    reject(
      new HandoffError(
        "target-exited",
        `worker ${worker.index} ended before it was ready: ${reason}`,
        errorAbout(`Cannot serve ${main}`),
      ),
    );
  });
  return await promise;
}

function tell(pool: WorkerPool, onWorker: ServeOptions["onWorker"]): void {
  if (onWorker === undefined) return;
  pool.addEventListener("workerend", ({ worker, reason }) => {
    onWorker(`Worker ${worker.index} (process ${worker.processId}) ended: ${reason}`);
  });
  pool.addEventListener("workergiveup", ({ worker }) => {
    onWorker(`Worker ${worker.index} cannot be kept running`);
  });
}
