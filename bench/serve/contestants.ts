/**
 * The servers that are compared, in this Deno and other runtimes, or in their Windows builds.
 *
 * @module
 */
import { Unavailable } from "../handoff/lane.ts";
import { bunProgram, nodeProgram, windowsNode } from "../handoff/packages.ts";
import { FFI_GRANT, RUN } from "../handoff/ours_child.ts";
import { LaneUnavailable, windowsPrograms, WINE_DENO } from "../../tools/windows.ts";

/** The names by which goals and pictures know the contestants. */
export const LISTENER = "handoff, listener";
export const CONNECTIONS = "handoff, connections";
export const PARALLEL = "deno serve --parallel";
export const ROUND_ROBIN = "Node, round robin";
export const SHARED = "Node, shared";
export const BUN = "Bun, reusePort";
export const ONE = "Deno.serve, one";

const WINDOWS_GRANTS = "--allow-ffi=C:\\Windows\\System32\\ws2_32.dll,C:\\Windows\\System32\\kernel32.dll";
/** Wine ends with the last of its programs, and would take along what is started meanwhile. */
const WINE_REST_MS = 1_000;
const START_MS = 60_000;
/** How much is shown of what a server printed before it ended, in characters. */
const LAST_WORDS = 2_000;

/** A server that runs. */
export interface Running extends AsyncDisposable {
  readonly port: number;
}

/** Starts the contestants of a lane. */
export interface ServeLane {
  readonly name: string;
  readonly note: string;
  readonly contestants: Record<string, () => Promise<Running>>;
  readonly missing: readonly string[];
}

/** @throws {Unavailable} If this machine cannot have the lane. */
export async function openLane(name: string, workers: number): Promise<ServeLane> {
  return name === "windows" ? await windowsLane(workers) : await linuxLane(workers);
}

async function linuxLane(workers: number): Promise<ServeLane> {
  const deno = (args: string[], env = {}) => begin([new Deno.Command(Deno.execPath(), { ...PIPED, args, env })]);
  const handoff = (how: string) => () =>
    deno([...RUN, FFI_GRANT, "--allow-run", path("../../cli/mod.ts"), ...handoffArgs(how, workers, path)]);
  const contestants: ServeLane["contestants"] = {
    [LISTENER]: handoff("listener"),
    [CONNECTIONS]: handoff("connections"),
    [PARALLEL]: () => {
      const args = ["serve", "--parallel", "--no-check", "--allow-net", "--host", "127.0.0.1", "--port", "0"];
      return deno([...args, path("app.ts")], { DENO_JOBS: String(workers), NO_COLOR: "1" });
    },
    [ONE]: () => deno(["run", "--quiet", "--no-check", "--allow-net", path("deno_server.ts")]),
  };
  const missing: string[] = [];
  await offer(missing, "Node", async () => {
    const program = await nodeProgram();
    for (const [name, policy] of [[ROUND_ROBIN, "round robin"], [SHARED, "shared"]] as const) {
      const args = [path("node_cluster.mjs"), String(workers), policy];
      contestants[name] = () => begin([new Deno.Command(program, { ...PIPED, args })]);
    }
  });
  await offer(missing, "Bun", async () => {
    const program = await bunProgram();
    contestants[BUN] = async () => {
      const start = (port: number) =>
        new Deno.Command(program, { ...PIPED, args: [path("bun_server.mjs"), `${port}`] });
      const first = await begin([start(0)]);
      const others = await begin(Array.from({ length: workers - 1 }, () => start(first.port)));
      return {
        port: first.port,
        async [Symbol.asyncDispose]() {
          await Promise.all([first[Symbol.asyncDispose](), others[Symbol.asyncDispose]()]);
        },
      };
    };
  });
  return { name: "Linux", note: `${workers} workers; servers and client share the CPUs`, contestants, missing };
}

