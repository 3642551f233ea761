/** What a process is doing, on systems that are Unix: Linux by /proc, macOS by ps. */

/** The letter the system has for the state of a process, `Z` once it has ended and nobody has heard of it; none later. */
export function processState(processId: number): string | undefined {
  if (Deno.build.os === "darwin") return askPs(processId);
  try {
    return /\) (.)/.exec(Deno.readTextFileSync(`/proc/${processId}/stat`))?.[1];
  } catch {
    return undefined;
  }
}

/** Whether a process has not ended. */
export function isRunning(processId: number): boolean {
  const state = processState(processId);
  return state !== undefined && !"ZX".includes(state);
}

/** How many threads a process has; `undefined` where that is not told. */
export function countThreads(processId: number): number | undefined {
  if (Deno.build.os === "darwin") return undefined;
  try {
    return [...Deno.readDirSync(`/proc/${processId}/task`)].length;
  } catch {
    return 0;
  }
}

function askPs(processId: number): string | undefined {
  const args = ["-o", "stat=", "-p", String(processId)];
  const { stdout } = new Deno.Command("ps", { args, stderr: "null" }).outputSync();
  return new TextDecoder().decode(stdout).trim()[0];
}
