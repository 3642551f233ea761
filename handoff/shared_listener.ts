/**
 * Listeners that a target accepts on by itself: how a source controls each, what it knows of it, and how the target
 * accepts. Loaded when the first one is shared.
 *
 * @module
 */
import { settleWithin } from "../internal/runtime.ts";
import { onRelease } from "../sockets/descriptor.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import { acceptWhile, type Listener, throwUnlessTransient } from "../sockets/listener.ts";
import type { Socket } from "../sockets/socket.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { errorAbout, HandoffError } from "./errors.ts";
import type { Inbox, Incoming } from "./inbox.ts";
import {
  decodeCounts,
  decodeData,
  decodeLimit,
  decodeReason,
  encodeCounts,
  encodeFrame,
  encodeLimit,
  encodeReason,
  type Frame,
  FrameType,
  MAX_COUNT,
  NO_LIMIT,
} from "./protocol.ts";

/** How {@linkcode HandoffSource.shareListener} shares a listener. */
export interface ShareListenerOptions {
  /** What the target's program gets as `data` with each connection: any JSON value, at most 1 MiB of it. */
  data?: unknown;
  /**
   * How many sockets of this source the target may have open and still accept: a whole number from 1. Defaults to
   * `Infinity`.
   */
  limit?: number;
  /**
   * How long the target may take to answer {@linkcode SharedListener.pause}, {@linkcode SharedListener.resume} and
   * {@linkcode SharedListener.stop}, in milliseconds: from 1. Defaults to the source's `sendTimeout`.
   */
  timeout?: number;
  /**
   * Whether a target that does not answer `pause` or `stop` in time is ended. Needs a child that has `kill`, as
   * `Deno.ChildProcess` has. Defaults to `false`.
   */
  endIfSilent?: boolean;
  /** Withdraws the listener, unless the target has taken it. */
  signal?: AbortSignal;
}

/**
 * A listener that a target accepts on by itself: what {@linkcode HandoffSource.shareListener} returns.
 *
 * Until a `pause` or `stop` has resolved, the target may accept. A target that is stopped by a debugger or a signal does not
 * answer; on Windows it may sit in `accept` then, and keep one connection, until it runs again or its process ends. With
 * `endIfSilent` that is the `timeout` of the first `pause` or `stop` at the latest.
 */
export interface SharedListener {
  /** How many connections the target has accepted on it, as far as it has said. */
  readonly accepted: number;
  /** How many of these it has not closed, or given up, yet. */
  readonly open: number;
  /**
   * Resolves when the target accepts on it no more and has closed its duplicate: with nothing if it was stopped by
   * {@linkcode SharedListener.stop}, otherwise with the error that says why. A channel that is broken is not enough: it is
   * the end of the process then.
   */
  readonly stopped: Promise<HandoffError | undefined>;
  /**
   * Has the target not accept for now. Connections wait in the backlog, or are accepted elsewhere.
   *
   * @returns Resolves when the target accepts no more: it has said so, or its process has ended. `accepted` is exact then.
   * @throws {HandoffError} `timeout` if it does not answer in time: it may still accept.
   */
  pause(): Promise<void>;
  /**
   * Has the target accept again.
   *
   * @param options `limit` as {@linkcode ShareListenerOptions} has it; by default it stays what it was.
   * @returns Resolves when the target accepts.
   * @throws {HandoffError} `closed` or `target-exited` if it accepts no more for good, `timeout` if it does not answer.
   * @throws {RangeError} If the limit is not a whole number from 1.
   */
  resume(options?: { limit?: number }): Promise<void>;
  /**
   * Has the target accept no more and close its duplicate. It serves what it has accepted.
   *
   * @returns Resolves when it has: it has said so, or its process has ended.
   * @throws {HandoffError} `timeout` if it does not answer in time: it may still accept. The answer may come later: a second
   * call waits for it again.
   */
  stop(): Promise<void>;
}

/** What a source's side needs of its channel. */
interface SharePort {
  readonly processId: number;
  /** How the target's process ends. */
  readonly exited: Promise<HandoffError>;
  write(frame: (sequence: number) => Uint8Array): void;
  /** So many connections were closed in the target. */
  released(count: number): void;
  /** There is nothing more to hear of the listener. */
  over(): void;
  /** Ends the target's process. */
  end(): void;
}

