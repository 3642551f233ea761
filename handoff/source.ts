/**
 * The source's side of a hand-off.
 *
 * @module
 */
import { settleWithin, validateDuration } from "../internal/runtime.ts";
import { type AnySocket, checkOpen, kindOfSocket } from "../sockets/duplicate_socket.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import type { Listener } from "../sockets/listener.ts";
import { beginHandoff, type Socket } from "../sockets/socket.ts";
import type { HandoffChild, SourceChannel } from "./channel.ts";
import { HandoffError, trace } from "./errors.ts";
import {
  checkWorkerCommand,
  describeExit,
  killProcess,
  openSourceChannel,
  type ScriptOptions,
  spawnWorkerCommand,
  type WorkerScript,
} from "./spawn.ts";
import { Outbox, type OutgoingHandoff } from "./outbox.ts";
import type { ListenerShare, SharedListener, ShareListenerOptions } from "./shared_listener.ts";
import {
  decodeReady,
  encodeData,
  encodeFrame,
  encodeHello,
  type Frame,
  FrameDecoder,
  FrameType,
  MAX_INITIAL_BYTES,
  MAX_REASON,
  SECRET_SIZE,
} from "./protocol.ts";

/** How long a target may take to become ready, in milliseconds, where nothing else is said. */
export const START_TIMEOUT_MS = 30_000;
/** How long it may then take for each socket. */
export const SEND_TIMEOUT_MS = 10_000;
/** How long to wait for a process to end whose end of the channel is closed, so that an error can say how it ended. */
const EXIT_MS = 250;

/** How a {@linkcode HandoffSource} works. */
export interface HandoffSourceOptions {
  /**
   * How long the target may take until it has called {@linkcode receive}, in milliseconds, from 1 to 2 147 483 647; then
   * this source has failed. Defaults to `30_000`.
   */
  startTimeout?: number;
  /**
   * How long a target that is ready may take for each socket, in milliseconds, from 1 to 2 147 483 647; then the socket is
   * withdrawn. Defaults to `10_000`.
   */
  sendTimeout?: number;
  /**
   * Whether the target runs a program of one's own. Defaults to true.
   *
   * A target that is not trusted gets connections and datagram sockets, not listeners. It can set options of a connection
   * it was offered, such as `SO_LINGER`, so that closing it blocks: this process closes such connections on a pool thread,
   * also those that come back.
   */
  trusted?: boolean;
  /** Called when the target has closed, or given up, a socket it was handed. What it throws is reported as uncaught. */
  onRelease?: () => void;
}

/** How {@linkcode HandoffSource.spawn} starts its target. */
export interface HandoffSpawnOptions extends HandoffSourceOptions, ScriptOptions {}

/** What travels along with a socket. */
export interface SendOptions {
  /** Any JSON value, at most 1 MiB of it. */
  data?: unknown;
  /**
   * Bytes already read from the connection, at most 1 MiB; the target's first read returns them. Defaults to the socket's
   * own `initialBytes`, which these override for this call. They are not kept if the socket comes back: use
   * {@linkcode Socket.unread} for that.
   */
  initialBytes?: Uint8Array;
  /** Withdraws the socket, unless the target has taken it. */
  signal?: AbortSignal;
}

/** What a source has seen of its target. */
interface Observed {
  /** How many sockets the target has taken and has not closed, or given up, yet. */
  readonly held: number;
  /** When the target was last heard of, as `performance.now()` tells time; at first, when the source began. */
  readonly lastHeard: number;
}

/** What a source has seen of its target, for those that choose among several. */
export let observe: (source: HandoffSource) => Observed;

/** Listeners and datagram sockets on their way, whichever source sends them: none is offered twice at a time. */
const onTheirWay = new WeakSet<AnySocket>();

