/** Ending and freezing processes, on each system in its own way. */
import { countThreads, isRunning, processState } from "../process_state.ts";

const PROCESS_SUSPEND_RESUME = 0x0800;
const SYNCHRONIZE = 0x00100000;
const WAIT_OBJECT_0 = 0;
const DEADLINE_MS = 10_000;

/** Ends a process at once, and returns when the system has done so; for this one it does not return. */
export function kill(processId: number): void {
  const handle = openProcess(processId);
  try {
    Deno.kill(processId, "SIGKILL");
  } catch {
    // it has ended by itself
  }
  waitUntilGone(processId, handle);
}

/** Stops a process where it is, this one too; returns when it has stopped, or when it runs again. */
export function freeze(processId: number): void {
  if (Deno.build.os !== "windows") {
    Deno.kill(processId, "SIGSTOP");
    if (processId !== Deno.pid) waitUntil(() => "TtZX".includes(processState(processId) ?? "-"));
    return;
  }
  const handle = openProcess(processId);
  check("NtSuspendProcess", ntdll().NtSuspendProcess(handle));
  kernel32().CloseHandle(handle);
}

/** Lets it run again; what has ended already is left alone. */
export function thaw(processId: number): void {
  if (Deno.build.os !== "windows") {
    try {
      Deno.kill(processId, "SIGCONT");
    } catch {
      // it has ended
    }
    return;
  }
  const handle = openProcess(processId);
  if (handle === 0n) return;
  ntdll().NtResumeProcess(handle);
  kernel32().CloseHandle(handle);
}

/** Whether a process has not ended. */
export function isAlive(processId: number): boolean {
  if (Deno.build.os !== "windows") return isRunning(processId);
  const handle = openProcess(processId);
  if (handle === 0n) return false;
  const ended = kernel32().WaitForSingleObject(handle, 0) === WAIT_OBJECT_0;
  kernel32().CloseHandle(handle);
  return !ended;
}

function waitUntilGone(processId: number, handle: bigint): void {
  if (Deno.build.os === "windows") {
    if (handle === 0n) return;
    const gone = kernel32().WaitForSingleObject(handle, DEADLINE_MS) === WAIT_OBJECT_0;
    kernel32().CloseHandle(handle);
    if (!gone) throw new Error(`Process ${processId} did not end`);
    return;
  }
  // The first thread of a process can be gone while others, and with them its descriptors, are not.
  waitUntil(() => {
    const now = processState(processId);
    return now === undefined || "ZX".includes(now) && (countThreads(processId) ?? 0) <= 1;
  });
}

function waitUntil(condition: () => boolean): void {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  for (const deadline = Date.now() + DEADLINE_MS; !condition();) {
    if (Date.now() > deadline) throw new Error("A process neither ended nor stopped");
    Atomics.wait(cell, 0, 0, 1);
  }
}

function openProcess(processId: number): bigint {
  if (Deno.build.os !== "windows") return 0n;
  return kernel32().OpenProcess(PROCESS_SUSPEND_RESUME | SYNCHRONIZE, 0, processId);
}

function check(name: string, status: number): void {
  if (status !== 0) throw new Error(`${name} failed with ${status}`);
}

function openKernel32() {
  return Deno.dlopen("C:\\Windows\\System32\\kernel32.dll", {
    OpenProcess: { parameters: ["u32", "i32", "u32"], result: "usize" },
    WaitForSingleObject: { parameters: ["usize", "u32"], result: "u32" },
    CloseHandle: { parameters: ["usize"], result: "i32" },
  }).symbols;
}

function openNtdll() {
  return Deno.dlopen("C:\\Windows\\System32\\ntdll.dll", {
    NtSuspendProcess: { parameters: ["usize"], result: "i32" },
    NtResumeProcess: { parameters: ["usize"], result: "i32" },
  }).symbols;
}

let openedKernel32: ReturnType<typeof openKernel32> | undefined;
let openedNtdll: ReturnType<typeof openNtdll> | undefined;

function kernel32() {
  return openedKernel32 ??= openKernel32();
}

function ntdll() {
  return openedNtdll ??= openNtdll();
}
