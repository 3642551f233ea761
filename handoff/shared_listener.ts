/**
 * Listeners that a target accepts on itself: how the source controls each one and what it knows of it, and how the
 * target accepts. Loaded when the first listener is shared.
 *
 * @module
 */
import { checkOptions } from "../internal/options.ts";
import { settleWithin } from "../internal/runtime.ts";
import { onRelease } from "../sockets/descriptor.ts";
import { acceptWhile, type Listener, throwUnlessTransient } from "../sockets/listener.ts";
import type { Socket } from "../sockets/socket.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { errorAbout, errorMessage, HandoffError, trace } from "./errors.ts";
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
  SHARE_LIMIT,
} from "./protocol.ts";

/** Options of {@linkcode HandoffSource.shareListener}. */
export interface ShareListenerOptions {
  /** The `data` that the target's program gets with each connection: any JSON value, at most 1 MiB. */
  data?: unknown;
  /**
   * The number of this source's sockets that the target may have open and still accept: a whole number from 1. Defaults
   * to `Infinity`.
   */
  limit?: number;
  /**
   * The time that the target may take to answer {@linkcode SharedListener.pause}, {@linkcode SharedListener.resume} and
   * {@linkcode SharedListener.stop}, in milliseconds, from 1. Defaults to the source's `sendTimeout`.
   */
  timeout?: number;
  /**
   * Whether a target that does not answer `pause` or `stop` in time is ended. Needs a child that has `kill`, as
   * `Deno.ChildProcess` has. Defaults to `false`.
   */
  endIfSilent?: boolean;
  /** The signal that withdraws the listener, unless the target has taken it. */
  signal?: AbortSignal;
}

/**
 * A listener that a target accepts on itself: the result of {@linkcode HandoffSource.shareListener}.
 *
 * Until a `pause` or `stop` has resolved, the target may accept. A target that is stopped by a debugger or a signal
 * does not answer. On Windows such a target may be blocked in `accept`, and keep one connection until it runs again or
 * its process ends. With `endIfSilent` its process ends at the latest after the `timeout` of the first `pause` or
 * `stop`.
 */
export interface SharedListener {
  /** The number of connections that the target has accepted on the listener, as far as it has reported them. */
  readonly accepted: number;
  /** The number of these connections that the target has not yet closed or released. */
  readonly open: number;
  /**
   * A promise that resolves when the target no longer accepts on the listener and has closed its duplicate. It resolves
   * with `undefined` if the listener was stopped by {@linkcode SharedListener.stop}. Otherwise it resolves with the
   * error that has the reason. If the channel is broken, it resolves only when the process has ended.
   */
  readonly stopped: Promise<HandoffError | undefined>;
  /**
   * Stops accepting for now. Connections wait in the backlog, or are accepted by other processes.
   *
   * @returns Resolves when the target no longer accepts: it has said so, or its process has ended. `accepted` is then
   * exact.
   * @throws {HandoffError} `timeout` if the target does not answer in time. It may still accept.
   */
  pause(): Promise<void>;
  /**
   * Lets the target accept again.
   *
   * @param options `limit`: the same as {@linkcode ShareListenerOptions.limit}. Defaults to the previous limit.
   * @returns Resolves when the target accepts.
   * @throws {HandoffError} `closed` or `target-exited` if it will never accept again, `timeout` if it does not answer.
   * @throws {RangeError} If the limit is not a whole number from 1.
   */
  resume(options?: { limit?: number }): Promise<void>;
  /**
   * Stops accepting for good. The target closes its duplicate, and serves the connections that it has accepted.
   *
   * @returns Resolves when the target has closed its duplicate: it has said so, or its process has ended.
   * @throws {HandoffError} `timeout` if the target does not answer in time. It may still accept. The answer may come
   * later: a second call waits for it again.
   */
  stop(): Promise<void>;
}

/** The operations of the channel that the source's side uses. */
interface SharePort {
  readonly processId: number;
  /** Resolves when the target's process has ended, with the error that says how. */
  readonly exited: Promise<HandoffError>;
  write(frame: (sequence: number) => Uint8Array): void;
  /** Called with the number of connections that were closed in the target. */
  released(count: number): void;
  /** Called when no more messages about the listener will come. */
  over(): void;
  /** Ends the target's process. */
  end(): void;
}

/** A request to the target that has not been answered yet. */
interface Control {
  readonly answer: FrameType;
  readonly answered: PromiseWithResolvers<void>;
}

