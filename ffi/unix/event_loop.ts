/**
 * Waiting for connections in Deno's own event loop, on Linux: no thread waits.
 *
 * What is waited for is in an epoll set. Deno cannot watch the set: it reads what it watches, and a set cannot be read. So
 * a request of asynchronous I/O polls the set, and the kernel then counts in an eventfd (`io_submit(2)`), which Deno reads
 * as it does any pipe. A socket is in the set only while it is waited for: a registration outlives `close` as long as
 * another process has the socket.
 *
 * Deno's own listening handle is not used. It accepts everything that waits before it tells of the first connection; what
 * was not taken is lost when it is closed; it accepts no more once there were too many open files; and it loses every
 * connection of a local socket (Deno 2.9.6).
 *
 * @module
 */
import { nodeBinding } from "../node_builtins.ts";
import type { Poller } from "../poller.ts";
import { type Readiness, Waiting, type Waits } from "../waiting.ts";
import type { WinsockError } from "../winsock_error.ts";
import { lastUnixError } from "./errno.ts";
import { libc, libcFunctions } from "./libc.ts";
import { newWakerEnds } from "./new_descriptors.ts";
import { unixSystem } from "./system.ts";
import type { UnixSystem } from "./systems/unix_system.ts";

/** `Pipe` of Node's internal `pipe_wrap`; an eventfd does as well. */
interface PipeHandle {
  /** Called with what was read; with nothing when reading has failed, which ends it. */
  onread: (data: ArrayBuffer | undefined) => void;
  /** Returns 0 if it owns the descriptor from now on. */
  open(descriptor: number): number;
  readStart(): number;
  /** Has it keep the process running, as it does from the start. */
  ref(): void;
  unref(): void;
  close(): void;
}

type AsyncPollNumbers = NonNullable<UnixSystem["asyncPoll"]>;

type PipeConstructor = new (type: number) => PipeHandle;

const PIPE_TYPE = 0;
/** How often, and how long after each other, it is asked whether Deno has read the eventfd. A turn of the loop is enough. */
const PROOFS = 10;
const PROOF_MS = 100;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLLIN = 0x001;
const EPOLLOUT = 0x004;
/** Tells once, even of a descriptor that was closed behind this module's back and cannot be taken out of the set. */
const EPOLLONESHOT = 0x4000_0000;
/** How many are told of in one turn; the set stays ready for the others. */
const MOST_EVENTS = 32;

const IOCB_CMD_POLL = 5;
const IOCB_FLAG_RESFD = 1;
/** One block of native memory: `struct iocb`, a list with its address, `aio_context_t`, `struct io_event`. */
const LIST = 64;
const CONTEXT = LIST + 8;
const EVENT = CONTEXT + 8;
const BLOCK_SIZE = EVENT + 32;

const functions = libcFunctions({
  /** `int epoll_create1(int flags)` */
  epoll_create1: { parameters: ["i32"], result: "i32" },
  /** `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)` */
  epoll_ctl: { parameters: ["usize", "i32", "usize", "buffer"], result: "i32" },
  /** `int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)` */
  epoll_wait: { parameters: ["usize", "buffer", "i32", "i32"], result: "i32" },
  /** `long syscall(long number, ...)`, with five integer arguments */
  syscall5: { name: "syscall", parameters: ["i64", "usize", "usize", "usize", "usize", "usize"], result: "i64" },
});

/** Waits in the event loop; with the poller if this Deno turns out not to tell. */
export class EventLoop implements Waits {
  readonly #poller: Poller;
  readonly #ready: ReadySet;
  readonly #pipe: PipeHandle;
  readonly #waits = new Map<bigint, Waiting>();
  #referenced = true;
  #proof: ReturnType<typeof setTimeout> | undefined;
  #givenUp = false;

  private constructor(poller: Poller, ready: ReadySet, pipe: PipeHandle) {
    this.#poller = poller;
    this.#ready = ready;
    this.#pipe = pipe;
    // What is read is the counter's 8 bytes, which say nothing.
    pipe.onread = (data) => data === undefined ? this.#giveUp() : this.#look();
    pipe.readStart();
    this.#reference();
    this.#prove(PROOFS);
  }

