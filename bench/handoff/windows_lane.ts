/**
 * The Windows builds under Wine: this library against Node's `subprocess.send` and a C parent and child.
 *
 * Source, target and wineserver are pinned to one CPU and the client, a process of Linux, to another: unpinned, every
 * round trip to wineserver crosses CPUs, costs several times as much, and figures jump.
 *
 * @module
 */
import { LaneUnavailable, windowsPrograms, WINE_DENO } from "../../tools/windows.ts";
import { type Contestant, gather, type Lane, OURS, Unavailable } from "./lane.ts";
import { RUN } from "./ours_child.ts";
import { compileC, windowsNode } from "./packages.ts";

const SYSTEM32 = "C:\\Windows\\System32";
const GRANTS = [
  `--allow-ffi=${SYSTEM32}\\ws2_32.dll,${SYSTEM32}\\kernel32.dll`,
  "--allow-run",
  "--allow-net=127.0.0.1",
];

/** Prepares the lane. */
export async function windowsLane(): Promise<Lane> {
  if (Deno.build.os !== "linux") throw new Unavailable(`the client is written for Linux, and this is ${Deno.build.os}`);
  const wine = await windowsPrograms().catch((error) => {
    throw error instanceof LaneUnavailable ? new Unavailable(error.message) : error;
  });
  const [first, second] = await twoCpus();
  const command = (name: string, program: string[]): Contestant => ({
    name,
    start: (controlPort, { stderr, args }) =>
      wine([...program, String(controlPort), ...args], { under: pin(first), stdin: "null", stdout: "null", stderr }),
  });
  const c = (name: string, args: string[] = []) => async (): Promise<Contestant> => {
    const program = await compileC();
    const contestant = command(name, [program]);
    return { name, start: (port, options) => contestant.start(port, { ...options, args }) };
  };

  const { contestants, missing } = await gather({
    ours: () => command(OURS, [WINE_DENO, ...RUN, ...GRANTS, windowsPath("ours_source.ts")]),
    node: async () =>
      command("Node send", [
        await windowsNode(),
        windowsPath("send_source.mjs"),
      ]),
    c: c("C, one at a time"),
  });
  const channel = await gather({
    ours: () => command(OURS, [WINE_DENO, ...RUN, ...GRANTS, windowsPath("channel_source.ts")]),
    c: c("C", ["channel"]),
  });
  return {
    name: "Wine",
    note: `source, target and wineserver pinned to CPU ${first}, the client to CPU ${second}`,
    contestants,
    channel: channel.contestants,
    missing,
    clientUnder: pin(second),
  };
}

function pin(cpu: number): string[] {
  return ["taskset", "--cpu-list", String(cpu)];
}

/** Two CPUs this process may use; where there is but one, that twice. */
async function twoCpus(): Promise<[number, number]> {
  const status = await Deno.readTextFile("/proc/self/status");
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? "0";
  const cpus = list.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
  return [cpus[0]!, cpus[1] ?? cpus[0]!];
}

/** A file of this folder as Wine names it. */
function windowsPath(script: string): string {
  return `Z:${new URL(script, import.meta.url).pathname.replaceAll("/", "\\")}`;
}
