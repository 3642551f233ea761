/**
 * The source's side of a hand-off.
 *
 * @module
 */
import type net from "node:net";
import { defaultProvider } from "../spi/default_provider.ts";
import { duplicateSocket, type SharedSocket } from "../sockets/duplicate_socket.ts";
import { withAbort } from "./abort.ts";
import { openControlSocket } from "./control_socket.ts";
import { encodeFrame, type Frame, FrameDecoder, FrameType } from "./frame.ts";
import { FrameWriter } from "./frame_writer.ts";
import { HandoffError } from "./handoff_error.ts";
import { decodeReady, decodeReason, encodeData, encodeHello, encodeOffer } from "./payload.ts";
import {
  checkedInitialBytes,
  checkedTimeout,
  type HandoffChild,
  type HandoffSourceOptions,
  type SendOptions,
} from "./sending.ts";
import { trace } from "./trace.ts";

interface PendingSend {
  readonly socket: SharedSocket;
  readonly info: Uint8Array;
  readonly done: PromiseWithResolvers<void>;
  committing: boolean;
}

/** Sockets on their way, whichever source sends them: none is offered twice at a time. */
const onTheirWay = new WeakSet<SharedSocket>();

/**
 * Hands sockets to a child process over its stdin; the child takes them with {@linkcode receive}. The child's stdout and
 * stderr stay free for its own output.
 *
 * The source keeps every socket until the child has claimed and accepted it. A child that rejects it, dies, or takes too
 * long leaves it open and the source's.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` to spawn the child.
 *
 * @example Handing every connection to a worker
 * ```ts ignore
 * import { HandoffSource, listen } from "@winsock/handoff";
 *
 * const child = new Deno.Command(Deno.execPath(), { args: ["run", "worker.ts"], stdin: "piped" }).spawn();
 * await using source = new HandoffSource(child);
 * using listener = listen({ port: 8080 });
 * for await (const socket of listener) {
 *   await source.send(socket);
 * }
 * ```
 */
export class HandoffSource implements AsyncDisposable {
  /** Resolves when the target can take sockets; rejects with a {@linkcode HandoffError} if it never will. */
  readonly ready: Promise<void>;
  /** Resolves when this source can send no more: it was closed, the child ended, or the channel broke. */
  readonly closed: Promise<void>;

  readonly #child: HandoffChild;
  readonly #timeout: number;
  readonly #writer: FrameWriter;
  readonly #control: net.Socket;
  readonly #pending = new Map<number, PendingSend>();
  readonly #sending = new Set<Promise<void>>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  #lastSequence = 0;
  #failure: HandoffError | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Starts speaking to a child.
   *
   * @param child A child process just spawned with `stdin: "piped"`. Its stdin belongs to the source from now on.
   * @param options How.
   * @throws {TypeError} If the child's stdin is not piped, or is in use.
   * @throws {RangeError} If the timeout is longer than 30 000.
   * @throws {WinsockError} WSAEINVAL if the child is gone already.
   */
  constructor(child: HandoffChild, options: HandoffSourceOptions = {}) {
    this.#child = child;
    this.#timeout = checkedTimeout(options.timeout ?? 10_000);
    this.ready = this.#ready.promise;
    this.closed = this.#closed.promise;
    this.ready.catch(() => {});
    const { socket, duplicate } = openControlSocket(child.pid);
    this.#control = socket;
    try {
      this.#writer = new FrameWriter(child.stdin);
    } catch (error) {
      this.#control.destroy();
      throw error;
    }
    this.#sendHello(duplicate);
    child.status.then(({ code }) =>
      this.#fail(new HandoffError("target-died", `process ${child.pid} exited with code ${code}`))
    );
    const deadline = setTimeout(
      () => this.#fail(new HandoffError("expired", `process ${child.pid} was not ready after ${this.#timeout} ms`)),
      this.#timeout,
    );
    const settled = () => clearTimeout(deadline);
    this.ready.then(settled, settled);
  }

  /**
   * Hands a socket to the child.
   *
   * @param socket The socket. Once this resolves it is the target's, and closed here; if it rejects, it is as it was.
   * @param options What travels along.
   * @throws {HandoffError} If the target rejected it, died, or took too long; `outcome` says which.
   * @throws {WinsockError} If the socket cannot be shared: WSAENOTSOCK if it was closed or given up.
   * @throws {TypeError} If the socket is being handed off already, or `data` is no JSON.
   * @throws {RangeError} If `data` or the initial bytes are too long.
   * @throws The signal's reason, if it is aborted first.
   */
  async send(socket: SharedSocket, options: SendOptions = {}): Promise<void> {
    const data = encodeData(options.data);
    const initialBytes = checkedInitialBytes(socket, options.initialBytes);
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#closing !== undefined) throw this.#failure ?? new HandoffError("channel-broken", "the source was closed");
    if (onTheirWay.has(socket)) throw new TypeError(`Socket ${socket.handle} is being handed off already`);
    onTheirWay.add(socket);
    const sending = this.#offerWhenReady(socket, data, initialBytes, signal);
    this.#sending.add(sending);
    try {
      await sending;
    } finally {
      this.#sending.delete(sending);
      onTheirWay.delete(socket);
    }
  }

