/**
 * Waiting for many sockets on one pool thread.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { WinsockError } from "./winsock_error.ts";

/** What a socket is waited for. */
export type Readiness = "read" | "write";

/** A system's `poll`. */
export interface PollSystem {
  /** The bytes of one `struct pollfd`. */
  readonly size: number;
  /** Writes a `struct pollfd` at `offset`. */
  encode(view: DataView, offset: number, s: bigint, readiness: Readiness): void;
  /** Whether the one at `offset` came back ready; a socket that failed is. */
  isReady(view: DataView, offset: number): boolean;
  /** Waits on a pool thread until one is ready: how many are, or -1. */
  poll(fds: Uint8Array<ArrayBuffer>, count: number): Promise<number>;
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

/** One who waits. */
export interface Waiting {
  readonly s: bigint;
  readonly readiness: Readiness;
  /** Whether this keeps the process running. */
  referenced: boolean;
  /** Called once: with no error, the socket is ready. */
  readonly done: (error?: WinsockError) => void;
}

/** How often those are looked after who do not keep the process running: no pool thread may, for it would. */
const UNREFERENCED_MS = 20;

/** Waits for all sockets of the process at once. */
export class Poller {
  readonly #system: PollSystem;
  readonly #waiting = new Set<Waiting>();
  #waker: PollWaker | undefined;
  /** Pending while a pool thread looks at the sockets, which must not be closed meanwhile. */
  #polling: Promise<void> | undefined;
  #woken = false;
  #running = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(system: PollSystem) {
    this.#system = system;
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

  /** Begins to wait; it was {@linkcode Poller.prepare}d. */
  add(waiting: Waiting): void {
    this.#waiting.add(waiting);
    this.changed();
  }

  /** No longer waits; `done` is not called. Resolves when no thread looks at the socket any more. */
  async delete(waiting: Waiting): Promise<void> {
    if (!this.#waiting.delete(waiting)) return;
    this.#wake();
    await this.#polling;
  }

  /** Looks again at who waits, and whether they keep the process running. */
  changed(): void {
    if (this.#polling !== undefined) this.#wake();
    else if (!this.#running) this.#run();
  }

  async #run(): Promise<void> {
    clearTimeout(this.#timer);
    this.#running = true;
    while (this.#needed()) {
      try {
        if (!this.#lookNow()) await this.#look();
      } catch (error) {
        this.#fail(error as WinsockError);
      }
      // Whoever was called back asks for more in this turn, and does not have to wake the thread for it.
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#running = false;
    if (this.#waiting.size > 0) this.#lookLater();
  }

  #needed(): boolean {
    for (const { referenced } of this.#waiting) if (referenced) return true;
    return false;
  }

  #lookLater(): void {
    this.#timer = setTimeout(() => {
      try {
        this.#lookNow();
      } catch (error) {
        this.#fail(error as WinsockError);
      }
      if (!this.#running) this.#run();
    }, UNREFERENCED_MS);
    Deno.unrefTimer(this.#timer);
  }

  /** A call that waits for nothing costs less than a thread. */
  #lookNow(): boolean {
    const all = [...this.#waiting];
    const fds = this.#encode(all);
    return this.#system.pollNow(fds, all.length) > 0 && this.#callBack(all, fds);
  }

  async #look(): Promise<void> {
    const all = [...this.#waiting];
    const waker = this.#waker!;
    const fds = this.#encode(all, waker.handle);
    const polling = this.#system.poll(fds, all.length + 1);
    this.#woken = false;
    this.#polling = polling.then(() => {});
    const ready = await polling;
    this.#polling = undefined;
    // Why it failed stayed with the thread; asking on this one tells, or works.
    if (ready <= 0) return;
    if (this.#system.isReady(new DataView(fds.buffer), all.length * this.#system.size)) waker.rest();
    this.#callBack(all, fds);
  }

  #encode(all: Waiting[], waker?: bigint): Uint8Array<ArrayBuffer> {
    const { size } = this.#system;
    const fds = new Uint8Array((all.length + 1) * size);
    const view = new DataView(fds.buffer);
    all.forEach(({ s, readiness }, index) => this.#system.encode(view, index * size, s, readiness));
    if (waker !== undefined) this.#system.encode(view, all.length * size, waker, "read");
    return fds;
  }

  /** Whether there was anybody to call. */
  #callBack(all: Waiting[], fds: Uint8Array<ArrayBuffer>): boolean {
    const view = new DataView(fds.buffer);
    const ready = all.filter((waiting, index) => {
      return this.#system.isReady(view, index * this.#system.size) && this.#waiting.delete(waiting);
    });
    for (const { done } of ready) done();
    return ready.length > 0;
  }

  #fail(error: WinsockError): void {
    const all = [...this.#waiting];
    this.#waiting.clear();
    for (const { done } of all) done(error);
  }

  #wake(): void {
    if (this.#polling === undefined || this.#woken) return;
    this.#woken = true;
    this.#waker!.wake();
  }
}
