/**
 * What this library costs a process that has not done anything yet: how long a start takes that imports it, and how much
 * memory a source and a worker have that wait.
 *
 *     deno task bench:startup [--lane linux|windows] [--rounds 25]
 *
 * Modules take turns, so that what slows the machine slows all; figures are medians of the rounds, with warm caches.
 *
 * @module
 */
import { LIBRARY_PATHS } from "@winsock/handoff";
import { parseArgs } from "@std/cli/parse-args";
import project from "../../deno.json" with { type: "json" };
import { bundle } from "../../tools/bundles.ts";
import { LaneUnavailable, windowsPrograms, WINE_DENO } from "../../tools/windows.ts";
import { memoryOf } from "./memory.ts";

/** Makes the command that runs this system's Deno, or the Windows build. */
type RunDeno = (args: string[]) => Deno.Command;

const EMPTY = "empty.ts";
const NODE_NET = "node.ts";
const LIBRARY = "../../mod.ts";
const BUNDLE = "../../.cache/bench/bundle.js";
/** What importing `mod.ts` may take: so many times what an empty module takes, and so many milliseconds. */
const GOAL = { times: 1.2, milliseconds: 30 };
const MODULES: [name: string, module: string][] = [
  ["an empty module", EMPTY],
  ["node:net", NODE_NET],
  [`${project.name}, bundled`, BUNDLE],
  // The program is left out: it does something when it is started.
  ...Object.entries(project.exports).filter(([name]) => name !== "./cli").map(
    ([entryPoint, module]): [string, string] => {
      return [`${project.name}${entryPoint.slice(1)}`, `../../${module.slice(2)}`];
    },
  ),
];
const RUN = ["run", "--quiet", "--no-prompt", "--no-check", "--cached-only"];
const STDIO = { stdin: "null", stdout: "piped", stderr: "inherit" } as const;

const LANES: Record<string, () => Promise<{ deno: RunDeno; ffi: string }>> = {
  linux: () => {
    const deno = (args: string[]) => new Deno.Command(Deno.execPath(), { ...STDIO, args });
    return Promise.resolve({ deno, ffi: LIBRARY_PATHS.join(",") });
  },
  windows: async () => {
    const program = await windowsPrograms();
    const deno = (args: string[]) => program([WINE_DENO, ...args], STDIO);
    return { deno, ffi: "C:\\Windows\\System32\\ws2_32.dll,C:\\Windows\\System32\\kernel32.dll" };
  },
};

const options = parseArgs(Deno.args, { string: ["lane", "rounds"] });
const rounds = Number(options.rounds ?? 25);

Deno.chdir(new URL("../..", import.meta.url));
// This system's Deno makes it for both lanes.
await bundle("--output=.cache/bench/bundle.js", "mod.ts");
for (const name of options.lane === undefined ? Object.keys(LANES) : [options.lane]) {
  const prepare = LANES[name];
  if (prepare === undefined) throw new TypeError(`There is no lane ${name}, only ${Object.keys(LANES).join(" and ")}`);
  try {
    const { deno, ffi } = await prepare();
    console.log(`\n== ${name}: medians of ${rounds} starts, load ${Deno.loadavg()[0]?.toFixed(1)}`);
    await printStarts(deno);
    await printMemory(deno, ffi);
  } catch (error) {
    if (!(error instanceof LaneUnavailable)) throw error;
    console.log(`\n== ${name}: skipped: ${error.message}`);
  }
}

async function printStarts(deno: RunDeno): Promise<void> {
  const args = [...RUN, "--allow-run", "bench/startup/starts.ts", `${rounds}`, ...MODULES.map(([, module]) => module)];
  const { success, stdout } = await deno(args).output();
  if (!success) throw new Error("The starts could not be measured");
  const times: Record<string, number[]> = JSON.parse(new TextDecoder().decode(stdout));
  const median = (module: string) => times[module]!.toSorted((a, b) => a - b)[rounds >> 1]!;
  const empty = median(EMPTY);
  for (const [name, module] of MODULES) {
    const least = Math.min(...times[module]!);
    const ratio = module === EMPTY ? "" : `${(median(module) / empty).toFixed(2)}×`;
    console.log(
      `  ${name.padEnd(28)}${milliseconds(median(module))}${ratio.padStart(9)}   least ${milliseconds(least)}`,
    );
  }
  const most = empty * GOAL.times + GOAL.milliseconds;
  const taken = median(LIBRARY);
  console.log(
    `  ${project.name} takes ${taken.toFixed(0)} ms, goal ${GOAL.times}× an empty module + ${GOAL.milliseconds} ms = ${
      most.toFixed(0)
    } ms: ${taken <= most ? "met" : "NOT met"}`,
  );
}

async function printMemory(deno: RunDeno, ffi: string): Promise<void> {
  const [idle] = await memoryOf(deno([...RUN, "bench/startup/idle.ts"]), ["idle.ts"]);
  const grants = ["--allow-run", `--allow-ffi=${ffi}`];
  const [source, worker] = await memoryOf(deno([...RUN, ...grants, "bench/startup/source.ts"]), [
    "source.ts",
    "worker.ts",
  ]);
  for (const [name, memory] of Object.entries({ "idle Deno": idle!, "idle source": source!, "idle worker": worker! })) {
    const { resident, peak } = memory;
    const more = (resident - idle!.resident).toFixed(1);
    console.log(
      `  ${name.padEnd(28)}${resident.toFixed(1).padStart(6)} MiB, peak ${peak.toFixed(1)} MiB${
        memory === idle ? "" : `, ${more} MiB more than idle Deno`
      }`,
    );
  }
}

function milliseconds(time: number): string {
  return `${time.toFixed(0).padStart(6)} ms`;
}