/** What was asked of the target, and is not answered yet. */
interface Control {
  readonly answer: FrameType;
  readonly answered: PromiseWithResolvers<void>;
}

/** How long a process that was ended may take, in milliseconds. */
const END_MS = 5_000;

/** A source's side of a shared listener. */
export class ListenerShare {
  /** The number of its OFFER. */
  sequence = 0;
  accepted = 0;
  open = 0;
  readonly stopped: Promise<HandoffError | undefined>;
  readonly #port: SharePort;
  readonly #timeout: number;
  readonly #endIfSilent: boolean;
  #limit: number;
  readonly #stopped = Promise.withResolvers<HandoffError | undefined>();
  /** In the order in which the target is to answer. */
  readonly #controls: Control[] = [];
  #stop: Control | undefined;
  /** Whether the target has been told to accept, and has not answered since that it does not. */
  #mayAccept = false;
  /** Why the target does not accept any more, once it does not. */
  #over: HandoffError | undefined;

  /**
   * @param port The channel.
   * @param timeout How long an answer may take, in milliseconds.
   * @param options Checked by {@linkcode checkedLimit}.
   */
  constructor(port: SharePort, timeout: number, options: ShareListenerOptions) {
    this.stopped = this.#stopped.promise;
    this.#port = port;
    this.#timeout = timeout;
    this.#endIfSilent = options.endIfSilent ?? false;
    this.#limit = checkedLimit(options.limit ?? Infinity);
  }

  /** The target has the listener: it is told to accept. */
  begin(sequence: number): void {
    this.sequence = sequence;
    this.#port.exited.then((failure) => this.#processEnded(failure), () => {});
    this.resume().catch(() => {});
  }

  async resume({ limit = this.#limit }: { limit?: number } = {}): Promise<void> {
    this.#limit = checkedLimit(limit);
    const number = limit === Infinity ? NO_LIMIT : limit;
    const control = this.#ask(FrameType.ACCEPTING, FrameType.ACCEPT, encodeLimit(number));
    this.#mayAccept = true;
    await this.#answered(control, "Cannot have the target accept");
  }

  async pause(): Promise<void> {
    await this.#answered(this.#ask(FrameType.PAUSED, FrameType.PAUSE), "Cannot pause accepting");
  }

  async stop(): Promise<void> {
    this.#stop ??= this.#ask(FrameType.STOPPED, FrameType.STOP);
    await this.#answered(this.#stop, "Cannot stop accepting");
  }

  /**
   * Takes what the target says of the listener.
   *
   * @throws {RangeError} If it is not due.
   */
  take({ type, payload }: Frame): void {
    if (type === FrameType.COUNTS) return this.#takeCounts(payload);
    if (this.#over !== undefined) throw new RangeError(`Listener ${this.sequence} was stopped before`);
    if (type === FrameType.STOPPED) return this.#takeStopped(decodeReason(payload));
    const control = this.#controls.shift();
    if (control?.answer !== type) throw new RangeError(`Answer ${type} is not due for listener ${this.sequence}`);
    if (type === FrameType.PAUSED) {
      this.#mayAccept = this.#controls.some(({ answer }) => answer === FrameType.ACCEPTING);
    }
    control.answered.resolve();
  }

  #takeCounts(payload: Uint8Array): void {
    const { accepted, closed } = decodeCounts(payload);
    if (accepted > 0 && (!this.#mayAccept || this.#over !== undefined)) {
      throw new RangeError(`Listener ${this.sequence} is not to be accepted on`);
    }
    if (closed > this.open + accepted) {
      throw new RangeError(
        `COUNTS has ${closed} closed, and listener ${this.sequence} brought ${this.open + accepted}`,
      );
    }
    this.accepted += accepted;
    this.open += accepted - closed;
    if (closed > 0) this.#port.released(closed);
    if (this.#over !== undefined && this.open === 0) this.#port.over();
  }

  #takeStopped(reason: string): void {
    const asked = this.#controls.some(({ answer }) => answer === FrameType.STOPPED);
    const failure = new HandoffError("closed", reason || "it was stopped", errorAbout("The target does not accept"));
    this.#finish(failure, asked ? undefined : failure);
    if (this.open === 0) this.#port.over();
  }

  #processEnded(failure: HandoffError): void {
    if (this.#over === undefined) this.#finish(failure, failure);
    this.open = 0;
    this.#port.over();
  }

  /** Whoever waits for the target to accept no more has it; whoever waits for it to accept does not. */
  #finish(failure: HandoffError, told: HandoffError | undefined): void {
    this.#over = failure;
    for (const { answer, answered } of this.#controls.splice(0)) {
      if (answer === FrameType.ACCEPTING) answered.reject(failure);
      else answered.resolve();
    }
    this.#stopped.resolve(told);
  }

  #ask(answer: FrameType, type: FrameType, payload: Uint8Array = new Uint8Array(0)): Control {
    const control: Control = { answer, answered: Promise.withResolvers<void>() };
    control.answered.promise.catch(() => {});
    if (this.#over === undefined) {
      this.#controls.push(control);
      this.#port.write((sequence) => encodeFrame(type, sequence, payload));
    } else if (answer === FrameType.ACCEPTING) control.answered.reject(this.#over);
    else control.answered.resolve();
    return control;
  }

  async #answered({ answer, answered }: Control, what: string): Promise<void> {
    let over = false;
    const settled = answered.promise.finally(() => over = true);
    await settleWithin(settled, this.#timeout);
    if (!over && this.#endIfSilent && answer !== FrameType.ACCEPTING) {
      this.#port.end();
      await settleWithin(settled, END_MS);
    }
    settled.catch(() => {});
    if (over) return;
    const reason = `process ${this.#port.processId} has not answered in ${this.#timeout} ms`;
    throw new HandoffError("timeout", reason, errorAbout(what));
  }
}

/** What the program gets: the documented members, and no way to the others. */
export class ShareHandle implements SharedListener {
  readonly #share: ListenerShare;

