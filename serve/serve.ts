/**
 * A server of several processes: the main process has the listening socket, and the workers answer requests.
 *
 * @module
 */
import {
  checkOptions,
  duration,
  either,
  FUNCTION,
  integer,
  limit,
  MAX_DURATION,
  oneOf,
  type Rule,
  STRING,
  STRINGS,
  TEXT,
} from "../internal/options.ts";
import type { WorkerPoolStatistics } from "../handoff/pool/options.ts";
import { errorAbout, HandoffError } from "../handoff/errors.ts";
import { WorkerPool } from "../handoff/pool/pool.ts";
import { inherit, type ServerVersion } from "../handoff/upgrade/server_version.ts";
import { upgrade, type UpgradeResult } from "../handoff/upgrade/upgrade.ts";
import { onUpgradeRequest } from "../handoff/upgrade/upgrade_requests.ts";
import { listen, Listener } from "../sockets/listener.ts";
import type { ServedModule } from "./worker.ts";
import { ownProgram, serveAsWorker, workersOf } from "./worker_command.ts";

/** Options of {@linkcode serve}. */
export interface ServeOptions {
  /**
   * The module to serve, as for `deno serve`: its default export has a `fetch` function, and may have `onListen` and
   * `onError`. A path is relative to the current directory. Each worker loads the module when it starts, so after
   * {@linkcode AppServer.restart} the workers run the files that are on disk then.
   *
   * Or the default export itself. Each worker then runs the main module of this program again, and in a worker the call
   * of `serve` serves instead of starting workers. A program that was made by `deno compile` can only be served in this
   * way.
   */
  main: string | URL | ServedModule;
  /** The address to listen on. Defaults to `"0.0.0.0"`. */
  hostname?: string;
  /** The port to listen on; 0 for any free port. Defaults to `8000`. */
  port?: number;
  /** The number of workers, from 1 to 1 024. Defaults to the number of processors. */
  workers?: number;
  /**
   * How connections get to the workers, as in {@linkcode PoolServeOptions.distribute}. Defaults to `"listener"`: each
   * worker accepts connections itself, which takes less than half of the time for each connection.
   */
  distribute?: "connections" | "listener";
  /**
   * Flags of `deno run` for the workers, such as `["--allow-net=api.example.com"]`. Besides these, the workers have ffi
   * access to the system's socket library, and no other permission. Not allowed in a compiled program: its workers have
   * the permissions that it was compiled with.
   */
  denoFlags?: readonly string[];
  /** The arguments of the workers (`Deno.args`). Defaults to `[]`, or to those of this program if the workers run it. */
  args?: readonly string[];
  /** The text before each line of a worker's output. Defaults to the worker's number in brackets. */
  outputPrefix?: string | ((worker: { readonly index: number }) => string);
  /** The time for a worker to load the module, in milliseconds. Defaults to `60_000`. */
  startTimeout?: number;
  /** The time for a worker to finish its responses before it is ended, in milliseconds. Defaults to `10_000`. */
  drainTimeout?: number;
  /**
   * The maximum size of a request's body in bytes, as {@linkcode ServeHttpOptions.maxRequestBodySize}: a longer body is
   * answered 413, and `Infinity` allows any size. Defaults to 128 MiB.
   */
  maxRequestBodySize?: number;
  /**
   * The path of a control file. With it, `handoff upgrade FILE` replaces the whole server, including this process, by a
   * new version. The new version runs the main module of this process with the same arguments. Needs `--allow-read` and
   * `--allow-write` for the file, and `--allow-env=WINSOCK_HANDOFF_PREDECESSOR`.
   */
  controlFile?: string;
  /**
   * A listener to serve on instead of `hostname` and `port`, such as a socket that systemd passed. With `controlFile`, the
   * next version gets it, and does not need this option.
   */
  listener?: Listener;
  /** A function that is called with a message when a worker ends or cannot be kept running. */
  onWorker?: (line: string) => void;
}

const SOCKET_NAME = "http";
/** The most workers, as of a {@linkcode WorkerPool}. */
const MAX_WORKERS = 1_024;
const LISTENER: Rule = { what: "a Listener", accepts: (value) => value instanceof Listener };
/** The time for the process of a new version to start its workers, in milliseconds. */
const PROCESS_START_MS = 10_000;
/** The share of the `drainTimeout` in which a worker finishes its own responses. */
const RESPONSE_SHARE = 0.9;

