/**
 * `serve`: serves a module with several processes.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "@std/cli/parse-args";
import { errorMessage } from "../handoff/errors.ts";
import { notify, systemdSockets } from "../interop/systemd.ts";
import { type AppServer, serve, type ServeOptions } from "../serve/serve.ts";
import { isModuleUrl } from "../serve/worker_command.ts";
import type { Terminal } from "./terminal.ts";

/** The help text of `serve`. */
export const SERVE_HELP = `Serves a module as \`deno serve\` does, with several processes.

  handoff serve [OPTIONS] MAIN [-- DENO_FLAGS…]

MAIN is a module whose default export has a fetch function. DENO_FLAGS are the
flags of the workers, such as --allow-net=api.example.com. Without flags,
workers can only use the connections that they get.

  --port PORT            the port to listen on; 0 for any free port (8000)
  --hostname ADDRESS     the address to listen at (0.0.0.0)
  --workers N            the number of workers (the number of processors)
  --distribute HOW       "listener": workers accept for themselves (the default)
                         "connections": one process accepts for all
  --control FILE         lets \`handoff upgrade FILE\` replace the whole server
  --drain-timeout MS     the time for responses when a worker is to end (10000)
  --start-timeout MS     the time for a worker to load the module (60000)
  --max-body-size BYTES  the maximum size of a request's body (134217728)
  --systemd              serves on the socket that systemd passes, if any, and
                         tells systemd when the server is ready
  --watch                replaces the workers when a file beside MAIN changes;
                         needs --allow-read

Signals: SIGHUP replaces the workers one after the other. SIGINT and SIGTERM let
responses finish and end the server; a second one ends it at once. On Windows,
Ctrl-C, Ctrl-Break and closing the console end it.

Exit codes: 0 ended as told, 1 it cannot start or no worker can be kept running,
2 the command was wrong.`;

/** Deno itself suggests to "run again" with a flag when a worker lacks a permission. */
const FLAGS_HINT = "Flags for the workers, such as --allow-net, go to the end of the command, after --";

/** An invalid command. The message is the reason. */
export class UsageError extends Error {}

/** The time within which changes of several files count as one change. Editors often write several files at once. */
const WATCH_DELAY_MS = 200;

/**
 * Serves until the server ends.
 *
 * @param terminal The terminal to print to.
 * @param args The arguments after `serve`.
 * @returns The exit code.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function serveCommand(terminal: Terminal, args: readonly string[]): Promise<number> {
  const { help, watched, systemd, options } = readArguments(args);
  if (help) return terminal.print(SERVE_HELP), 0;
  using passed = systemd ? systemdSockets() : undefined;
  const listener = passed?.takeListener(0);
  if (listener !== undefined && "path" in listener.addr) {
    throw new TypeError(`Cannot serve on the socket of systemd: ${listener.addr.path} is a local socket, not a port`);
  }
  const given = listener === undefined ? options : { ...options, listener };
  const manager = systemd ? notify : async () => {};
  // A manager that is gone must not end the server.
  const tell: Manager = (state) =>
    manager(state).catch((error) => terminal.printError(`Cannot notify the service manager: ${errorMessage(error)}`));
  using signals = obeySignals(tell);
  const starting = serve({ ...given, onWorker: (line) => terminal.printError(line) });
  const server = await Promise.race([starting, signals.forced]);
  // A signal came before the server was ready.
  if (server === undefined) return 0;
  const restart = () => replaceWorkers(server, terminal, tell);
  signals.applyTo(server, restart);
  using _watching = watched === undefined ? undefined : callOnChange(watched, restart);
  const { hostname, port } = server.addr;
  const host = hostname === "0.0.0.0" || hostname === "::"
    ? "localhost"
    : hostname.includes(":")
    ? `[${hostname}]`
    : hostname;
  const { length: workers } = server.statistics.workers;
  terminal.print(`Listening on http://${host}:${port}/ with ${workers} worker${workers === 1 ? "" : "s"}`);
  // After an upgrade this is another process than the manager has started.
  await manager({ READY: 1, ...options.controlFile === undefined ? {} : { MAINPID: Deno.pid } });
  await Promise.race([server.finished, signals.forced]);
  return 0;
}

interface ServeArguments {
  readonly help: boolean;
  /** The folder whose files are watched, if they are to be. */
  readonly watched: string | undefined;
  readonly systemd: boolean;
  readonly options: ServeOptions & { readonly main: string };
}