/**
 * Hands sockets to a child process, which takes them with {@linkcode receive}. The child's stdin becomes the source's; its
 * stdout and stderr stay free for its own output.
 *
 * A socket is the source's until the child takes it: each hand-off has one decision, taken or withdrawn, which either
 * process can make at any instant. A child that rejects the socket, ends, or takes too long leaves it open and the source's.
 *
 * At most 64 sockets, and 4 MiB of what goes along with them (or one that takes more), are on their way at a time; further
 * ones wait here.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` to spawn the child.
 *
 * @example Handing every connection to a worker
 * ```ts ignore
 * import { HandoffSource, listen } from "@winsock/handoff";
 *
 * await using source = await HandoffSource.spawn(new URL("worker.ts", import.meta.url));
 * using listener = listen({ port: 8080 });
 * for await (const socket of listener) {
 *   await source.send(socket);
 * }
 * ```
 */
export class HandoffSource implements AsyncDisposable {
  /** Resolves when the target can take sockets; rejects with a {@linkcode HandoffError} if it never will. */
  readonly ready: Promise<void>;
  /**
   * Resolves when this source can send no more: with nothing if it was closed, otherwise with the error that says why, such
   * as `target-exited` with the child's exit code or signal.
   */
  readonly closed: Promise<HandoffError | undefined>;

  readonly #child: HandoffChild;
  readonly #sendTimeout: number;
  readonly #trusted: boolean;
  readonly #onRelease: (() => void) | undefined;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #channel: SourceChannel;
  readonly #outbox: Outbox;
  readonly #secret = crypto.getRandomValues(new Uint8Array(SECRET_SIZE));
  readonly #ready = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<HandoffError | undefined>();
  #isReady = false;
  #lastHeard = performance.now();
  #failure: HandoffError | undefined;
  #closing: Promise<void> | undefined;
  /** Whether the target is told that no more will come: how its process ends says nothing about this source then. */
  #ending = false;
  /** Whether the channel is over; how the process ended may not be known yet. */
  #over = false;