  constructor(share: ListenerShare) {
    this.#share = share;
  }

  get accepted(): number {
    return this.#share.accepted;
  }

  get open(): number {
    return this.#share.open;
  }

  get stopped(): Promise<HandoffError | undefined> {
    return this.#share.stopped;
  }

  pause(): Promise<void> {
    return this.#share.pause();
  }

  resume(options?: { limit?: number }): Promise<void> {
    return this.#share.resume(options);
  }

  stop(): Promise<void> {
    return this.#share.stop();
  }
}

/** A limit of open sockets, if it is one. */
function checkedLimit(limit: number): number {
  if (limit === Infinity || Number.isInteger(limit) && limit >= 1 && limit < NO_LIMIT) return limit;
  throw new RangeError(`Invalid \`limit\`: must be a whole number from 1 or Infinity, got ${limit}`);
}

/** How long to wait when the system cannot accept for want of descriptors or memory, in milliseconds. */
const RETRY_MS = 100;
const NO_BYTES = new Uint8Array(0);

/** What a target's side needs of the target. */
interface AcceptPort {
  readonly inbox: Inbox;
  /** How many sockets of the source this process has open. */
  held(): number;
  /** One more was accepted, or with -1 closed: {@linkcode AcceptingListener.counts} has something to tell. */
  changed(listener: AcceptingListener, by: 1 | -1): void;
  /** Sends an answer, behind the counts. */
  answer(listener: AcceptingListener, frame: Uint8Array<ArrayBuffer>): void;
  /** The duplicate is closed. */
  stopped(listener: AcceptingListener): void;
}

/**
 * A target's side of a shared listener. It accepts while the program waits for a socket and the limit allows it, and not
 * ahead: a connection that the program does not ask for stays in the backlog, for other processes.
 */
export class AcceptingListener {
  readonly #listener: Listener<SocketAddr>;
  readonly #data: Uint8Array;
  readonly #port: AcceptPort;
  #limit = 0;
  /** Whether the source wants connections to be accepted. */
  #allowed = false;
  /** While it accepts. */
  #running: Promise<void> | undefined;
  #last: Promise<void> = Promise.resolve();
  #stopping: Promise<void> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #accepted = 0;
  #closed = 0;

  /**
   * @param sequence The number of its OFFER.
   * @param listener The duplicate, which is closed here.
   * @param data What comes with each connection, as OFFER has it: each gets its own.
   */
  constructor(readonly sequence: number, listener: Listener<SocketAddr>, data: Uint8Array, port: AcceptPort) {
    this.#listener = listener;
    this.#data = data.slice();
    this.#port = port;
    port.inbox.addAcceptor();
  }