function readArguments(args: readonly string[]): ServeArguments {
  const parsed = parseArgs([...args], {
    boolean: ["help", "watch", "systemd"],
    string: [
      "_",
      "port",
      "hostname",
      "workers",
      "distribute",
      "control",
      "drain-timeout",
      "start-timeout",
      "max-body-size",
    ],
    "--": true,
    unknown: (arg: string) => {
      if (arg.startsWith("-")) throw new UsageError(`${arg} is not an option of serve. ${FLAGS_HINT}`);
      return true;
    },
  });
  const [main, ...rest] = parsed._.map(String);
  if (!parsed.help && (main === undefined || rest.length > 0)) {
    throw new UsageError(`serve takes one module. ${FLAGS_HINT}`);
  }
  const { distribute } = parsed;
  if (distribute !== undefined && distribute !== "listener" && distribute !== "connections") {
    throw new UsageError(`Invalid --distribute: must be "listener" or "connections", got "${distribute}"`);
  }
  const options: Record<string, unknown> = {
    main: main ?? "",
    denoFlags: parsed["--"],
    hostname: parsed.hostname,
    port: integer("port", parsed.port, 65_535),
    workers: integer("workers", parsed.workers, 1024, 1),
    drainTimeout: integer("drain-timeout", parsed["drain-timeout"]),
    startTimeout: integer("start-timeout", parsed["start-timeout"]),
    maxRequestBodySize: integer("max-body-size", parsed["max-body-size"], Number.MAX_SAFE_INTEGER),
    distribute,
    controlFile: parsed.control,
  };
  for (const [name, value] of Object.entries(options)) if (value === undefined) delete options[name];
  return {
    help: parsed.help,
    watched: parsed.watch && !parsed.help ? folderOf(main!) : undefined,
    systemd: parsed.systemd,
    options: options as unknown as ServeArguments["options"],
  };
}

function integer(name: string, text: string | undefined, most = 2 ** 31 - 1, least = 0): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
  throw new UsageError(`Invalid --${name}: must be an integer from ${least} to ${most}, got "${text}"`);
}

/** Notifies the service manager, if there is one. */
type Manager = (
  state: { READY: 1; STATUS?: string; MAINPID?: number } | { RELOADING: 1 } | { STOPPING: 1 },
) => Promise<unknown>;

/** Signals that were handled from the start of the command. */
interface Signals extends Disposable {
  /** Resolves when the command is to end at once: at a second signal, or at the first before there is a server. */
  readonly forced: Promise<void>;
  /** From now on the signals are for this server. */
  applyTo(server: AppServer, restart: () => void): void;
}

/**
 * Handles signals: SIGINT and SIGTERM end the server, and SIGHUP replaces the workers. On Windows, SIGINT,
 * SIGBREAK and SIGHUP end the server.
 */
function obeySignals(manager: Manager): Signals {
  const forced = Promise.withResolvers<void>();
  let target: { server: AppServer; restart: () => void } | undefined;
  let ending = false;
  /** Whether the workers are to be replaced as soon as there is a server. */
  let outdated = false;
  const end = () => {
    if (ending || target === undefined) return forced.resolve();
    ending = true;
    manager({ STOPPING: 1 });
    target.server.shutdown();
  };
  const restart = () => {
    if (target === undefined) outdated = true;
    else target.restart();
  };
  const actions = new Map<Deno.Signal, () => void>(
    Deno.build.os === "windows"
      ? [["SIGINT", end], ["SIGBREAK", end], ["SIGHUP", end]]
      : [["SIGINT", end], ["SIGTERM", end], ["SIGHUP", restart]],
  );
  for (const [signal, action] of actions) Deno.addSignalListener(signal, action);
  return {
    forced: forced.promise,
    applyTo(server, restart) {
      target = { server, restart };
      if (outdated) restart();
    },
    [Symbol.dispose]() {
      for (const [signal, action] of actions) Deno.removeSignalListener(signal, action);
    },
  };
}

async function replaceWorkers(server: AppServer, terminal: Terminal, manager: Manager): Promise<void> {
  let status = "All workers were replaced";
  await manager({ RELOADING: 1 });
  try {
    await server.restart();
    terminal.print(status);
  } catch (error) {
    status = `Cannot replace the workers: ${errorMessage(error)}`;
    terminal.printError(status);
  }
  // A service that continues to run is ready in any case: systemd has no state for a reload that failed.
  await manager({ READY: 1, STATUS: status.replaceAll(/[\n\0].*/gs, "") });
}

/** Returns the folder that has a module. */
function folderOf(main: string): string {
  const isUrl = isModuleUrl(main);
  if (isUrl && !/^file:/i.test(main)) throw new UsageError(`Invalid --watch: ${main} is not a file`);
  const path = isUrl ? fileURLToPath(main) : main;
  return path.replace(/[^/\\]*$/, "") || ".";
}

/** Calls a function when a file changes in a folder or below it. */
function callOnChange(folder: string, callback: () => void): Disposable {
  const watcher = Deno.watchFs(folder, { recursive: true });
  let timer: ReturnType<typeof setTimeout> | undefined;
  (async () => {
    for await (const { kind } of watcher) {
      if (kind === "access") continue;
      clearTimeout(timer);
      timer = setTimeout(callback, WATCH_DELAY_MS);
    }
  })();
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      watcher.close();
    },
  };
}