/** The steps that the answers of a target are traced as. */
export const ANSWERS = {
  [FrameType.ACCEPTING]: "accepting",
  [FrameType.PAUSED]: "paused",
  [FrameType.STOPPED]: "stopped",
} as const;

/** The time that a process may take to end after it was killed, in milliseconds. */
const END_MS = 5_000;

/** The source's side of a shared listener. */
export class ListenerShare {
  /** The sequence number of its OFFER. */
  sequence = 0;
  accepted = 0;
  open = 0;
  readonly stopped: Promise<HandoffError | undefined>;
  readonly #port: SharePort;
  readonly #timeout: number;
  readonly #endIfSilent: boolean;
  #limit: number;
  readonly #stopped = Promise.withResolvers<HandoffError | undefined>();
  /** The requests, in the order in which the target must answer. */
  readonly #controls: Control[] = [];
  #stop: Control | undefined;
  /** Whether the target has been told to accept, and has not answered since that it does not. */
  #mayAccept = false;
  /** The reason why the target no longer accepts; `undefined` while it may accept. */
  #over: HandoffError | undefined;

  /**
   * @param port The operations of the channel.
   * @param timeout The time that an answer may take, in milliseconds.
   * @param options The options, which are checked.
   */
  constructor(port: SharePort, timeout: number, options: ShareListenerOptions) {
    this.stopped = this.#stopped.promise;
    this.#port = port;
    this.#timeout = timeout;
    this.#endIfSilent = options.endIfSilent ?? false;
    this.#limit = options.limit ?? Infinity;
  }

  /** Tells the target to accept, because it has the listener now. */
  begin(sequence: number): void {
    this.sequence = sequence;
    this.#port.exited.then((failure) => this.#processEnded(failure), () => {});
    this.resume().catch(() => {});
  }