  static {
    observe = (source) => ({ held: source.#outbox.held, lastHeard: source.#lastHeard });
  }

  /**
   * Starts a Deno program with ffi access to the system's socket library, and a source for it. On Linux and macOS the child
   * inherits its end of the channel.
   *
   * @param script The program, which calls {@linkcode receive}.
   * @param options How it is started, and how the source works.
   * @returns The source. Its child is {@linkcode HandoffSource.child}.
   * @throws {Deno.errors.NotCapable} Without the permission to run this Deno (`--allow-run`).
   * @throws {RangeError} If a timeout is out of its range.
   * @throws {TypeError} If this program is compiled, so that there is no Deno to run a script.
   */
  static async spawn(script: string | URL, options: HandoffSpawnOptions = {}): Promise<HandoffSource> {
    const program = { ...options, script } as WorkerScript;
    checkWorkerCommand(program);
    sourceTimeouts(options);
    return new HandoffSource(await spawnWorkerCommand(program, { output: "inherit" }), options);
  }

  /**
   * Starts speaking to a child.
   *
   * @param child A child process just spawned with `stdin: "piped"`. Its stdin belongs to the source from now on.
   * @param options How the source works.
   * @throws {TypeError} If the child's stdin is not piped, or is in use.
   * @throws {RangeError} If a timeout is out of its range.
   * @throws {WinsockError} WSAEINVAL if the child is gone already.
   */
  constructor(child: HandoffChild, options: HandoffSourceOptions = {}) {
    this.#child = child;
    const { startTimeout, sendTimeout } = sourceTimeouts(options);
    this.#sendTimeout = sendTimeout;
    this.ready = this.#ready.promise;
    this.closed = this.#closed.promise;
    this.ready.catch(() => {});
    this.#stdin = child.stdin.getWriter();
    try {
      this.#channel = openSourceChannel(child, this.#stdin);
    } catch (error) {
      this.#stdin.releaseLock();
      throw error;
    }
    this.#trusted = options.trusted ?? true;
    this.#onRelease = options.onRelease;
    const settings = { timeout: sendTimeout, trusted: this.#trusted };
    this.#outbox = new Outbox(child.pid, settings, this.#channel, {
      released: () => callOut(options.onRelease),
      broken: (cause) => this.#channelEnded(`process ${child.pid} no longer reads`, cause),
      exit: () => this.#exit(),
    });
    this.#sendHello();
    child.status.then((status) => this.#fail(exited(child.pid, status)), () => {});
    const deadline = setTimeout(
      () => this.#fail(new HandoffError("timeout", `process ${child.pid} was not ready after ${startTimeout} ms`)),
      startTimeout,
    );
    const settled = () => clearTimeout(deadline);
    this.ready.then(settled, settled);
  }

  /** The child, as it was given or spawned. */
  get child(): HandoffChild {
    return this.#child;
  }

  /** How many sockets are on their way, or wait to be. */
  get inFlight(): number {
    return this.#outbox.count;
  }

  /**
   * Hands a socket to the child.
   *
   * @param socket The socket. When this resolves, the target owns it, and it is closed here; if it rejects, the socket is as
   * it was, and its caller's.
   * @param options What travels along.
   * @throws {HandoffError} If the target rejected the socket, ended, or took too long; `outcome` says which.
   * @throws {WinsockError} If the socket cannot be shared: WSAENOTSOCK if it was closed or given up.
   * @throws {TypeError} If the socket is being handed off already, or JSON cannot express `data`.
   * @throws {RangeError} If `data` or the initial bytes are too long.
   * @throws The signal's reason, if it is aborted before the target took the socket.
   */
  async send(socket: AnySocket, options: SendOptions = {}): Promise<void> {
    const data = encodeData(options.data);
    const initialBytes = checkedInitialBytes(socket, options.initialBytes);
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw sourceClosed();
    checkOpen(socket);
    this.#checkTrust(socket);
    const put = takeOutOfUse(socket);
    let outgoing: OutgoingHandoff | undefined;
    const abort = () => outgoing !== undefined && this.#outbox.withdraw(outgoing, signal?.reason);
    try {
      outgoing = this.#outbox.add(socket, data, initialBytes);
      signal?.addEventListener("abort", abort);
      await outgoing.settled;
    } finally {
      signal?.removeEventListener("abort", abort);
      put();
    }
  }

  /**
   * Has the child accept connections of a listener by itself. Its {@linkcode receive} loop gets them as if they had been
   * handed off one by one, with the same `data` each. The listener stays open here and its caller's, and can be shared with
   * any number of children, so that the system chooses who gets a connection.
   *
   * The child accepts while its loop waits for a socket, and not ahead: what it does not ask for stays in the backlog, and
   * what it has accepted ends with its process. (On Windows a thread accepts, and can bring one connection that the loop does
   * not wait for any more: the next turn of the loop gets it, and leaving the loop closes it.) `onRelease` is called for
   * these connections too, some milliseconds late. Leaving the loop, or the end of this source, ends accepting.
   *
   * @param listener The listener.
   * @param options What each connection brings, how many may be open, and how long an answer may take.
   * @returns The child has its duplicate, and is told to accept.
   * @throws {HandoffError} If the target rejected the listener, as one does that accepts sockets by hand; ended; or took too
   * long.
   * @throws {WinsockError} If the listener cannot be shared: WSAENOTSOCK if it was closed or given up.
   * @throws {TypeError} If the target is not trusted, or JSON cannot express `data`.
   * @throws {RangeError} If `data` is too long, or `limit` or `timeout` is out of range.
   * @throws The signal's reason, if it is aborted before the target took the listener.
   */
  async shareListener(listener: Listener<SocketAddr>, options: ShareListenerOptions = {}): Promise<SharedListener> {
    const data = encodeData(options.data);
    const timeout = validateDuration("timeout", options.timeout ?? this.#sendTimeout, 1);
    const { signal } = options;
    if (kindOfSocket(listener) !== "listener") throw new TypeError("Cannot share a listener: it is not one");
    this.#checkTrust(listener);
    const { ListenerShare, ShareHandle } = await import("./shared_listener.ts");
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw sourceClosed();
    checkOpen(listener);
    const share: ListenerShare = new ListenerShare(
      {
        processId: this.#child.pid,
        exited: this.#child.status.then((status) => exited(this.#child.pid, status)),
        write: (frame) => this.#outbox.control(() => frame(share.sequence)),
        released: (count) => this.#released(count),
        over: () => this.#outbox.forgetShare(share.sequence),
        end: () => killProcess(this.#child),
      },
      timeout,
      options,
    );
    const outgoing = this.#outbox.add(listener, data, new Uint8Array(0), share);
    const abort = () => this.#outbox.withdraw(outgoing, signal?.reason);
    signal?.addEventListener("abort", abort);
    try {
      await outgoing.settled;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
    return new ShareHandle(share);
  }

  #released(count: number): void {
    for (let index = 0; index < count; index++) callOut(this.#onRelease);
  }

  /** With a listener a process can stop, or take, all that arrives. */
  #checkTrust(socket: AnySocket): void {
    if (this.#trusted || kindOfSocket(socket) !== "listener") return;
    throw new TypeError(`Cannot hand off listener ${socket.handle}: process ${this.#child.pid} is not trusted`);
  }

  /** Waits for what is on its way, tells the target that no more will come, and ends the channel. The child runs on. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** The same as {@linkcode HandoffSource.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await this.ready.catch(() => {});
    await settleWithin(this.#outbox.allSettled(), this.#sendTimeout);
    if (!this.#over) await this.#outbox.stopShares();
    this.#ending = true;
    await this.#outbox.end(this.#failure === undefined, this.#failure === undefined ? this.#sendTimeout : 0);
    if (this.#over) return;
    this.#over = true;
    // What the target has not taken by now: its deadline is not watched any more.
    this.#outbox.withdrawAll()(this.#failure ?? sourceClosed());
    this.#closed.resolve(this.#failure);
    this.#release();
  }

  /** Tells the target how to get its end of the channel, and hears its answers. */
  #sendHello(): void {
    const { pid } = this.#child;
    const { hello, usesStdin } = this.#channel;
    const frame = encodeFrame(
      FrameType.HELLO,
      0,
      ...encodeHello({ ...hello, sourceProcessId: Deno.pid, targetProcessId: pid, secret: this.#secret }),
    );
    this.#stdin.closed.catch(() => {});
    this.#stdin.write(frame).then(() => {
      // What the child itself spawns inherits a stdin with nothing in it.
      if (!usesStdin) this.#stdin.close().catch(() => {});
    }, (cause) => this.#channelEnded(`process ${pid} does not read its stdin`, cause));
    trace("hello-sent", 0, pid);
    const decoder = new FrameDecoder(MAX_REASON);
    this.#channel.listen(
      (chunk) => this.#takeAnswers(decoder, chunk),
      (cause) => this.#channelEnded(`process ${pid} closed its end of the channel`, cause),
    );
  }

  #takeAnswers(decoder: FrameDecoder, chunk: Uint8Array): void {
    this.#lastHeard = performance.now();
    try {
      for (const frame of decoder.push(chunk)) {
        if (this.#over) return;
        this.#takeAnswer(frame);
      }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const failure = `process ${this.#child.pid} sent an answer that is not valid: ${reason}`;
      this.#fail(new HandoffError("channel-broken", failure, { cause: error }));
    }
  }

  #takeAnswer(frame: Frame): void {
    switch (frame.type) {
      case FrameType.READY:
        return this.#takeReady(frame.payload);
      case FrameType.TAKEN:
      case FrameType.REJECT:
      case FrameType.DONE:
        return this.#outbox.takeAnswer(frame);
      case FrameType.ACCEPTING:
      case FrameType.PAUSED:
      case FrameType.STOPPED:
      case FrameType.COUNTS:
        return this.#outbox.takeShareAnswer(frame);
      case FrameType.LEAVE:
        return this.#takeLeave();
      default:
        throw new RangeError(`Frame type ${frame.type} is not an answer`);
    }
  }

  #takeReady(payload: Uint8Array): void {
    const { processId, secret } = decodeReady(payload);
    if (processId !== this.#child.pid || !secret.every((byte, index) => byte === this.#secret[index])) {
      throw new RangeError(`READY comes from process ${processId}, and HELLO was for process ${this.#child.pid}`);
    }
    if (this.#isReady) throw new RangeError("READY came twice");
    this.#isReady = true;
    trace("ready-received", 0, processId);
    this.#channel.established();
    this.#outbox.start();
    this.#ready.resolve();
  }

  /** The target takes no more, and rejects what is offered until it reads END. */
  #takeLeave(): void {
    if (this.#failure !== undefined) return;
    trace("left", 0, this.#child.pid);
    this.#failure = new HandoffError("closed", `process ${this.#child.pid} takes no more sockets`);
    this.#outbox.stop(this.#failure);
    this.#outbox.end(true, this.#sendTimeout);
    this.#closed.resolve(this.#failure);
  }

  /**
   * Nothing more comes from the target, or goes to it. That is not the end of its process, which may have closed the
   * channel: what is on its way is withdrawn at once, and the callers are told when it is known how the process ended.
   */
  async #channelEnded(reason: string, cause: unknown): Promise<void> {
    if (this.#over || this.#ending) return;
    this.#over = true;
    const tell = this.#outbox.withdrawAll();
    const failure = await this.#exit() ?? new HandoffError("channel-broken", reason, { cause });
    tell(failure);
    this.#finish(failure);
  }

  async #exit(): Promise<HandoffError | undefined> {
    const { pid, status } = this.#child;
    let failure: HandoffError | undefined;
    await settleWithin(status.then((status) => failure = exited(pid, status), () => {}), EXIT_MS);
    return failure;
  }

  /** Ends the channel: what the target has not taken comes back. */
  #fail(failure: HandoffError): void {
    if (this.#over || this.#ending) return;
    this.#over = true;
    this.#outbox.withdrawAll()(failure);
    this.#finish(failure);
  }

  #finish(failure: HandoffError): void {
    this.#failure = failure;
    // What was sent while it was not known yet how the process had ended.
    this.#outbox.withdrawAll()(failure);
    this.#ready.reject(failure);
    this.#closed.resolve(failure);
    this.#stdin.abort().catch(() => {});
    this.#closing ??= Promise.resolve();
    this.#release();
  }

  #release(): void {
    this.#outbox.dispose();
    this.#channel.close();
  }
}

/** The timeouts of a source, with their defaults. Throws a `RangeError` for what is not one. */
export function sourceTimeouts(
  { startTimeout = START_TIMEOUT_MS, sendTimeout = SEND_TIMEOUT_MS }: HandoffSourceOptions,
): Required<Pick<HandoffSourceOptions, "startTimeout" | "sendTimeout">> {
  return {
    startTimeout: validateDuration("startTimeout", startTimeout, 1),
    sendTimeout: validateDuration("sendTimeout", sendTimeout, 1),
  };
}

/** The bytes that go along with a socket: those given, or those it came with. */
function checkedInitialBytes(socket: AnySocket, given: Uint8Array | undefined): Uint8Array {
  if (kindOfSocket(socket) !== "connection") {
    if (given !== undefined) throw new TypeError("Invalid `initialBytes`: only a connection has any");
    return new Uint8Array(0);
  }
  const bytes = given ?? (socket as Socket).initialBytes;
  if (bytes.byteLength > MAX_INITIAL_BYTES) {
    throw new RangeError(`Cannot send ${bytes.byteLength} initial bytes: the most is ${MAX_INITIAL_BYTES}`);
  }
  return bytes;
}

function sourceClosed(): HandoffError {
  return new HandoffError("closed", "the source was closed");
}

function exited(processId: number, status: Deno.CommandStatus): HandoffError {
  return new HandoffError("target-exited", `process ${processId} ${describeExit(status)}`);
}

/**
 * Keeps a socket from being used, or handed off by another source, while it is on its way.
 *
 * @returns Puts it into use again.
 */
function takeOutOfUse(socket: AnySocket): () => void {
  if (kindOfSocket(socket) === "connection") return beginHandoff(socket as Socket);
  if (onTheirWay.has(socket)) throw new TypeError(`Cannot hand off socket ${socket.handle}: it is on its way already`);
  onTheirWay.add(socket);
  return () => onTheirWay.delete(socket);
}

/** Calls the program. What it throws is its own mistake, and none of the target's. */
function callOut(callback: (() => void) | undefined): void {
  try {
    callback?.();
  } catch (error) {
    reportError(error);
  }
}
