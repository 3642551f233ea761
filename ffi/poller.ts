/**
 * Waiting for many sockets on one pool thread.
 *
 * @module
 */
import { PollTable } from "./poll_table.ts";
import { nextTurn } from "./turns.ts";
import { type Readiness, Waiting, type Waits } from "./waiting.ts";
import type { WinsockError } from "./winsock_error.ts";

/** A system's `poll`. */
export interface PollSystem {
  /** The bytes of one `struct pollfd`. */
  readonly size: number;
  /** The events by which a socket can be read, or reading it tells why not. */
  readonly readable: number;
  /** The events by which a socket can be written, or writing to it tells why not. */
  readonly writable: number;
  /** Writes a `struct pollfd` at `offset`, with no events returned. */
  encode(view: DataView, offset: number, s: bigint, read: boolean, write: boolean): void;
  /** The events returned at `offset`. */
  revents(view: DataView, offset: number): number;
  /** Waits on a pool thread until one is ready, or so many milliseconds: how many are, or -1. */
  poll(fds: Uint8Array<ArrayBuffer>, count: number, timeout: number): Promise<number>;
  /**
   * Asks on this thread: how many are ready.
   *
   * @throws {WinsockError} If it cannot be asked.
   */
  pollNow(fds: Uint8Array<ArrayBuffer>, count: number): number;
  /** Makes what wakes a pending {@linkcode PollSystem.poll}. */
  waker(): PollWaker;
}

/** A socket, or what can be polled like one, that becomes readable when it is told to. */
export interface PollWaker {
  readonly handle: bigint;
  wake(): void;
  /** Makes it wait again, once it was found ready. */
  rest(): void;
}

/** A thread ends by itself this often: what was to wake it may be lost, or its Worker be gone. */
const SLICE_MS = 1_000;
/** How often those are asked for whom no thread can wait, or may: one that waits keeps the process running. */
const ASK_AGAIN_MS = 10;

/** Waits for all sockets of the process at once. */
export class Poller implements Waits {
  readonly #system: PollSystem;
  readonly #table: PollTable;
  #waker: PollWaker | undefined;
  /** Pending while a pool thread looks at the sockets. */
  #polling: Promise<void> | undefined;
  #woken = false;
  #running = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(system: PollSystem) {
    this.#system = system;
    this.#table = new PollTable(system);
  }

  /**
   * Makes what waiting needs, so that it does not fail for want of it.
   *
   * @throws {WinsockError} Such as WSAEMFILE.
   */
  prepare(): this {
    this.#waker ??= this.#system.waker();
    return this;
  }

  /**
   * Begins to wait; {@linkcode Poller.prepare} came before. One at a time for each socket and readiness.
   *
   * @param referenced Whether this keeps the process running; without, it takes some milliseconds longer.
   */
  wait(s: bigint, readiness: Readiness, referenced: boolean = true): Waiting {
    const waiting = new Waiting(s, readiness, referenced);
    this.add(waiting);
    return waiting;
  }

  /** Begins a wait that was made elsewhere. */
  add(waiting: Waiting): void {
    this.#table.add(waiting);
    this.changed();
  }

  /** Ends a wait once no thread looks at the socket for it any more. */
  async cancel(waiting: Waiting): Promise<void> {
    if (this.#table.delete(waiting)) {
      this.#wake();
      await this.#polling;
    }
    waiting.end();
  }

  /** Looks again at who waits, and whether they keep the process running. */
  changed(): void {
    if (this.#polling !== undefined) this.#wake();
    else if (!this.#running) this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    do {
      try {
        if (!this.#table.look() && this.#table.referenced) {
          await this.#wait();
          this.#table.look();
        }
      } catch (error) {
        this.#table.fail(error as WinsockError);
      }
      // Whoever was called back asks for more in this turn, and does not have to wake the thread for it.
      await nextTurn();
    } while (this.#table.referenced);
    this.#running = false;
    if (!this.#table.empty) this.#lookLater();
  }

  #lookLater(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.changed();
    }, ASK_AGAIN_MS);
    Deno.unrefTimer(this.#timer);
  }

  async #wait(): Promise<void> {
    const waker = this.#waker!;
    const { fds, count, complete } = this.#table.forThread(waker.handle);
    const polling = this.#system.poll(fds, count, complete ? SLICE_MS : ASK_AGAIN_MS);
    this.#woken = false;
    this.#polling = polling.then(() => {});
    const ready = await polling;
    this.#polling = undefined;
    const view = new DataView(fds.buffer);
    if (ready > 0 && this.#system.revents(view, (count - 1) * this.#system.size) !== 0) waker.rest();
    // Why it failed stayed with the thread. Asking on this one may tell; if not, it is not to be asked without end.
    if (ready === -1) await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
  }

  #wake(): void {
    if (this.#polling === undefined || this.#woken) return;
    this.#woken = true;
    this.#waker!.wake();
  }
}