/** The parts of a server. */
interface ServerParts {
  readonly pool: WorkerPool;
  readonly listener: Listener;
  /**
   * Settles when the server takes no more connections. Rejects if no worker can be kept running, or if the system
   * cannot accept.
   */
  readonly serving: Promise<void>;
  readonly addr: Deno.NetAddr;
  /** Stops answering upgrade requests, cancels an upgrade that is under way, and ends a new version that serves already. */
  readonly endUpgrades: () => Promise<void>;
}

/** A running server that {@linkcode serve} has started. */
export class AppServer implements AsyncDisposable {
  /** The address that the server listens on. */
  readonly addr: Deno.NetAddr;
  /**
   * Resolves when the server has ended: after {@linkcode AppServer.shutdown}, or after an upgrade, when a new version
   * serves. Rejects with a {@linkcode HandoffError} if no worker can be kept running, and with the error of the system
   * if it cannot accept.
   */
  readonly finished: Promise<void>;
  readonly #pool: WorkerPool;
  readonly #listener: Listener;
  readonly #endUpgrades: () => Promise<void>;
  #closing: Promise<void> | undefined;

  /** @ignore Created by {@linkcode serve}. */
  constructor({ pool, listener, serving, addr, endUpgrades }: ServerParts) {
    this.#pool = pool;
    this.#listener = listener;
    this.addr = addr;
    this.#endUpgrades = endUpgrades;
    this.finished = this.#finish(serving);
    this.finished.catch(() => {});
  }

  /** The statistics of the workers. */
  get statistics(): WorkerPoolStatistics {
    return this.#pool.statistics;
  }

  /**
   * Replaces the workers one after the other. Each new worker loads the module again. Requests are not refused, and
   * requests that end within the `drainTimeout` are not cut off.
   *
   * @returns Resolves when all workers are replaced.
   * @throws {HandoffError} If a new worker does not become ready. The old worker then stays.
   */
  restart(): Promise<void> {
    return this.#pool.restart();
  }

  /**
   * Shuts the server down. It accepts no more connections, and the workers finish their responses. A worker that takes
   * longer than the `drainTimeout` is ended. An upgrade that is under way is cancelled; if the new version serves
   * already, it ends too.
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

  /** Shuts the server down when it stops serving, for any reason. */
  async #finish(serving: Promise<void>): Promise<void> {
    try {
      await serving;
    } finally {
      await this.shutdown();
    }
  }

  async #shutDown(): Promise<void> {
    // Otherwise the new version would serve when this one has ended.
    const upgradesEnded = this.#endUpgrades();
    this.#listener.close();
    await Promise.all([upgradesEnded, this.#pool.close()]);
  }
}

/**
 * Serves a module with several processes.
 *
 * This process listens and starts workers, which answer requests. A worker that ends is replaced.
 *
 * Needs `--allow-run` for the path of Deno (in a compiled program: of that program), `--allow-ffi` for {@linkcode
 * LIBRARY_PATHS}, and the permissions that `controlFile` names. If `main` is the default export itself, it also needs
 * `--allow-env=WINSOCK_HANDOFF_WORKER`.
 *
 * @example Start four workers, and replace them on SIGHUP
 * ```ts ignore
 * import { serve } from "@winsock/handoff/serve";
 *
 * await using server = await serve({ main: "app.ts", port: 8000, workers: 4 });
 * console.log(`Listening on port ${server.addr.port}`);
 * Deno.addSignalListener("SIGHUP", () => {
 *   // A worker that does not start changes nothing: the old one stays.
 *   server.restart().catch((error) => console.error(error.message));
 * });
 * await server.finished;
 * ```
 *
 * @example The program is its own worker, compiled or not
 * ```ts ignore
 * import { serve } from "@winsock/handoff/serve";
 *
 * const main = { fetch: () => new Response(`Process ${Deno.pid}\n`) };
 * await using server = await serve({ main, port: 8000 });
 * console.log(`Listening on port ${server.addr.port}`);
 * await server.finished;
 * ```
 *
 * Each worker of such a program also does what the program does before the call. In a worker the call does not return:
 * the process exits after the last response.
 *
 * @param options The module to serve, the address, and the number and limits of the workers.
 * @returns The server, when its workers are ready.
 * @throws {TypeError} If `main` is not given, or is a path or a URL in a compiled program, or is not the default export
 * that this program has served before.
 * @throws {RangeError} If a number is out of range.
 * @throws {Deno.errors.NotCapable} Without one of the permissions.
 * @throws {Deno.errors.AddrInUse} If the port is in use.
 * @throws {HandoffError} If no worker becomes ready, such as when the module cannot be loaded. The workers print the
 * reason.
 * @throws {Error} If a worker of this program started this process, which therefore must not start workers.
 */
