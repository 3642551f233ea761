/**
 * Processor time of a contestant's processes, as Linux accounts it. It tells what a rate alone does not: who is the
 * limit, and whether the time is the program's or the system's.
 *
 * @module
 */

/** Who a process is in a hand-off. */
export type Role = "source" | "target" | "client" | "wineserver";

/** Seconds of processor time since the processes began. */
export type CpuTimes = Record<Role, { user: number; system: number }>;

/** `_SC_CLK_TCK`, which is the same on every Linux Deno runs on. */
const TICKS_PER_SECOND = 100;

interface Process {
  readonly parent: number;
  readonly user: number;
  readonly system: number;
}

/** The times of some processes and all their descendants. */
export function cpuTimes(roots: readonly number[]): CpuTimes {
  const processes = readProcesses();
  const times: CpuTimes = {
    source: { user: 0, system: 0 },
    target: { user: 0, system: 0 },
    client: { user: 0, system: 0 },
    wineserver: { user: 0, system: 0 },
  };
  for (const [id, { user, system }] of processes) {
    if (!descendsFrom(id, roots, processes)) continue;
    const role = roleOf(id);
    if (role === undefined) continue;
    times[role].user += user / TICKS_PER_SECOND;
    times[role].system += system / TICKS_PER_SECOND;
  }
  return times;
}

function descendsFrom(id: number, roots: readonly number[], processes: Map<number, Process>): boolean {
  for (let at: number | undefined = id; at !== undefined && at !== 0; at = processes.get(at)?.parent) {
    if (roots.includes(at)) return true;
  }
  return false;
}

/** Contestants name their scripts for it; under Wine too the command line of a process is what it was started with. */
function roleOf(id: number): Role | undefined {
  const line = read(`/proc/${id}/cmdline`);
  if (line === undefined) return undefined;
  if (line.includes("wineserver")) return "wineserver";
  return /\W(?:\w+_)?(source|target|client)\.(?:ts|mjs|exe)/.exec(line)?.[1] as Role | undefined;
}

function readProcesses(): Map<number, Process> {
  const processes = new Map<number, Process>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = read(`/proc/${name}/stat`);
    // The command's name is in parentheses and may contain anything; the state follows it.
    const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields === undefined) continue;
    processes.set(Number(name), { parent: Number(fields[1]), user: Number(fields[11]), system: Number(fields[12]) });
  }
  return processes;
}

function read(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined; // it has ended meanwhile
  }
}
