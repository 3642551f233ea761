/**
 * The {@linkcode Poller} of Unix. On Linux it uses epoll(7), watched by Deno's event loop, so that no pool thread has
 * to wait. On other systems it uses `poll`, on a pool thread.
 *
 * The kernel keeps the list of watched sockets, so adding or removing one costs one short call, whatever the number of
 * sockets. A registration belongs to the underlying socket and stays after `close` while another process has the
 * socket. Each registration therefore ends with its last wait, or when the socket is released, before the descriptor
 * can be closed.
 *
 * Deno reads the descriptors that it watches, and cannot watch one that cannot be read, such as an epoll set. An
 * asynchronous I/O request (`io_submit(2)`) therefore polls the set, and the kernel then increments an eventfd, which
 * Deno reads like a pipe. To check that this version of Deno does so, the counter begins with a value, which Deno
 * should read. If it does not, a pool thread waits.
 *
 * The module does not use Deno's own listening handles, for these reasons (Deno 2.9.6). They accept all waiting
 * connections before they report the first one. Connections that the program has not taken are lost when they are
 * closed. They stop accepting after an error about too many open files. They lose every connection of a local socket.
 *
 * @module
 */
import { callAtUnload, closeAtEnd, inWorker, nodeBinding } from "../../internal/runtime.ts";
import { errno, isErrno, lastUnixError, libc, libcFunctions, unixError, unixSystem } from "./libc.ts";
import { newWakerEnds } from "./descriptors.ts";
import type { UnixSystem } from "./unix_system.ts";
import { PollTable } from "../poll_table.ts";
import { ENDED, Poller, READ, type Report, type Watched, type WatchSet, WRITE } from "../poller.ts";
import { UNIX_POLL, Waker } from "./io.ts";

/** The `Pipe` of Node's internal `pipe_wrap`. It can also read an eventfd. */
interface PipeHandle {
  /** Called with the data that was read; without data after reading has failed, which ends reading. */
  onread: (data: ArrayBuffer | undefined) => void;
  /** Returns 0 if the handle owns the descriptor from now on. */
  open(descriptor: number): number;
  readStart(): number;
  /** Makes the handle keep the process running. It does so initially. */
  ref(): void;
  unref(): void;
  close(): void;
}

type PipeConstructor = new (type: number) => PipeHandle;

const PIPE_TYPE = 0;
const PIPE_FUNCTIONS = ["open", "readStart", "ref", "unref", "close"] as const;
/**
 * The number of checks whether Deno has read the eventfd, and the time between them. One turn of the event loop is
 * normally enough.
 */
const PROOFS = 10;
const PROOF_MS = 100;

/** The initial value of the counter. */
const FIRST_COUNT = 1n;

/** Reports through Deno's event loop when a descriptor is ready. */
class EventLoop {
  readonly #request: PollRequest;
  readonly #pipe: PipeHandle;
  readonly #leave: () => void;
  /** The callback for the next event. */
  #told: (() => void) | undefined;
  #referenced = false;
  /** Pending until Deno has read the counter for the first time. */
  #proof: ReturnType<typeof setTimeout> | undefined;
  #open = true;

  private constructor(request: PollRequest, pipe: PipeHandle) {
    this.#request = request;
    this.#pipe = pipe;
    pipe.onread = (data) => this.#read(data);
    pipe.unref();
    pipe.readStart();
    this.#prove(PROOFS);
    this.#leave = callAtUnload(this, () => this.close());
  }