  /** Does what a source's frame says; each is answered when that is done, in order. */
  take({ type, payload }: Frame): void {
    if (type === FrameType.ACCEPT) {
      const limit = decodeLimit(payload);
      this.#then(() => this.#accept(limit));
    } else {
      // At once, whatever is not done yet.
      this.#allowed = false;
      this.#then(() => type === FrameType.PAUSE ? this.#pause() : this.stop());
    }
  }

  /** The program may want a connection, or there is room for one again. */
  accept(): void {
    if (this.#running !== undefined || this.#retry !== undefined || !this.#wanted()) return;
    const accepting = acceptWhile(this.#listener, () => this.#wanted(), (socket) => this.#take(socket));
    this.#running = accepting.then(() => {
      this.#running = undefined;
      this.accept();
    }, (error) => this.#failed(error));
  }

  /**
   * Accepts no more, and closes the duplicate.
   *
   * @param reason Why, if the source has not asked for it.
   * @returns Resolves when it is closed.
   */
  stop(reason = ""): Promise<void> {
    return this.#stopping ??= this.#stop(reason);
  }

  /** What was accepted and closed since the last time, as frames. */
  counts(): Uint8Array<ArrayBuffer>[] {
    const frames: Uint8Array<ArrayBuffer>[] = [];
    while (this.#accepted > 0 || this.#closed > 0) {
      const [accepted, closed] = [Math.min(this.#accepted, MAX_COUNT), Math.min(this.#closed, MAX_COUNT)];
      frames.push(encodeFrame(FrameType.COUNTS, this.sequence, encodeCounts(accepted, closed)));
      this.#accepted -= accepted;
      this.#closed -= closed;
    }
    return frames;
  }

  #then(step: () => void | Promise<void>): void {
    this.#last = this.#last.then(step);
  }

  #accept(limit: number): void {
    if (this.#stopping !== undefined) return;
    this.#limit = limit;
    this.#allowed = true;
    this.#listener.resume();
    this.#port.answer(this, encodeFrame(FrameType.ACCEPTING, this.sequence));
    this.accept();
  }

  async #pause(): Promise<void> {
    this.#allowed = false;
    await this.#listener.pause().catch(() => {});
    // What a thread has brought is counted first.
    await this.#running;
    if (this.#stopping !== undefined) return;
    this.#port.answer(this, encodeFrame(FrameType.PAUSED, this.sequence));
  }

  async #stop(reason: string): Promise<void> {
    this.#allowed = false;
    clearTimeout(this.#retry);
    try {
      await this.#listener.pause();
      await this.#running;
      this.#listener.close();
    } catch {
      // Nothing that the source could do about it.
    }
    const payload = reason === "" ? NO_BYTES : encodeReason(reason);
    this.#port.answer(this, encodeFrame(FrameType.STOPPED, this.sequence, payload));
    this.#port.stopped(this);
    this.#port.inbox.removeAcceptor();
  }

  #wanted(): boolean {
    return this.#allowed && this.#port.inbox.wanted && this.#port.held() < this.#limit;
  }

  #take(socket: Socket<SocketAddr>): void {
    this.#accepted++;
    onRelease(socket, () => {
      this.#closed++;
      this.#port.changed(this, -1);
    });
    this.#port.changed(this, 1);
    this.#port.inbox.accepted(new AcceptedConnection(socket, decodeData(this.#data)));
  }

  /** Others may have the connection meanwhile. What does not go by itself ends accepting. */
  #failed(error: unknown): void {
    this.#running = undefined;
    try {
      throwUnlessTransient(error);
    } catch {
      const reason = error instanceof Error ? error.message : String(error);
      return void this.stop(`process ${Deno.pid} cannot accept: ${reason}`);
    }
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.accept();
    }, RETRY_MS);
  }
}

/** A connection that was accepted here. It is this process's: there is nothing to decide. */
class AcceptedConnection implements Incoming {
  readonly closed = false;
  readonly initialBytes: Uint8Array = new Uint8Array(0);
  #seen = false;

  constructor(readonly socket: AnySocket, readonly data: unknown) {}

  take(): boolean {
    return this.#seen = true;
  }

  accept(): Promise<void> {
    return Promise.resolve();
  }

  reject(): void {
    if (this.#seen) throw new TypeError(`Cannot reject socket ${this.socket.handle}: it was accepted`);
    this.socket.close();
  }
}