  /**
   * Makes what waiting needs.
   *
   * @param poller What waits where this cannot.
   * @returns `undefined` where it is not to be had, or not at the moment.
   */
  static open(poller: Poller): EventLoop | undefined {
    const numbers = unixSystem().asyncPoll;
    const Pipe = nodeBinding<{ Pipe: PipeConstructor }>("pipe_wrap")?.Pipe;
    if (numbers === undefined || typeof Pipe?.prototype.readStart !== "function") return undefined;
    try {
      using owned = new DisposableStack();
      const ready = owned.use(new ReadySet(numbers));
      owned.defer(() => libc().close(ready.counter));
      const pipe = new Pipe(PIPE_TYPE);
      if (pipe.open(Number(ready.counter)) !== 0) return undefined;
      owned.move();
      return new EventLoop(poller, ready, pipe);
    } catch {
      // Too many open files, or a system or a Deno that cannot do this.
      return undefined;
    }
  }

  wait(s: bigint, readiness: Readiness, referenced: boolean = true): Waiting {
    if (this.#givenUp || this.#waits.has(s) || !this.#ready.add(s, readiness)) {
      return this.#poller.prepare().wait(s, readiness, referenced);
    }
    const waiting = new Waiting(s, readiness, referenced);
    this.#waits.set(s, waiting);
    this.#reference();
    if (!this.#ready.arm()) this.#giveUp();
    return waiting;
  }

  async cancel(waiting: Waiting): Promise<void> {
    if (this.#waits.get(waiting.s) !== waiting) return await this.#poller.cancel(waiting);
    this.#delete(waiting);
    this.#reference();
    waiting.end();
  }

  #look(): void {
    this.#proven();
    if (this.#givenUp) return;
    for (const s of this.#ready.take()) {
      const waiting = this.#waits.get(s);
      if (waiting === undefined) continue;
      this.#delete(waiting);
      waiting.end();
    }
    this.#reference();
    if (this.#waits.size > 0 && !this.#ready.arm()) this.#giveUp();
  }

  #delete(waiting: Waiting): void {
    this.#ready.delete(waiting.s);
    this.#waits.delete(waiting.s);
  }

  /** Keeps the process running as long as somebody waits who does. */
  #reference(): void {
    const referenced = this.#waits.values().some((waiting) => waiting.referenced);
    if (referenced === this.#referenced) return;
    this.#referenced = referenced;
    if (referenced) this.#pipe.ref();
    else this.#pipe.unref();
  }

  /** Gives Deno time to read what the counter began with. Were it never to, no connection would be accepted. */
  #prove(times: number): void {
    this.#proof = setTimeout(() => times === 0 ? this.#giveUp() : this.#prove(times - 1), PROOF_MS);
    Deno.unrefTimer(this.#proof);
  }

  #proven(): void {
    if (this.#proof === undefined) return;
    clearTimeout(this.#proof);
    this.#proof = undefined;
  }

  /** Leaves waiting to the poller, from now on and for those who wait already. */
  #giveUp(): void {
    if (this.#givenUp) return;
    this.#givenUp = true;
    this.#proven();
    for (const waiting of this.#waits.values()) {
      this.#delete(waiting);
      try {
        this.#poller.prepare().add(waiting);
      } catch (error) {
        waiting.fail(error as WinsockError);
      }
    }
    this.#reference();
    this.#pipe.close();
    this.#ready[Symbol.dispose]();
  }
}

/** An epoll set, and a counter that becomes readable when something in the set is ready. */
class ReadySet implements Disposable {
  /** Begins with 1, which shows that it is read. Belongs to whoever reads it. */
  readonly counter: bigint;
  readonly #numbers: AsyncPollNumbers;
  readonly #set: bigint;
  readonly #block: bigint;
  readonly #context: bigint;
  readonly #owned: DisposableStack;
  readonly #control = new DataView(new ArrayBuffer(16));
  readonly #events: DataView<ArrayBuffer>;
  /** Whether the kernel has been asked to count, and has not yet. */
  #armed = false;

  /** @throws {WinsockError} If the system refuses. */
  constructor(numbers: AsyncPollNumbers) {
    using owned = new DisposableStack();
    this.#numbers = numbers;
    this.#events = new DataView(new ArrayBuffer(MOST_EVENTS * (numbers.epollData + 8)));
    this.#block = owned.adopt(libc().malloc(BigInt(BLOCK_SIZE)), (block) => libc().free(block));
    this.#context = owned.adopt(this.#setUp(), (context) => void this.#call(numbers.io_destroy, context));
    const set = functions().epoll_create1(EPOLL_CLOEXEC);
    if (set === -1) throw lastUnixError("wait for connections", "epoll_create1");
    this.#set = owned.adopt(BigInt(set), (descriptor) => void libc().close(descriptor));
    [this.counter] = newWakerEnds();
    libc().write(this.counter, new BigUint64Array([1n]), 8n);
    libc().copyIn(this.#block, this.#request(), BigInt(CONTEXT));
    this.#owned = owned.move();
  }

  /** Puts a descriptor in. Returns whether that was possible. */
  add(s: bigint, readiness: Readiness): boolean {
    this.#control.setUint32(0, (readiness === "read" ? EPOLLIN : EPOLLOUT) | EPOLLONESHOT, true);
    this.#control.setBigUint64(this.#numbers.epollData, s, true);
    return functions().epoll_ctl(this.#set, EPOLL_CTL_ADD, s, this.#control) === 0;
  }

  /** Takes a descriptor out. */
  delete(s: bigint): void {
    functions().epoll_ctl(this.#set, EPOLL_CTL_DEL, s, null);
  }

  /** Has the counter tell when something is ready; at once, if it is now. Returns whether it will. */
  arm(): boolean {
    this.#armed ||= this.#call(this.#numbers.io_submit, this.#context, 1n, this.#block + BigInt(LIST)) === 1n;
    return this.#armed;
  }

  /** What is ready. Afterwards, the counter tells nothing until it is asked to again. */
  take(): bigint[] {
    const { io_getevents, epollData } = this.#numbers;
    if (this.#call(io_getevents, this.#context, 0n, 1n, this.#block + BigInt(EVENT)) === 1n) this.#armed = false;
    const count = functions().epoll_wait(this.#set, this.#events, MOST_EVENTS, 0);
    const data = (index: number) => this.#events.getBigUint64(index * (epollData + 8) + epollData, true);
    return Array.from({ length: Math.max(count, 0) }, (_, index) => data(index));
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }

  #call(number: bigint, a: bigint, b = 0n, c = 0n, d = 0n): bigint {
    return functions().syscall5(number, a, b, c, d, 0n);
  }

  #setUp(): bigint {
    const context = new BigUint64Array(1);
    const address = this.#block + BigInt(CONTEXT);
    libc().copyIn(address, context, 8n);
    if (this.#call(this.#numbers.io_setup, 1n, address) === -1n) {
      throw lastUnixError("wait for connections", "io_setup");
    }
    libc().copyOut(context, address, 8n);
    return context[0]!;
  }

  /** `struct iocb`, to poll the set once and count then, and the list of it. */
  #request(): Uint8Array<ArrayBuffer> {
    const view = new DataView(new ArrayBuffer(CONTEXT));
    view.setUint16(16, IOCB_CMD_POLL, true); // aio_lio_opcode
    view.setUint32(20, Number(this.#set), true); // aio_fildes
    view.setBigUint64(24, BigInt(EPOLLIN), true); // aio_buf
    view.setUint32(56, IOCB_FLAG_RESFD, true); // aio_flags
    view.setUint32(60, Number(this.counter), true); // aio_resfd
    view.setBigUint64(LIST, this.#block, true);
    return new Uint8Array(view.buffer);
  }
}