async function windowsLane(workers: number): Promise<ServeLane> {
  const wine = await windowsPrograms().catch((error) => {
    throw error instanceof LaneUnavailable ? new Unavailable(error.message) : error;
  });
  const windowsPathOf = (file: string) => `Z:${file.replaceAll("/", "\\")}`;
  const windowsPath = (file: string) => windowsPathOf(path(file));
  const start = (program: string[]) => begin([wine(program, PIPED)], { restMs: WINE_REST_MS });
  const handoff = (how: string) => () => {
    const args = handoffArgs(how, workers, windowsPath);
    return start([WINE_DENO, ...RUN, WINDOWS_GRANTS, "--allow-run", windowsPath("../../cli/mod.ts"), ...args]);
  };
  const contestants: ServeLane["contestants"] = {
    [LISTENER]: handoff("listener"),
    [CONNECTIONS]: handoff("connections"),
    [ONE]: () => start([WINE_DENO, "run", "--quiet", "--no-check", "--allow-net", windowsPath("deno_server.ts")]),
  };
  const missing: string[] = [];
  await offer(missing, "Node", async () => {
    const program = windowsPathOf(await windowsNode());
    for (const [name, policy] of [[ROUND_ROBIN, "round robin"], [SHARED, "shared"]] as const) {
      contestants[name] = async () => {
        // Under Wine, the primary of a cluster ends with "open EBADF" if its output is a pipe.
        const file = path(`../../.cache/node-cluster-${crypto.randomUUID()}`);
        const args = [windowsPath("node_cluster.mjs"), String(workers), policy, windowsPathOf(file)];
        return await begin([wine([program, ...args], SILENT)], { restMs: WINE_REST_MS, file });
      };
    }
  });
  return { name: "Wine", note: `${workers} workers; the client is a process of Linux`, contestants, missing };
}

const PIPED = { stdin: "null", stdout: "piped", stderr: "piped" } as const;
const SILENT = { stdin: "null", stdout: "null", stderr: "null" } as const;

function handoffArgs(how: string, workers: number, toPath: (file: string) => string): string[] {
  const options = ["--workers", String(workers), "--distribute", how];
  return ["serve", "--hostname", "127.0.0.1", "--port", "0", ...options, toPath("app.ts"), "--", "--no-check"];
}

function path(file: string): string {
  return new URL(file, import.meta.url).pathname;
}

async function offer(missing: string[], name: string, add: () => Promise<void>): Promise<void> {
  try {
    await add();
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    missing.push(`${name}: ${error.message}`);
  }
}

/**
 * Starts processes of one server, and waits until each has printed its port, or has written it to the file.
 */
async function begin(
  commands: readonly Deno.Command[],
  { restMs = 0, file }: { restMs?: number; file?: string } = {},
): Promise<Running> {
  const children = commands.map((command) => command.spawn());
  const running = {
    port: 0,
    async [Symbol.asyncDispose]() {
      for (const child of children) {
        try {
          child.kill("SIGKILL");
        } catch {
          // It has ended.
        }
        await child.status;
      }
      await new Promise((resolve) => setTimeout(resolve, restMs));
    },
  };
  try {
    for (const child of children) running.port = await (file === undefined ? portOf(child) : portIn(file, child));
    return running;
  } catch (error) {
    await running[Symbol.asyncDispose]();
    throw error;
  }
}

/** Waits until a process has written its port to a file, and removes the file. */
async function portIn(file: string, { status }: Deno.ChildProcess): Promise<number> {
  let code: number | undefined;
  status.then((ended) => code = ended.code);
  for (const end = Date.now() + START_MS; Date.now() < end && code === undefined;) {
    const port = Number(await Deno.readTextFile(file).catch(() => ""));
    if (port > 0) return await Deno.remove(file), port;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(code === undefined ? "It does not say where it listens" : `It ended with ${code}`);
}

/** Reads a process's output until it says where it listens, and drops the rest. */
async function portOf({ stdout, stderr, status }: Deno.ChildProcess): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let text = "";
  const read = async (stream: ReadableStream<Uint8Array>) => {
    for await (const chunk of stream.pipeThrough(new TextDecoderStream() as never) as ReadableStream<string>) {
      text += chunk;
      const port = /:(\d+)\/|^(\d+)\r?$/m.exec(text);
      if (port !== null) resolve(Number(port[1] ?? port[2]));
    }
  };
  read(stdout).catch(() => {});
  read(stderr).catch(() => {});
  status.then(({ code, signal }) => {
    // A server that ends while it is measured is a fault of its own.
    if (signal === null) console.error(`A server ended with ${code}: ${text.slice(-LAST_WORDS)}`);
    reject(new Error(`It ended with ${signal ?? code}: ${text}`));
  });
  const late = setTimeout(() => reject(new Error(`It does not say where it listens: ${text}`)), START_MS);
  try {
    return await promise;
  } finally {
    clearTimeout(late);
  }
}