export async function serve(options: ServeOptions): Promise<AppServer> {
  checkOptions(options, {
    hostname: STRING,
    workers: integer(1, MAX_WORKERS),
    distribute: oneOf("connections", "listener"),
    denoFlags: STRINGS,
    args: STRINGS,
    outputPrefix: either(STRING, FUNCTION),
    startTimeout: duration(1),
    drainTimeout: duration(0),
    maxRequestBodySize: limit(0),
    controlFile: TEXT,
    listener: LISTENER,
    onWorker: FUNCTION,
  });
  const workers = workersOf(options);
  if (workers === undefined) return await serveAsWorker(options.main as ServedModule);
  const { startTimeout = 60_000, drainTimeout = 10_000, maxRequestBodySize } = options;
  const version = options.controlFile === undefined ? undefined : await inheritListener(options);
  const listener = openListener(options, version);
  try {
    const { addr } = listener;
    const settings = {
      addr,
      shutdownTimeout: Math.floor(drainTimeout * RESPONSE_SHARE),
      ...maxRequestBodySize === undefined ? {} : { maxRequestBodySize },
    };
    const pool = new WorkerPool({
      ...workers.command(settings),
      size: options.workers ?? navigator.hardwareConcurrency,
      outputPrefix: options.outputPrefix ?? (({ index }) => `[${index}] `),
      startTimeout,
      drainTimeout,
    });
    tell(pool, options.onWorker);
    try {
      await Promise.race([pool.ready, firstFailure(pool, workers.name)]);
      const serving = pool.serve(listener, { distribute: options.distribute ?? "listener" });
      serving.catch(() => {});
      await version?.markReady();
      const endUpgrades = answerRequests(version, options.controlFile, { startTimeout, drainTimeout });
      const server = new AppServer({ pool, listener, serving, addr, endUpgrades });
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

/**
 * Takes over the listener of the previous version, if there is one. Without one, the version has the given listener, and
 * hands it to the next version.
 */
async function inheritListener({ listener, hostname, port }: ServeOptions): Promise<ServerVersion> {
  let given = listener;
  return await inherit({
    sockets: {
      takeListener() {
        const taken = given;
        given = undefined;
        return taken;
      },
      close: () => given?.close(),
    },
    // The previous version may have had a given listener. This one then asks for no address.
    ...hostname === undefined && port === undefined ? { onAddressChange: () => {} } : {},
  });
}

function openListener(
  { listener, hostname = "0.0.0.0", port = 8000 }: ServeOptions,
  version?: ServerVersion,
): Listener {
  const address = { hostname, port };
  return version?.listen(SOCKET_NAME, address) ?? listener ?? listen(address);
}

/**
 * Replaces this process when an upgrade is requested through the control file.
 *
 * @returns Ends all that: {@linkcode ServerParts.endUpgrades}.
 */
function answerRequests(
  version: ServerVersion | undefined,
  controlFile: string | undefined,
  { startTimeout, drainTimeout }: { startTimeout: number; drainTimeout: number },
): () => Promise<void> {
  if (version === undefined || controlFile === undefined) return async () => {};
  // The new version is ready when its workers are.
  const timeout = Math.min(startTimeout + PROCESS_START_MS, MAX_DURATION);
  const cancelled = new AbortController();
  const running = new Set<Promise<UpgradeResult>>();
  const requests = onUpgradeRequest(() => {
    const upgrading = upgrade(version, { ...ownProgram(), timeout, signal: cancelled.signal });
    running.add(upgrading);
    upgrading.catch(() => {}).then(() => running.delete(upgrading));
    return upgrading;
  }, { controlFile });
  let retired = false;
  version.retired.then(() => retired = true);
  return async () => {
    requests[Symbol.dispose]();
    if (retired) return;
    cancelled.abort();
    await Promise.all(
      Array.from(running, (upgrading) => upgrading.then((next) => next.retire({ drainTimeout }), () => {})),
    );
  };
}

/**
 * Rejects when a worker ends before it is ready. A module that fails to load now would also fail in the next workers.
 */
async function firstFailure(pool: WorkerPool, name: string): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  pool.addEventListener("workerend", ({ worker, reason }) => {
    reject(
      new HandoffError(
        "target-exited",
        `worker ${worker.index} ended before it was ready: ${reason}`,
        errorAbout(`Cannot serve ${name}`),
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
