/**
 * Waiting for a descriptor in Deno's own event loop, on Linux, where no thread of the pool has to wait.
 *
 * Deno reads what it watches, and does not watch what cannot be read, such as an epoll set. So a request of asynchronous
 * I/O polls the descriptor, and the kernel then counts in an eventfd (`io_submit(2)`), which Deno reads as it does any
 * pipe. Whether this Deno does so is seen when it reads what the counter begins with.
 *
 * Deno's own listening handles are not used. They accept everything that waits before they tell of the first connection;
 * what was not taken is lost when they are closed; they accept no more once there were too many open files; and they lose
 * every connection of a local socket (Deno 2.9.6).
 *
 * @module
 */
import { nodeBinding } from "../node_builtins.ts";
import { callAtUnload, inWorker } from "../unload.ts";
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

type PipeConstructor = new (type: number) => PipeHandle;

const PIPE_TYPE = 0;
const PIPE_FUNCTIONS = ["open", "readStart", "ref", "unref", "close"] as const;
/** How often, and how long after each other, it is asked whether Deno has read the eventfd. A turn of the loop is enough. */
const PROOFS = 10;
const PROOF_MS = 100;

/** What the counter begins with. */
const FIRST_COUNT = 1n;

/** Tells when a descriptor is ready. */
export class EventLoop {
  readonly #request: PollRequest;
  readonly #pipe: PipeHandle;
  readonly #leave: () => void;
  /** What is told next. */
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
   * Makes what is needed to wait for a descriptor.
   *
   * Not in a Web Worker: when it is terminated, nothing runs that could end the request, and Deno leaves the eventfd open
   * (Deno 2.9.6).
   *
   * @param descriptor What can be polled.
   * @returns `undefined` where it is not to be had, or not at the moment.
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
      // Too many open files, or a system or a Deno that cannot do this.
      return undefined;
    }
  }

  /** Whether waiting keeps the process running; at first it does not. */
  set referenced(referenced: boolean) {
    if (referenced === this.#referenced || !this.#open) return;
    this.#referenced = referenced;
    if (referenced) this.#pipe.ref();
    else this.#pipe.unref();
    this.#referenceProof();
  }

  /**
   * Begins to wait, or goes on.
   *
   * @param told Called once in place of any before: when the descriptor is ready, or the event loop turns out not to tell.
   * @returns Whether it will be called. Once it will not, it never will be.
   */
  wait(told: () => void): boolean {
    if (!this.#open) return false;
    this.#told = told;
    if (!this.#request.submit()) this.close();
    return this.#open;
  }

  /** Ends waiting for good: nothing is told any more. */
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

  /** Gives Deno time to read what the counter began with. Were it never to, nothing would be heard of. */
  #prove(times: number): void {
    this.#proof = setTimeout(() => times === 0 ? this.#giveUp() : this.#prove(times - 1), PROOF_MS);
    this.#referenceProof();
  }

  /** What Deno does not read does not keep the process running. */
  #referenceProof(): void {
    if (this.#proof === undefined) return;
    if (this.#referenced) Deno.refTimer(this.#proof);
    else Deno.unrefTimer(this.#proof);
  }

  /** Returns whether it was not before. */
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
/** How many requests may have been completed before what became of them is taken from the kernel's list. */
const MOST_COMPLETED = 64;
/** One block of native memory: `struct iocb`, a list with its address, `aio_context_t`, a list of `struct io_event`. */
const LIST = 64;
const CONTEXT = LIST + 8;
const EVENTS = CONTEXT + 8;
const BLOCK_SIZE = EVENTS + MOST_COMPLETED * 32;

const functions = libcFunctions({
  /** `long syscall(long number, ...)`, with five integer arguments */
  syscall5: { name: "syscall", parameters: ["i64", "usize", "usize", "usize", "usize", "usize"], result: "i64" },
});

/** Has the kernel count when a descriptor is ready. */
class PollRequest implements Disposable {
  readonly #numbers: NonNullable<UnixSystem["asyncPoll"]>;
  readonly #block: bigint;
  readonly #context: bigint;
  readonly #owned: DisposableStack;
  #submitted = false;

  /**
   * @param descriptor What is polled.
   * @param counter What the kernel counts in.
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

  /** Has the kernel count, once; at once, if it is ready now. Returns whether it will. */
  submit(): boolean {
    this.#submitted ||= this.#trySubmit() || (this.#takeCompleted() && this.#trySubmit());
    return this.#submitted;
  }

  /** The kernel has counted. */
  completed(): void {
    this.#submitted = false;
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }

  #trySubmit(): boolean {
    return this.#call(this.#numbers.io_submit, this.#context, 1n, this.#block + BigInt(LIST)) === 1n;
  }

  /** Makes room in the kernel's list, whose entries say nothing that the counter did not. Returns whether there was one. */
  #takeCompleted(): boolean {
    const events = this.#block + BigInt(EVENTS);
    return this.#call(this.#numbers.io_getevents, this.#context, 0n, BigInt(MOST_COMPLETED), events) > 0n;
  }

  #call(number: bigint, a: bigint, b = 0n, c = 0n, d = 0n): bigint {
    return functions().syscall5(number, a, b, c, d, 0n);
  }

  #setUp(): bigint {
    const context = new BigUint64Array(1);
    const address = this.#block + BigInt(CONTEXT);
    libc().copyIn(address, context, 8n);
    if (this.#call(this.#numbers.io_setup, 1n, address) === -1n) throw lastUnixError("wait for sockets", "io_setup");
    libc().copyOut(context, address, 8n);
    return context[0]!;
  }

  /** `struct iocb`, and the list of it. */
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