  /**
   * Opens the resources that are needed to wait for a descriptor.
   *
   * Not available in a Web Worker: when the Worker is terminated, no code runs that could end the request, and Deno
   * leaves the eventfd open (Deno 2.9.6).
   *
   * @param descriptor A descriptor that can be polled.
   * @returns `undefined` if the event loop cannot be used, or not at the moment.
   */
  static open(descriptor: bigint): EventLoop | undefined {
    const numbers = unixSystem().asyncPoll;
    if (numbers === undefined || inWorker) return undefined;
    const Pipe = nodeBinding<{ Pipe: PipeConstructor }>("pipe_wrap")?.Pipe;
    if (Pipe === undefined || PIPE_FUNCTIONS.some((name) => typeof Pipe.prototype[name] !== "function")) {
      return undefined;
    }
    try {
      using owned = new DisposableStack();
      const [counter] = newWakerEnds();
      owned.defer(() => libc().close(counter));
      libc().write(counter, new BigUint64Array([FIRST_COUNT]), 8n);
      const request = owned.use(new PollRequest(numbers, descriptor, counter));
      const pipe = new Pipe(PIPE_TYPE);
      if (pipe.open(Number(counter)) !== 0) return undefined;
      owned.move();
      return new EventLoop(request, pipe);
    } catch {
      // There are too many open files, or the system or this version of Deno does not support it.
      return undefined;
    }
  }

