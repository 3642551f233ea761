/**
 * Finds the descendants of processes in `/proc`. On systems other than Linux, only the process itself is known.
 *
 * @module
 */

/** A process, and its processor time in ticks of the system. */
export interface ProcessInfo {
  readonly id: number;
  readonly parent: number;
  readonly user: number;
  readonly system: number;
}

/** Returns processes and all their descendants. */
export function processTrees(roots: readonly number[]): ProcessInfo[] {
  const processes = readProcesses();
  const descends = (process: ProcessInfo): boolean => {
    for (let at: ProcessInfo | undefined = process; at !== undefined; at = processes.get(at.parent)) {
      if (roots.includes(at.id)) return true;
    }
    return false;
  };
  return [...processes.values()].filter(descends);
}

/**
 * Ends the descendants of a process, and then the process, unless it ends with them. If Wine runs in its own
 * namespaces, their first process is a descendant, and `unshare` ends when all processes in them have ended. Otherwise,
 * a Wine that starts earlier would find the remains of this server.
 */
export async function killTree(child: Deno.ChildProcess): Promise<void> {
  for (const { id } of processTrees([child.pid])) if (id !== child.pid) kill(id);
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, GRACE_MS);
  await Promise.race([child.status, late]);
  clearTimeout(timer);
  try {
    child.kill("SIGKILL");
  } catch {
    // it has ended by itself
  }
  await child.status;
}

/** Reads a file of `/proc`. Returns `undefined` if the process has ended. */
export function readProc(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
}

const GRACE_MS = 2000;

function kill(id: number): void {
  try {
    Deno.kill(id, "SIGKILL");
  } catch {
    // it has ended meanwhile
  }
}

function readProcesses(): Map<number, ProcessInfo> {
  const processes = new Map<number, ProcessInfo>();
  if (Deno.build.os !== "linux") return processes;
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readProc(`/proc/${name}/stat`);
    // The name of the command is in parentheses and may contain any character. The state follows it.
    const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields === undefined) continue;
    const id = Number(name);
    processes.set(id, { id, parent: Number(fields[1]), user: Number(fields[11]), system: Number(fields[12]) });
  }
  return processes;
}
