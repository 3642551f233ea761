/**
 * Upgrades under load: what becomes of every request.
 *
 * @module
 */
import { settledDescriptors } from "../kit/descriptors.ts";
import { endChild, FFI_GRANT, lines, RUN, within } from "../kit/process.ts";
import type { Sample } from "./load_client.ts";

/** Requests of one part of the run. */
export interface Phase {
  readonly requests: number;
  /** In milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly longest: number;
}

/** How the run went. */
export interface LoadReport {
  readonly before: Phase;
  /** Those that were under way while a version was replaced. */
  readonly during: Phase;
  readonly after: Phase;
  /** What went wrong, and how often: there must be nothing. */
  readonly problems: Readonly<Record<string, number>>;
  /** The processes that served, in order. */
  readonly processes: readonly number[];
  /** Descriptors of the first version before there was any load, and of the last one after it. */
  readonly descriptors: readonly [before: number, after: number];
}

const CLIENTS = 32;
const LIMIT_MS = 60_000;

/** A server that is replaced by its next version, again and again. */
export interface ReplaceableServer extends AsyncDisposable {
  readonly port: number;
  /** The process that serves. */
  readonly serving: number;
  /** Returns when it is replaced; the id of the process that serves now. */
  replace(): Promise<number>;
}

/**
 * Replaces a server under load.
 *
 * @param quietMs How long nothing is replaced, before the first time and after the last.
 */
export async function runUpgrades(server: ReplaceableServer, upgrades: number, quietMs = 1_000): Promise<LoadReport> {
  const before = await descriptorsOf(server.serving);
  const processes = [server.serving];
  const client = spawn("load_client.ts", ["--allow-net=127.0.0.1"], [String(server.port), String(CLIENTS)]);
  const line = lines(client);
  await line();
  const windows: [number, number][] = [];
  await pause(quietMs);
  for (let count = 0; count < upgrades; count++) {
    const start = Date.now();
    processes.push(await within(LIMIT_MS, server.replace()));
    windows.push([start, Date.now()]);
    await pause(100);
  }
  await pause(quietMs);
  await client.stdin.close();
  const samples: Sample[] = JSON.parse(await line() ?? "[]");
  await endChild(client);
  const after = await descriptorsOf(server.serving);
  const inWindow = ({ at, milliseconds }: Sample) => {
    return windows.some(([start, end]) => at + milliseconds >= start && at <= end);
  };
  const problems: Record<string, number> = {};
  for (const { problem, kept } of samples) {
    if (problem === "") continue;
    const what = `${problem}, ${kept ? "kept" : "new"} connection`;
    problems[what] = (problems[what] ?? 0) + 1;
  }
  const quiet = samples.filter((sample) => !inWindow(sample));
  return {
    before: phase(quiet.filter(({ at }) => at < windows[0]![0])),
    during: phase(samples.filter(inWindow)),
    after: phase(quiet.filter(({ at }) => at > windows[0]![0])),
    problems,
    processes,
    descriptors: [before, after],
  };
}

async function descriptorsOf(processId: number): Promise<number> {
  return (await settledDescriptors(processId))[0]!;
}

/** Prints a report. Returns how many requests have failed. */
export function printReport(title: string, { before, during, after, problems, descriptors }: LoadReport): number {
  console.log(`\n${title}; ${CLIENTS} clients, half of them with connections that are kept`);
  console.log("            requests   p50 ms   p99 ms   longest ms");
  for (const [name, phase] of Object.entries({ before, during, after })) {
    const numbers = [phase.p50, phase.p99, phase.longest].map((value) => value.toFixed(1).padStart(9));
    console.log(`  ${name.padEnd(8)}${String(phase.requests).padStart(10)}${numbers.join("")}`);
  }
  const countOf = (code: string) => {
    return Object.entries(problems).reduce((sum, [what, count]) => sum + (what.startsWith(code) ? count : 0), 0);
  };
  const [refused, reset, failed] = ["ECONNREFUSED", "ECONNRESET", ""].map(countOf) as [number, number, number];
  const others = failed > 0 ? ` ${JSON.stringify(problems)}` : "";
  console.log(`  refused ${refused}, reset ${reset}, failed ${failed}${others}`);
  console.log(`  descriptors: ${descriptors[0]} of the first version, ${descriptors[1]} of the last`);
  return failed;
}

/** The server of `server_version.ts`, replaced by `upgrade`. */
export async function startVersions(): Promise<ReplaceableServer> {
  const child = spawn("../children/server_version.ts", [FFI_GRANT, "--allow-env", "--allow-run", "--allow-read"], [
    "1",
  ]);
  const line = lines(child);
  const { pid, port } = JSON.parse(await line() ?? "{}");
  let serving: number = pid;
  return {
    port,
    get serving() {
      return serving;
    },
    async replace() {
      const response = await fetch(`http://127.0.0.1:${port}/${serving}/well`, {
        method: "POST",
        headers: { connection: "close" },
      });
      const result = await response.json();
      if (result.processId === undefined) throw new Error(`The upgrade failed: ${JSON.stringify(result)}`);
      await line();
      return serving = result.processId;
    },
    async [Symbol.asyncDispose]() {
      Deno.kill(serving, "SIGKILL");
      await endChild(child);
    },
  };
}

/** The server of `reuse_port_server.ts`: the next version listens beside the old one, which then stops. */
export async function startReusePort(): Promise<ReplaceableServer> {
  const start = async (port: number) => {
    const child = spawn("reuse_port_server.ts", ["--allow-net=127.0.0.1"], [String(port)]);
    return { child, ...JSON.parse(await lines(child)() ?? "{}") as { pid: number; port: number } };
  };
  let serving = await start(0);
  const children = [serving.child];
  return {
    port: serving.port,
    get serving() {
      return serving.pid;
    },
    async replace() {
      const next = await start(serving.port);
      children.push(next.child);
      await serving.child.stdin.close();
      serving = next;
      return next.pid;
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) await endChild(child);
    },
  };
}

function spawn(script: string, grants: string[], args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [...RUN, ...grants, new URL(script, import.meta.url).href, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

function phase(samples: Sample[]): Phase {
  const times = samples.map(({ milliseconds }) => milliseconds).toSorted((a, b) => a - b);
  const at = (part: number) => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0;
  return { requests: times.length, p50: at(0.5), p99: at(0.99), longest: times.at(-1) ?? 0 };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
