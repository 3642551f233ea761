/**
 * Waiting for readiness on a pool thread.
 *
 * @module
 */
import { closeAtEnd } from "../unload.ts";
import { libc } from "./libc.ts";
import { newWakerEnds } from "./new_descriptors.ts";

/** `POLLIN`: something to read or accept. */
export const POLLIN = 0x0001;
/** `POLLOUT`: room to write, or a finished connect. */
export const POLLOUT = 0x0004;

/**
 * Waits until one of the descriptors is ready.
 *
 * @param timeout In milliseconds; -1 without limit.
 * @param wanted Descriptors, each with the events wanted.
 * @returns How many are ready; 0 after the timeout.
 */
export async function poll(timeout: number, ...wanted: readonly [fd: bigint, events: number][]): Promise<number> {
  return await libc().poll(pollfds(wanted), BigInt(wanted.length), timeout);
}

/**
 * The same on the calling thread, which it blocks.
 *
 * @param timeout In milliseconds; -1 without limit.
 * @param wanted Descriptors, each with the events wanted.
 * @returns How many are ready; 0 after the timeout.
 */
export function pollNow(timeout: number, ...wanted: readonly [fd: bigint, events: number][]): number {
  return libc().pollNow(pollfds(wanted), BigInt(wanted.length), timeout);
}

/** Looks at one descriptor again and again, without waiting. */
export class Look {
  readonly #fds: Uint8Array<ArrayBuffer>;

  /**
   * @param fd The descriptor.
   * @param events The events wanted.
   */
  constructor(fd: bigint, events: number) {
    this.#fds = pollfds([[fd, events]]);
  }

  /** Whether it is ready, or has something to say of why it never will be. */
  ready(): boolean {
    return libc().pollNow(this.#fds, 1n, 0) > 0;
  }
}

/** An array of `struct pollfd`. */
function pollfds(wanted: readonly (readonly [fd: bigint, events: number])[]): Uint8Array<ArrayBuffer> {
  const fds = new Uint8Array(wanted.length * 8);
  const view = new DataView(fds.buffer);
  wanted.forEach(([fd, events], index) => {
    view.setInt32(index * 8, Number(fd), true);
    view.setInt16(index * 8 + 4, events, true);
  });
  return fds;
}

/** Ends a {@linkcode poll} from the JavaScript thread: a descriptor that becomes readable. */
export class Waker {
  readonly fd: bigint;
  readonly #end: bigint;

  constructor() {
    [this.fd, this.#end] = newWakerEnds();
  }

  /** Has it closed with the program; a thread that polls it ends first. */
  closeAtEnd(): void {
    closeAtEnd(this.fd, () => {
      this.wake();
      libc().close(this.fd);
    });
    if (this.#end !== this.fd) closeAtEnd(this.#end, () => void libc().close(this.#end));
  }

  /** Wakes whoever polls it, now and from then on. */
  wake(): void {
    libc().write(this.#end, new BigUint64Array([1n]), 8n);
  }
}
