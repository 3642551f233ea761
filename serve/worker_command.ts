/**
 * What the workers of {@linkcode serve} run: a module, or the program itself, which is told that it is a worker.
 *
 * @module
 */
import { pathToFileURL } from "node:url";
import { check, PATH, type Rule } from "../internal/options.ts";
import { grantsAll, ownExecutable, type WorkerCommand } from "../handoff/spawn.ts";
import type { ServedModule, WorkerSettings } from "./worker.ts";

/** The options that say what the workers run. */
interface WorkerOptions {
  readonly main: string | URL | ServedModule;
  readonly denoFlags?: readonly string[];
  readonly args?: readonly string[];
}

/** What the workers run. */
interface Workers {
  /** What is served, for errors. */
  readonly name: string;
  command(settings: WorkerSettings): WorkerCommand;
}

const MAIN: Rule = { what: "a path, a URL, or an object that has a `fetch` function", accepts: PATH.accepts };
const NO_FLAGS: Rule = { what: "absent in a compiled program", accepts: (value) => value === undefined };

/**
 * Returns what the workers run; `undefined` if this process is itself a worker of its own program.
 *
 * @throws {TypeError} If the options are not valid.
 * @throws {Error} If a worker of this program started this process.
 */
export function workersOf(options: WorkerOptions): Workers | undefined {
  const { main } = options;
  if (!PATH.accepts(main) && typeof (main as ServedModule | undefined)?.fetch === "function") {
    return workersOfProgram(main as ServedModule, options);
  }
  check("main", main, MAIN);
  return workersOfModule(main as string | URL, options);
}

/** Whether a module is named by a URL, and not by a path. */
export function isModuleUrl(main: string): boolean {
  // A single letter before the colon is a drive letter of Windows.
  return /^[a-z][a-z\d+.-]+:/i.test(main);
}

function workersOfModule(main: string | URL, { args = [], denoFlags = [] }: WorkerOptions): Workers {
  const script = main instanceof URL || isModuleUrl(main) ? new URL(main) : pathToFileURL(main);
  if (Deno.build.standalone) {
    throw new TypeError(`Cannot serve ${script}: this program is compiled, so \`main\` must be the module itself`);
  }
  return {
    name: script.href,
    command(settings) {
      return { script, denoFlags: [...denoFlags, `--preload=${preloadedModule(script, settings)}`], args };
    },
  };
}

/**
 * Returns the URL of the module that a worker runs before the served module. It names both modules in import
 * statements, because importing a computed name needs a permission. The served module is still the program, because
 * Deno looks for its configuration next to the program.
 */
function preloadedModule(main: URL, settings: WorkerSettings): string {
  const text = `import * as app from ${JSON.stringify(main.href)};
import { serveModule } from ${JSON.stringify(import.meta.resolve("./worker.ts"))};
serveModule(${JSON.stringify(main.href)}, app, ${JSON.stringify(settings)}).then(() => Deno.exit());
`;
  return `data:application/typescript,${encodeURIComponent(text)}`;
}

/** The environment variable that makes a process of this program a worker. Its value is a {@linkcode Role} as JSON. */
const ROLE_VARIABLE = "WINSOCK_HANDOFF_WORKER";

/** What a worker that runs this program is told. */
interface Role {
  /** The process id of the supervisor. Processes that the worker starts inherit the variable, and are not workers. */
  readonly supervisor: number;
  /** The main module. Another program that the worker starts may serve. */
  readonly program: string;
  readonly settings: WorkerSettings;
}

/** What this program serves. A worker runs the first call of {@linkcode serve}, so there is only one. */
let served: ServedModule | undefined;
/** The work of this process, if it is a worker. */
let work: Promise<never> | undefined;

function workersOfProgram(main: ServedModule, { args = Deno.args, denoFlags }: WorkerOptions): Workers | undefined {
  if (served !== undefined && served !== main) {
    throw new TypeError("Cannot serve a second `main`: a worker, which runs the same program, could not know which");
  }
  if (ownRole() !== undefined) return undefined;
  if (Deno.build.standalone) check("denoFlags", denoFlags, NO_FLAGS);
  served = main;
  const program = ownProgram();
  const flags = denoFlags ?? [];
  const grants = grantsAll(flags) ? [] : [`--allow-env=${ROLE_VARIABLE}`];
  return {
    name: String(program.command ?? program.script),
    command(settings) {
      const role: Role = { supervisor: Deno.pid, program: Deno.mainModule, settings };
      const started = { ...program, args, env: { [ROLE_VARIABLE]: JSON.stringify(role) } };
      return started.script === undefined ? started : { ...started, denoFlags: [...grants, ...flags] };
    },
  };
}

/** Returns the program of this process, for another process that is to run it. */
export function ownProgram(): WorkerCommand {
  return Deno.build.standalone ? { command: ownExecutable() } : { script: Deno.mainModule };
}

/**
 * Returns what this process was told, if it is a worker.
 *
 * @throws {Error} If it is a process of the same program that its supervisor has not started. If that started workers,
 * programs could start themselves without end.
 */
function ownRole(): Role | undefined {
  const text = Deno.env.get(ROLE_VARIABLE);
  if (text === undefined) return undefined;
  const { supervisor, program, settings } = JSON.parse(text) as Role;
  if (program !== Deno.mainModule) return undefined;
  if (supervisor === Deno.ppid) return { supervisor, program, settings };
  throw new Error(`Cannot serve: this is a process of a worker of process ${supervisor}, which runs the same program`);
}

/** Serves a module in this process, which is a worker of its own program. Does not return: the process exits. */
export function serveAsWorker(main: ServedModule): Promise<never> {
  return work ??= serveAndExit(main);
}

async function serveAndExit(main: ServedModule): Promise<never> {
  const { serveModule } = await import("./worker.ts");
  await serveModule(Deno.mainModule, { default: main }, ownRole()!.settings);
  Deno.exit();
}