  async resume(options: { limit?: number } = {}): Promise<void> {
    checkOptions(options, { limit: SHARE_LIMIT });
    const { limit = this.#limit } = options;
    this.#limit = limit;
    const number = limit === Infinity ? NO_LIMIT : limit;
    const control = this.#ask(FrameType.ACCEPTING, FrameType.ACCEPT, encodeLimit(number));
    this.#mayAccept = true;
    await this.#answered(control, "Cannot resume accepting");
  }

  async pause(): Promise<void> {
    await this.#answered(this.#ask(FrameType.PAUSED, FrameType.PAUSE), "Cannot pause accepting");
  }

  async stop(): Promise<void> {
    this.#stop ??= this.#ask(FrameType.STOPPED, FrameType.STOP);
    await this.#answered(this.#stop, "Cannot stop accepting");
  }

  /**
   * Handles a frame from the target about the listener.
   *
   * @throws {RangeError} If the frame is not expected now.
   */
  take({ type, payload }: Frame): void {
    if (type === FrameType.COUNTS) return this.#takeCounts(payload);
    if (this.#over !== undefined) throw new RangeError(`Listener ${this.sequence} was stopped before`);
    const step = ANSWERS[type as keyof typeof ANSWERS];
    if (step !== undefined) trace(`${step}-received`, this.sequence, this.#port.processId);
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
      throw new RangeError(`The target must not accept on listener ${this.sequence}`);
    }
    if (closed > this.open + accepted) {
      throw new RangeError(
        `COUNTS reports ${closed} closed connections, but listener ${this.sequence} has ${this.open + accepted}`,
      );
    }
    this.accepted += accepted;
    this.open += accepted - closed;
    if (closed > 0) this.#port.released(closed);
    if (this.#over !== undefined && this.open === 0) this.#port.over();
  }

  #takeStopped(reason: string): void {
    const asked = this.#controls.some(({ answer }) => answer === FrameType.STOPPED);
    const failure = new HandoffError("closed", reason || "it was stopped", errorAbout("Cannot accept on the listener"));
    this.#finish(failure, asked ? undefined : failure);
    if (this.open === 0) this.#port.over();
  }

  #processEnded(failure: HandoffError): void {
    if (this.#over === undefined) this.#finish(failure, failure);
    this.open = 0;
    this.#port.over();
  }

  /** Ends the share. Requests to stop or pause are fulfilled by this; requests to accept fail. */
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

/** The object that the program gets. It has the documented members only, and no access to the others. */
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

/** How long to wait if the system cannot accept because it has no more descriptors or memory, in milliseconds. */
const RETRY_MS = 100;

/** The parts of the target that the target's side uses. */
interface AcceptPort {
  readonly inbox: Inbox;
  /** Returns the number of the source's sockets that this process has open. */
  held(): number;
  /**
   * Called when one more connection was accepted, or with -1 closed. {@linkcode AcceptingListener.counts} then has new
   * counts.
   */
  changed(listener: AcceptingListener, by: 1 | -1): void;
  /** Sends an answer, after the counts. */
  answer(listener: AcceptingListener, type: keyof typeof ANSWERS, ...payload: Uint8Array[]): void;
  /** Called when the duplicate is closed. */
  stopped(listener: AcceptingListener): void;
}

/**
 * The target's side of a shared listener. It accepts only while the program waits for a socket and the limit allows it.
 * Other connections stay in the backlog, for other processes.
 */
export class AcceptingListener {
  readonly #listener: Listener<SocketAddr>;
  readonly #data: Uint8Array;
  readonly #port: AcceptPort;
  #limit = 0;
  /** Whether the source allows accepting. */
  #allowed = false;
  /** Set while it accepts. */
  #running: Promise<void> | undefined;
  #last: Promise<void> = Promise.resolve();
  #stopping: Promise<void> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #accepted = 0;
  #closed = 0;

  /**
   * @param sequence The sequence number of its OFFER.
   * @param listener The duplicate, which this object closes.
   * @param data The encoded data of the OFFER. Each connection gets a value of its own, decoded from it.
   */
  constructor(readonly sequence: number, listener: Listener<SocketAddr>, data: Uint8Array, port: AcceptPort) {
    this.#listener = listener;
    this.#data = data.slice();
    this.#port = port;
    port.inbox.addAcceptor();
  }

  /** Handles a frame from the source. Each frame is answered when its work is done, in order. */
  take({ type, payload }: Frame): void {
    if (type === FrameType.ACCEPT) {
      const limit = decodeLimit(payload);
      this.#then(() => this.#accept(limit));
    } else {
      // At once, even if earlier frames have not been handled yet.
      this.#allowed = false;
      this.#then(() => type === FrameType.PAUSE ? this.#pause() : this.stop());
    }
  }

  /** Accepts if possible: the program may want a connection, or there is room for one again. */
  accept(): void {
    if (this.#running !== undefined || this.#retry !== undefined || !this.#wanted()) return;
    const accepting = acceptWhile(this.#listener, () => this.#wanted(), (socket) => this.#take(socket), false);
    this.#running = accepting.then(() => {
      this.#running = undefined;
      this.accept();
    }, (error) => this.#failed(error));
  }

  /** Sets whether accepting keeps the process running. */
  setReferenced(referenced: boolean): void {
    if (referenced) this.#listener.ref();
    else this.#listener.unref();
  }

  /**
   * Stops accepting, and closes the duplicate.
   *
   * @param reason The reason, if the source has not asked for it.
   * @returns Resolves when the duplicate is closed.
   */
  stop(reason = ""): Promise<void> {
    return this.#stopping ??= this.#stop(reason);
  }

  /** Returns frames with the number of connections that were accepted and closed since the last call. */
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
    this.#port.answer(this, FrameType.ACCEPTING);
    this.accept();
  }

  async #pause(): Promise<void> {
    this.#allowed = false;
    await this.#listener.pause().catch(() => {});
    // Connections that a thread has accepted are counted first.
    await this.#running;
    if (this.#stopping !== undefined) return;
    this.#port.answer(this, FrameType.PAUSED);
  }

  async #stop(reason: string): Promise<void> {
    this.#allowed = false;
    clearTimeout(this.#retry);
    try {
      await this.#listener.pause();
      await this.#running;
      this.#listener.close();
    } catch {
      // The source could not do anything about this error.
    }
    this.#port.answer(this, FrameType.STOPPED, ...reason === "" ? [] : [encodeReason(reason)]);
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

  /**
   * Handles an error of `accept`. After a temporary shortage it tries again; other processes may accept meanwhile. Any
   * other error ends accepting.
   */
  #failed(error: unknown): void {
    this.#running = undefined;
    try {
      throwUnlessTransient(error);
    } catch {
      const reason = errorMessage(error);
      return void this.stop(`process ${Deno.pid} cannot accept: ${reason}`);
    }
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.accept();
    }, RETRY_MS);
  }
}

/** A connection that this process accepted. It belongs to this process, so that there is no decision to make. */
class AcceptedConnection implements Incoming {
  readonly closed = false;
  readonly isMessage = false;
  #seen = false;

  constructor(readonly socket: Socket<SocketAddr>, readonly data: unknown) {}

  get initialBytes(): Uint8Array {
    return this.socket.initialBytes;
  }

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