  /** Waits for what is on its way, tells the target that no more will come, and closes its stdin. The child runs on. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** The same as {@linkcode HandoffSource.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await this.ready.catch(() => {});
    await Promise.allSettled(this.#sending);
    if (this.#failure === undefined) this.#writer.write(encodeFrame(FrameType.END, 0)).catch(() => {});
    await this.#writer.close(this.#failure === undefined ? this.#timeout : 0);
    this.#control.destroy();
    this.#closed.resolve();
  }

  /** Sends the target its end of the control socket, and listens at this one. */
  #sendHello(control: Uint8Array): void {
    const { pid } = this.#child;
    const hello = encodeHello({ sourceProcessId: Deno.pid, targetProcessId: pid, control });
    this.#writer.write(encodeFrame(FrameType.HELLO, 0, ...hello)).catch((error) => this.#fail(died(pid, error)));
    this.ready.catch(() => defaultProvider().withdraw(control));
    trace("hello-sent", 0, pid);
    const decoder = new FrameDecoder();
    this.#control.on("data", (chunk: Uint8Array) => this.#takeAnswers(decoder, chunk));
    this.#control.on(
      "end",
      () => this.#fail(new HandoffError("target-died", `process ${pid} closed its control socket`)),
    );
    this.#control.on("error", (cause) => {
      this.#fail(new HandoffError("target-died", `process ${pid} broke its control socket`, { cause }));
    });
    this.#control.unref();
  }

  async #offerWhenReady(
    socket: SharedSocket,
    data: Uint8Array,
    initialBytes: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    await withAbort(this.ready, signal);
    if (this.#failure !== undefined) throw this.#failure;
    const { pid } = this.#child;
    const info = duplicateSocket(socket, pid);
    const sequence = this.#lastSequence = this.#lastSequence + 1 >>> 0;
    const pending: PendingSend = { socket, info, done: Promise.withResolvers(), committing: false };
    this.#pending.set(sequence, pending);
    trace("duplicated", sequence, pid);
    const deadline = setTimeout(() => {
      this.#withdraw(sequence, new HandoffError("expired", `process ${pid} did not answer in ${this.#timeout} ms`));
    }, this.#timeout);
    const abort = () => this.#withdraw(sequence, signal?.reason);
    signal?.addEventListener("abort", abort);
    try {
      const offer = encodeFrame(FrameType.OFFER, sequence, ...encodeOffer({ info, data, initialBytes }));
      this.#writer.write(offer).catch((error) => this.#fail(died(pid, error)));
      trace("offered", sequence, pid);
      await pending.done.promise;
    } finally {
      clearTimeout(deadline);
      signal?.removeEventListener("abort", abort);
    }
  }

  #takeAnswers(decoder: FrameDecoder, chunk: Uint8Array): void {
    try {
      for (const frame of decoder.push(chunk)) this.#takeAnswer(frame);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const failure = `process ${this.#child.pid} sent no valid answer: ${reason}`;
      this.#fail(new HandoffError("channel-broken", failure, { cause: error }));
    }
  }

  #takeAnswer({ type, sequence, payload }: Frame): void {
    const { pid } = this.#child;
    if (type === FrameType.READY) {
      const claimant = decodeReady(payload);
      if (claimant !== pid) throw new RangeError(`READY comes from process ${claimant}, not ${pid}`);
      trace("ready-received", 0, pid);
      return this.#ready.resolve();
    }
    if (sequence === 0 || sequence > this.#lastSequence) throw new RangeError(`No socket was offered as ${sequence}`);
    // An answer to what was withdrawn meanwhile: the target learns of it from WITHDRAW.
    const pending = this.#pending.get(sequence);
    if (pending === undefined || pending.committing) return;
    if (type === FrameType.ACCEPT) this.#commit(sequence, pending);
    else if (type === FrameType.REJECT) this.#settle(sequence, new HandoffError("rejected", decodeReason(payload)));
    else throw new RangeError(`Frame type ${type} is no answer`);
  }

  /** The target owns the socket from the moment COMMIT is on its way, and not before. */
  async #commit(sequence: number, pending: PendingSend): Promise<void> {
    pending.committing = true;
    try {
      await this.#writer.write(encodeFrame(FrameType.COMMIT, sequence), true);
    } catch (error) {
      return this.#settle(sequence, died(this.#child.pid, error));
    }
    this.#pending.delete(sequence);
    trace("committed", sequence, this.#child.pid);
    try {
      pending.socket.close();
      pending.done.resolve();
    } catch (error) {
      pending.done.reject(error);
    }
  }

  /** Ends a hand-off from this side; the target closes its copy when it hears of it. */
  #withdraw(sequence: number, reason: unknown): void {
    if (this.#pending.get(sequence)?.committing !== false) return;
    this.#writer.write(encodeFrame(FrameType.WITHDRAW, sequence)).catch(() => {});
    trace("withdrawn", sequence, this.#child.pid);
    this.#settle(sequence, reason);
  }

  /** Gives a socket back to whoever sent it. */
  #settle(sequence: number, reason: unknown): void {
    const pending = this.#pending.get(sequence);
    if (pending === undefined) return;
    this.#pending.delete(sequence);
    pending.done.reject(reason);
    defaultProvider().withdraw(pending.info);
  }

  /** Ends the channel: what is not committed goes back. */
  #fail(failure: HandoffError): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    this.#ready.reject(failure);
    for (const [sequence, pending] of this.#pending) {
      if (!pending.committing) this.#settle(sequence, failure);
    }
    this.#control.destroy();
    this.close();
  }
}

function died(pid: number, cause: unknown): HandoffError {
  return new HandoffError("target-died", `process ${pid} no longer reads its stdin`, { cause });
}
