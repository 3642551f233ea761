/** Ending a process with all that it has started, and was about to start. */
import { kill } from "./acts.ts";

const PROCESS_TERMINATE = 0x0001;
const PROCESS_SET_QUOTA = 0x0100;

/**
 * A process and those that it starts. On Windows a process that is killed while it starts another leaves that one behind:
 * suspended, for its parent would have let it run, and in no job of Deno's, for its parent would have put it there. It says
 * nothing, never ends, and keeps the pipes it has inherited open. A job it is born in finds it.
 */
export class Family {
  readonly #processId: number;
  readonly #job: bigint;

  /** @param processId A process that has started no other yet. */
  constructor(processId: number) {
    this.#processId = processId;
    this.#job = Deno.build.os === "windows" ? openJob(processId) : 0n;
  }

  /** Ends the process at once, and then what it leaves behind that does not end by itself. Once. */
  kill(): void {
    kill(this.#processId);
    if (this.#job === 0n) return;
    check("TerminateJobObject", kernel32().TerminateJobObject(this.#job, 1));
    kernel32().CloseHandle(this.#job);
  }
}

function openJob(processId: number): bigint {
  const { OpenProcess, CreateJobObjectW, AssignProcessToJobObject, CloseHandle } = kernel32();
  const job = CreateJobObjectW(null, null);
  const handle = OpenProcess(PROCESS_TERMINATE | PROCESS_SET_QUOTA, 0, processId);
  check("AssignProcessToJobObject", AssignProcessToJobObject(job, handle));
  CloseHandle(handle);
  return job;
}

function check(name: string, done: number): void {
  if (done === 0) throw new Error(`${name} failed`);
}

function openKernel32() {
  return Deno.dlopen("C:\\Windows\\System32\\kernel32.dll", {
    OpenProcess: { parameters: ["u32", "i32", "u32"], result: "usize" },
    CreateJobObjectW: { parameters: ["pointer", "pointer"], result: "usize" },
    AssignProcessToJobObject: { parameters: ["usize", "usize"], result: "i32" },
    TerminateJobObject: { parameters: ["usize", "u32"], result: "i32" },
    CloseHandle: { parameters: ["usize"], result: "i32" },
  }).symbols;
}

let opened: ReturnType<typeof openKernel32> | undefined;

function kernel32() {
  return opened ??= openKernel32();
}
