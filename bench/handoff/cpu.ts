/**
 * Processor time of a contestant's processes, as Linux accounts it. It tells what a rate alone does not: who is the
 * limit, and whether the time is the program's or the system's.
 *
 * @module
 */
import { processTrees, readProc } from "../../tools/process_tree.ts";

/** Who a process is in a hand-off. */
export type Role = "source" | "target" | "client" | "wineserver";

/** Seconds of processor time since the processes began. */
export type CpuTimes = Record<Role, { user: number; system: number }>;

/** `_SC_CLK_TCK`, which is the same on every Linux Deno runs on. */
const TICKS_PER_SECOND = 100;

/** The times of some processes and all their descendants. */
export function cpuTimes(roots: readonly number[]): CpuTimes {
  const times: CpuTimes = {
    source: { user: 0, system: 0 },
    target: { user: 0, system: 0 },
    client: { user: 0, system: 0 },
    wineserver: { user: 0, system: 0 },
  };
  for (const { id, user, system } of processTrees(roots)) {
    const role = roleOf(id);
    if (role === undefined) continue;
    times[role].user += user / TICKS_PER_SECOND;
    times[role].system += system / TICKS_PER_SECOND;
  }
  return times;
}

/** Contestants name their scripts for it; under Wine too the command line of a process is what it was started with. */
function roleOf(id: number): Role | undefined {
  const line = readProc(`/proc/${id}/cmdline`);
  if (line === undefined) return undefined;
  if (line.includes("wineserver")) return "wineserver";
  return /\W(?:\w+_)?(source|target|client)\.(?:ts|mjs|exe)/.exec(line)?.[1] as Role | undefined;
}
