/**
 * References to processes on macOS.
 *
 * @module
 */
import { closeOnExec } from "./descriptor_flags.ts";
import { lastUnixError } from "./errno.ts";
import { libc, libcFunctions } from "./libc.ts";
import type { ProcessReference } from "./process.ts";

const EVFILT_PROC = -5;
const EV_ADD = 0x0001;
const NOTE_EXIT = 0x80000000;
const KEVENT_SIZE = 32;
/** `struct timespec` of 0: without waiting. */
const AT_ONCE = new BigInt64Array(2);

const functions = libcFunctions({
  /** `int kqueue(void)` */
  kqueue: { parameters: [], result: "i32" },
  /** `int kevent(int kq, const struct kevent *changelist, int nchanges, struct kevent *eventlist, int nevents, const struct timespec *timeout)` */
  kevent: { parameters: ["usize", "buffer", "i32", "buffer", "i32", "buffer"], result: "i32" },
});

/** A process by the event of its end (`EVFILT_PROC`, kqueue(2)), which no later process with its id causes. */
export class KqueueReference implements ProcessReference {
  readonly #kqueue: bigint;
  #ended = false;

  constructor(readonly pid: number, operation: string) {
    const kqueue = functions().kqueue();
    if (kqueue === -1) throw lastUnixError(operation, "kqueue");
    this.#kqueue = BigInt(kqueue);
    try {
      closeOnExec(this.#kqueue);
      const result = functions().kevent(this.#kqueue, encodeExitEvent(pid), 1, null, 0, AT_ONCE);
      if (result === -1) throw lastUnixError(operation, "kevent");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get alive(): boolean {
    // The event is told once.
    const count = this.#ended ? 1 : functions().kevent(this.#kqueue, null, 0, new Uint8Array(KEVENT_SIZE), 1, AT_ONCE);
    this.#ended = count > 0;
    return !this.#ended;
  }

  [Symbol.dispose](): void {
    libc().close(this.#kqueue);
  }
}

/** `struct kevent` that asks for the event of a process' end. */
export function encodeExitEvent(pid: number): Uint8Array<ArrayBuffer> {
  const event = new Uint8Array(KEVENT_SIZE);
  const view = new DataView(event.buffer);
  view.setBigUint64(0, BigInt(pid), true);
  view.setInt16(8, EVFILT_PROC, true);
  view.setUint16(10, EV_ADD, true);
  view.setUint32(12, NOTE_EXIT, true);
  return event;
}
