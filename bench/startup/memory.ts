/**
 * How much memory processes that wait have, as Linux accounts it; under Wine, too.
 *
 * @module
 */
import { killTree, processTrees, readProc } from "../../tools/process_tree.ts";

/** MiB of a process. */
export interface Memory {
  /** What it has in memory. */
  readonly resident: number;
  /** The most it had. */
  readonly peak: number;
}

const SETTLE_MS = 1000;

/**
 * Starts a script that prints a line when it is ready, and looks at it a second later.
 *
 * @param command Runs the script; its stdout is piped.
 * @param scripts The names of the scripts whose processes are looked at: the command's, and what it starts.
 * @returns The memory of each script's process.
 */
export async function memoryOf(command: Deno.Command, scripts: readonly string[]): Promise<Memory[]> {
  const child = command.spawn();
  try {
    const reader = child.stdout.getReader();
    await reader.read();
    reader.releaseLock();
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const processes = processTrees([child.pid]).map(({ id }) => ({ id, line: readProc(`/proc/${id}/cmdline`) ?? "" }));
    return scripts.map((script) => {
      // What starts Wine names the script as well; the process that runs it is the largest.
      const named = processes.filter(({ line }) => line.includes(`startup/${script}`)).map(({ id }) => readMemory(id));
      return named.reduce((a, b) => a.resident > b.resident ? a : b, { resident: 0, peak: 0 });
    });
  } finally {
    await killTree(child);
    await child.stdout.cancel();
  }
}

function readMemory(id: number): Memory {
  const status = readProc(`/proc/${id}/status`) ?? "";
  const mebibytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) / 1024;
  return { resident: mebibytes("VmRSS"), peak: mebibytes("VmHWM") };
}
