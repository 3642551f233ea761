/**
 * Processes and what descends from them, as `/proc` has it; elsewhere than on Linux no more is known than the process itself.
 *
 * @module
 */

/** A process, and its processor time in the system's ticks. */
export interface ProcessInfo {
  readonly id: number;
  readonly parent: number;
  readonly user: number;
  readonly system: number;
}

/** Some processes and all their descendants. */
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
 * Ends a process and its descendants: those first, and then it, unless it ends with them. Where Wine runs in namespaces
 * of its own, their first process is a descendant, and `unshare` ends when all in them has. Another Wine that began
 * earlier would find the remains of this one's server.
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

/** A file of `/proc`; `undefined` if its process has ended meanwhile. */
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
    // The command's name is in parentheses and may contain anything; the state follows it.
    const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields === undefined) continue;
    const id = Number(name);
    processes.set(id, { id, parent: Number(fields[1]), user: Number(fields[11]), system: Number(fields[12]) });
  }
  return processes;
}