  /** Whether waiting keeps the process running. Initially it does not. */
  set referenced(referenced: boolean) {
    if (referenced === this.#referenced || !this.#open) return;
    this.#referenced = referenced;
    if (referenced) this.#pipe.ref();
    else this.#pipe.unref();
    this.#referenceProof();
  }

  /**
   * Starts or continues to wait.
   *
   * @param told The callback, which replaces an earlier one. Called once, when the descriptor is ready or the event
   * loop turns out not to work.
   * @returns Whether the callback will be called. After `false`, it never will be.
   */
  wait(told: () => void): boolean {
    if (!this.#open) return false;
    this.#told = told;
    if (!this.#request.submit()) this.close();
    return this.#open;
  }

  /** Ends waiting permanently. No callback is called after that. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#proven();
    this.#leave();
    this.#pipe.close();
    this.#request[Symbol.dispose]();
  }

  #read(data: ArrayBuffer | undefined): void {
    if (!this.#open) return;
    if (data?.byteLength !== 8) return this.#giveUp();
    const isFirst = this.#proven();
    if (isFirst && new BigUint64Array(data)[0] === FIRST_COUNT) return;
    this.#request.completed();
    this.#tell();
  }

  #tell(): void {
    const told = this.#told;
    this.#told = undefined;
    told?.();
  }

  #giveUp(): void {
    this.close();
    this.#tell();
  }

  /**
   * Waits until Deno has read the initial value of the counter. If it never does, this class would not report any
   * event.
   */
  #prove(times: number): void {
    this.#proof = setTimeout(() => times === 0 ? this.#giveUp() : this.#prove(times - 1), PROOF_MS);
    this.#referenceProof();
  }

  /** Keeps the process running during the proof, because an unread descriptor does not. */
  #referenceProof(): void {
    if (this.#proof === undefined) return;
    if (this.#referenced) Deno.refTimer(this.#proof);
    else Deno.unrefTimer(this.#proof);
  }

  /** Records that Deno reads the counter. Returns whether this is the first time. */
  #proven(): boolean {
    if (this.#proof === undefined) return false;
    clearTimeout(this.#proof);
    this.#proof = undefined;
    return true;
  }
}

const POLLIN = 0x001;
const IOCB_CMD_POLL = 5;
const IOCB_FLAG_RESFD = 1;
/** The number of completed requests after which their results are removed from the list of the kernel. */
const MAX_COMPLETED = 64;
/**
 * The offsets in one block of native memory: `struct iocb`, a list with its address, `aio_context_t`, a list of `struct
 * io_event`.
 */
const LIST = 64;
const CONTEXT = LIST + 8;
const EVENTS = CONTEXT + 8;
const BLOCK_SIZE = EVENTS + MAX_COMPLETED * 32;

const eventLoopFunctions = libcFunctions({
  /** `long syscall(long number, ...)`, with five integer arguments */
  syscall5: { name: "syscall", parameters: ["i64", "usize", "usize", "usize", "usize", "usize"], result: "i64" },
});

/** Makes the kernel increment a counter when a descriptor is ready. */
class PollRequest implements Disposable {
  readonly #numbers: NonNullable<UnixSystem["asyncPoll"]>;
  readonly #block: bigint;
  readonly #context: bigint;
  readonly #owned: DisposableStack;
  #submitted = false;

  /**
   * @param descriptor The descriptor to poll.
   * @param counter The eventfd to increment.
   * @throws {WinsockError} If the system refuses.
   */
  constructor(numbers: NonNullable<UnixSystem["asyncPoll"]>, descriptor: bigint, counter: bigint) {
    using owned = new DisposableStack();
    this.#numbers = numbers;
    this.#block = owned.adopt(libc().malloc(BigInt(BLOCK_SIZE)), (block) => libc().free(block));
    this.#context = owned.adopt(this.#setUp(), (context) => void this.#call(numbers.io_destroy, context));
    libc().copyIn(this.#block, this.#encode(descriptor, counter), BigInt(CONTEXT));
    this.#owned = owned.move();
  }

  /**
   * Submits the request: the kernel increments the counter once, at once if the descriptor is ready now. Returns
   * whether it will.
   */
  submit(): boolean {
    this.#submitted ||= this.#trySubmit() || (this.#takeCompleted() && this.#trySubmit());
    return this.#submitted;
  }

  /** Called after the kernel has incremented the counter. */
  completed(): void {
    this.#submitted = false;
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }

  #trySubmit(): boolean {
    return this.#call(this.#numbers.io_submit, this.#context, 1n, this.#block + BigInt(LIST)) === 1n;
  }

  /**
   * Removes the results from the list of the kernel; they have no information besides the counter. Returns whether
   * there was a result.
   */
  #takeCompleted(): boolean {
    const events = this.#block + BigInt(EVENTS);
    return this.#call(this.#numbers.io_getevents, this.#context, 0n, BigInt(MAX_COMPLETED), events) > 0n;
  }

  #call(number: bigint, a: bigint, b = 0n, c = 0n, d = 0n): bigint {
    return eventLoopFunctions().syscall5(number, a, b, c, d, 0n);
  }

  #setUp(): bigint {
    const context = new BigUint64Array(1);
    const address = this.#block + BigInt(CONTEXT);
    libc().copyIn(address, context, 8n);
    if (this.#call(this.#numbers.io_setup, 1n, address) === -1n) throw lastUnixError("wait for sockets", "io_setup");
    libc().copyOut(context, address, 8n);
    return context[0]!;
  }

  /** Encodes `struct iocb`, and the list that contains it. */
  #encode(descriptor: bigint, counter: bigint): Uint8Array<ArrayBuffer> {
    const view = new DataView(new ArrayBuffer(CONTEXT));
    view.setUint16(16, IOCB_CMD_POLL, true); // aio_lio_opcode
    view.setUint32(20, Number(descriptor), true); // aio_fildes
    view.setBigUint64(24, BigInt(POLLIN), true); // aio_buf
    view.setUint32(56, IOCB_FLAG_RESFD, true); // aio_flags
    view.setUint32(60, Number(counter), true); // aio_resfd
    view.setBigUint64(LIST, this.#block, true);
    return new Uint8Array(view.buffer);
  }
}

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 0x001;
const EPOLLOUT = 0x004;
const EPOLLERR = 0x008;
const EPOLLHUP = 0x010;
const EPOLLRDHUP = 0x2000;
/**
 * Edge-triggered: an event is reported once. Every registration uses it. Registering, also for a second time, reports
 * events that are already pending. A wait that needs more data than is available is called when more arrives, and not
 * continuously.
 */
const EPOLLET = 1 << 31;

/** The most sockets that one call reports. */
const MAX_EVENTS = 256;
/** The token of the waker. Tokens of sockets begin at 1. */
const WAKER_TOKEN = 0;

const epollFunctions = libcFunctions({
  /** `int epoll_create1(int flags)` */
  epoll_create1: { parameters: ["i32"], result: "i32" },
  /** `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)` */
  epoll_ctl: { parameters: ["usize", "i32", "usize", "buffer"], result: "i32" },
  /** `int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)` on a pool thread, into native memory */
  epoll_wait: { parameters: ["usize", "usize", "i32", "i32"], result: "i32", nonblocking: true },
  /** The same on the calling thread */
  epollNow: { name: "epoll_wait", parameters: ["usize", "buffer", "i32", "i32"], result: "i32" },
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["usize", "buffer", "usize"], result: "isize" },
});

/** The resources that are open once there is a wait. */
interface Opened {
  readonly epoll: bigint;
  readonly loop: EventLoop | undefined;
}

/** The resources that are open once a thread waits. */
interface Thread {
  readonly waker: Waker;
  /**
   * The memory that a thread writes its result to, never freed: the memory of a JavaScript object would be freed when a
   * Worker is terminated, before the thread ends.
   */
  readonly memory: bigint;
}

/** The set of watched sockets, in an epoll descriptor. */
export class Epoll implements WatchSet {
  readonly live: boolean = true;
  readonly #eventSize: number;
  readonly #dataOffset: number;
  readonly #event: Uint8Array<ArrayBuffer>;
  readonly #eventView: DataView;
  readonly #events: Uint8Array<ArrayBuffer>;
  readonly #eventsView: DataView;
  /**
   * The sockets by a token that is never used again. When a thread reports an event, the socket may be closed and its
   * number used by another one.
   */
  readonly #watched = new Map<number, Watched>();
  #lastToken = WAKER_TOKEN;
  #opened: Opened | undefined;
  #thread: Thread | undefined;

  constructor({ eventSize, dataOffset }: NonNullable<ReturnType<typeof unixSystem>["epoll"]>) {
    this.#eventSize = eventSize;
    this.#dataOffset = dataOffset;
    this.#event = new Uint8Array(eventSize);
    this.#eventView = new DataView(this.#event.buffer);
    this.#events = new Uint8Array(eventSize * MAX_EVENTS);
    this.#eventsView = new DataView(this.#events.buffer);
  }

  prepare(): void {
    this.#opened ??= this.#open();
  }

  #open(): Opened {
    const result = epollFunctions().epoll_create1(unixSystem().epoll!.EPOLL_CLOEXEC);
    if (result === -1) throw lastUnixError("wait for sockets", "epoll_create1");
    const epoll = BigInt(result);
    const loop = EventLoop.open(epoll);
    try {
      if (loop === undefined) this.#thread = this.#openThread(epoll);
    } catch (error) {
      libc().close(epoll);
      throw error;
    }
    closeAtEnd(epoll, () => void libc().close(epoll));
    return { epoll, loop };
  }

  #openThread(epoll: bigint): Thread {
    const waker = new Waker();
    // If no event loop has waited before, the waker is closed before the list, and a waiting thread ends.
    waker.closeAtEnd();
    const memory = libc().malloc(BigInt(this.#events.byteLength));
    // Once it was woken, it is ready until it is read.
    this.#control(epoll, EPOLL_CTL_ADD, waker.fd, EPOLLIN, WAKER_TOKEN);
    return { waker, memory };
  }

  added(watched: Watched): void {
    const { epoll } = this.#opened!;
    const { wanted } = watched;
    const events = (wanted & READ ? EPOLLIN | EPOLLRDHUP : 0) | (wanted & WRITE ? EPOLLOUT : 0) | EPOLLET;
    const known = watched.place !== -1;
    if (!known) watched.place = ++this.#lastToken;
    const result = this.#control(epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, watched.s, events, watched.place);
    if (result !== -1) {
      this.#watched.set(watched.place, watched);
      return;
    }
    const code = errno();
    if (!known) watched.place = -1;
    throw unixError(code, `wait for socket ${watched.s}`, "epoll_ctl");
  }

  removed(watched: Watched): void {
    if (watched.waits.size > 0 || watched.kept || watched.place === -1) return;
    // Fails if the descriptor was closed without the library.
    this.#control(this.#opened!.epoll, EPOLL_CTL_DEL, watched.s, 0, watched.place);
    this.#watched.delete(watched.place);
    watched.place = -1;
  }

  look(_all: boolean, report: Report): void {
    if (this.#watched.size === 0) return;
    const count = epollFunctions().epollNow(this.#opened!.epoll, this.#events, MAX_EVENTS, 0);
    if (count === -1) {
      const code = errno();
      if (!isErrno(code, "EINTR")) throw unixError(code, `wait for ${this.#watched.size} sockets`, "epoll_wait");
    }
    this.#report(count, report);
  }

  attend(found: () => void): boolean {
    return this.#opened!.loop?.wait(found) ?? false;
  }

  reference(referenced: boolean): void {
    const loop = this.#opened?.loop;
    if (loop !== undefined) loop.referenced = referenced;
  }

  async wait(milliseconds: number, report: Report): Promise<void> {
    const { epoll } = this.#opened!;
    // Until now the event loop may have waited.
    const { memory } = this.#thread ??= this.#openThread(epoll);
    const count = await epollFunctions().epoll_wait(epoll, memory, MAX_EVENTS, milliseconds);
    // The error code stayed with the thread. Polling on this thread reports it, unless it was a signal.
    if (count === -1) return this.look(true, report);
    if (count > 0) libc().copyOut(this.#events, memory, BigInt(count * this.#eventSize));
    this.#report(count, report);
  }

  wake(): void {
    this.#thread!.waker.wake();
  }

  #report(count: number, report: Report): void {
    const view = this.#eventsView;
    for (let offset = 0; offset < count * this.#eventSize; offset += this.#eventSize) {
      const data = offset + this.#dataOffset;
      const token = view.getUint32(data, true) + view.getUint32(data + 4, true) * 2 ** 32;
      if (token === WAKER_TOKEN) this.#rest();
      const watched = this.#watched.get(token);
      if (watched !== undefined) report(watched, toEvents(view.getUint32(offset, true)));
    }
  }

  #rest(): void {
    epollFunctions().read(this.#thread!.waker.fd, new Uint8Array(8), 8n);
  }

  #control(epoll: bigint, operation: number, fd: bigint, events: number, token: number): number {
    this.#eventView.setInt32(0, events, true);
    this.#eventView.setUint32(this.#dataOffset, token % 2 ** 32, true);
    this.#eventView.setUint32(this.#dataOffset + 4, Math.floor(token / 2 ** 32), true);
    return epollFunctions().epoll_ctl(epoll, operation, fd, this.#event);
  }
}

/** Converts the events. If a socket has failed, reading and writing report the error. */
function toEvents(events: number): number {
  const failed = (events & (EPOLLERR | EPOLLHUP)) !== 0;
  return (failed || (events & (EPOLLIN | EPOLLRDHUP)) !== 0 ? READ : 0) |
    (failed || (events & EPOLLOUT) !== 0 ? WRITE : 0) |
    ((events & (EPOLLRDHUP | EPOLLHUP)) !== 0 ? ENDED : 0);
}

let poller: Poller | undefined;

/**
 * Returns the poller for sockets and other descriptors, which uses one pool thread for the whole program.
 *
 * @returns The same poller every time.
 */
export function unixPoller(): Poller {
  const { epoll } = unixSystem();
  return poller ??= new Poller(epoll === undefined ? new PollTable(UNIX_POLL) : new Epoll(epoll));
}

/**
 * Waits until a descriptor can be read, or has failed. The next read then reports the error.
 *
 * @param fd The descriptor.
 * @param milliseconds The time limit in milliseconds.
 * @param referenced Whether the wait keeps the process running.
 * @throws {WinsockError} If waiting is not possible, such as WSAEMFILE.
 */
export async function readableWithin(fd: bigint, milliseconds: number, referenced: boolean = true): Promise<void> {
  const waiting = unixPoller().prepare().wait(fd, "read", { referenced, outlives: true });
  const late = setTimeout(() => unixPoller().cancel(waiting), milliseconds);
  if (!referenced) Deno.unrefTimer(late);
  try {
    await waiting.over;
  } finally {
    clearTimeout(late);
  }
}
