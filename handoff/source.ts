/**
 * The source's side of a hand-off.
 *
 * @module
 */
import { settleWithin, validateDuration } from "../internal/runtime.ts";
import { type AnySocket, checkHolders, checkOpen, kindOfSocket } from "../sockets/duplicate_socket.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import type { Suspect } from "../sockets/descriptor.ts";
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

/** The default time that a target may take to become ready, in milliseconds. */
export const START_TIMEOUT_MS = 30_000;
/** The default time that a ready target may take for each socket, in milliseconds. */
export const SEND_TIMEOUT_MS = 10_000;
/**
 * How long to wait for the exit status of a process that has closed its end of the channel, in milliseconds. An error
 * can then say how the process ended.
 */
const EXIT_MS = 250;

/** Options of a {@linkcode HandoffSource}. */
export interface HandoffSourceOptions {
  /**
   * The time until the target must have called {@linkcode receive}, in milliseconds, from 1 to 2 147 483 647. After
   * this time the source fails. Defaults to `30_000`.
   */
  startTimeout?: number;
  /**
   * The time that a ready target may take for each socket, in milliseconds, from 1 to 2 147 483 647. After this time
   * the source withdraws the socket. Defaults to `10_000`.
   */
  sendTimeout?: number;
  /**
   * Whether the source trusts the program that the target runs. Defaults to `true`.
   *
   * A target that is not trusted gets connections and datagram sockets, but not listeners. It can set options of a
   * connection that it was offered, such as `SO_LINGER`, so that closing the connection blocks. For this reason, the
   * source closes such connections on a pool thread, including those that come back.
   *
   * A socket that comes back from it, and that it may have received, cannot be handed off to another process before its
   * process has ended. What it took counts as held until the source sees that no process has it open; see `onRelease`.
   */
  trusted?: boolean;
  /**
   * Whether the source ends a target that is silent (SIGKILL). A target must answer for each socket that was withdrawn
   * from it. If it sends nothing for `sendTimeout` after that, it is stopped or busy, and may keep a copy of the socket.
   * Defaults to `true`.
   */
  endIfSilent?: boolean;
  /**
   * Called when the target has closed or released a socket that it took. An exception in it is reported as uncaught.
   *
   * A target that is not trusted may lie about that. On Linux, it is called for such a target when no process has the
   * socket open. On Windows and macOS the system does not tell, and it is not called for such a target.
   */
  onRelease?: () => void;
}

/** Options of {@linkcode HandoffSource.spawn}. */
export interface HandoffSpawnOptions extends HandoffSourceOptions, ScriptOptions {}

/** What is sent together with a socket. */
export interface SendOptions {
  /** The data for the target: any JSON value, at most 1 MiB. */
  data?: unknown;
  /**
   * The bytes that were already read from the connection, at most 1 MiB. The target's first read returns them. Defaults
   * to the socket's own `initialBytes`, which this option replaces for this call. If the socket comes back, these bytes
   * are not kept; use {@linkcode Socket.unread} to keep them.
   */
  initialBytes?: Uint8Array;
  /** The signal that withdraws the socket, unless the target has taken it already. */
  signal?: AbortSignal;
}

/** What a source has observed of its target. */
interface Observed {
  /** The number of sockets that the target has taken and has not yet closed or released. */
  readonly held: number;
  /**
   * The time of the last message from the target, in the time of `performance.now()`. At first, the time at which the
   * source began.
   */
  readonly lastHeard: number;
  /**
   * The number of sockets that count as held until the target has ended, because it says that it has closed them, is not
   * trusted, and the system does not tell.
   */
  readonly unprovable: number;
}

/** Returns what a source has observed of its target, for callers that choose among several targets. */
export let observe: (source: HandoffSource) => Observed;

/** Sets the function that is called when {@linkcode Observed.unprovable} has changed. */
export let onUnproven: (source: HandoffSource, callback: () => void) => void;

/** The listeners and datagram sockets that are in flight, of all sources. Each is offered once at a time. */
const onTheirWay = new WeakSet<AnySocket>();

/**
 * Hands sockets off to a child process, which takes them with {@linkcode receive}. The source uses the child's stdin.
 * The child's stdout and stderr stay free for its own output.
 *
 * A socket belongs to the source until the child takes it. Each hand-off has one decision, to take or to withdraw,
 * which either process can make at any time. If the child rejects the socket, ends, or takes too long, the socket stays
 * open and belongs to the source.
 *
 * At most 64 sockets are in flight at a time. What is sent together with them has at most 4 MiB in total, or is that of
 * one larger socket. Further sockets wait in the source.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` to spawn the child.
 *
 * @example Handing every connection off to a worker
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
  /**
   * A promise that resolves when the target can take sockets. It rejects with a {@linkcode HandoffError} if the target
   * can never take sockets.
   */
  readonly ready: Promise<void>;
  /**
   * A promise that resolves when this source can send no more sockets. It resolves with `undefined` if the source was
   * closed. Otherwise it resolves with the error that has the reason, such as `target-exited` with the child's exit
   * code or signal.
   */
  readonly closed: Promise<HandoffError | undefined>;

  readonly #child: HandoffChild;
  readonly #sendTimeout: number;
  readonly #trusted: boolean;
  readonly #onRelease: (() => void) | undefined;
  readonly #endIfSilent: boolean;
  #onUnproven = () => {};
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
  /** Whether the source ends the channel. How the target's process ends is then not a failure of this source. */
  #ending = false;
  /** Whether the channel is over. How the process ended may not be known yet. */
  #over = false;

  static {
    observe = (source) => {
      const { held, unprovable } = source.#outbox;
      return { held, lastHeard: source.#lastHeard, unprovable };
    };
    onUnproven = (source, callback) => source.#onUnproven = callback;
  }

  /**
   * Starts a Deno program with ffi access to the system's socket library, and creates a source for it. On Linux and
   * macOS the child inherits its end of the channel.
   *
   * @param script The program, which calls {@linkcode receive}.
   * @param options The options of the child process and of the source.
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
   * Creates a source for a child process, and begins the protocol.
   *
   * @param child The child process, just spawned with `stdin: "piped"`. From now on its stdin belongs to the source.
   * @param options The options of the source.
   * @throws {TypeError} If the child's stdin is not piped, or is in use.
   * @throws {RangeError} If a timeout is out of its range.
   * @throws {WinsockError} WSAEINVAL if the child has ended already.
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
    this.#endIfSilent = options.endIfSilent ?? true;
    const suspect = this.#trusted ? undefined : toSuspect(child);
    this.#outbox = new Outbox(child.pid, { timeout: sendTimeout, suspect }, this.#channel, {
      released: () => callOut(options.onRelease),
      unproven: () => this.#onUnproven(),
      silent: () => this.#endSilent(),
      lastHeard: () => this.#lastHeard,
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

  /** The child process that was passed to the constructor, or spawned. */
  get child(): HandoffChild {
    return this.#child;
  }

  /** The number of sockets that are in flight, or wait to be sent. */
  get inFlight(): number {
    return this.#outbox.count;
  }

  /**
   * Hands a socket off to the child.
   *
   * @param socket The socket. When the promise resolves, the target owns the socket, and it is closed in this process.
   * If the promise rejects, the socket is unchanged and belongs to the caller.
   * @param options What is sent together with the socket.
   * @throws {HandoffError} If the target rejected the socket, ended, or took too long; `outcome` says which.
   * @throws {WinsockError} If the socket cannot be shared: WSAENOTSOCK if it was closed or released.
   * @throws {TypeError} If the socket is being handed off already, or JSON cannot express `data`; if the socket came back
   * from another target that is not `trusted`, may have kept it, and still runs; if the socket is a listener, and this
   * target is not trusted.
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
    checkHolders(socket, this.#child.pid);
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
   * Lets the child accept connections of a listener itself. The child's {@linkcode receive} loop gets these connections
   * as if each had been handed off, with the same `data`. The listener stays open in this process and belongs to the
   * caller. It can be shared with any number of children; the system then chooses which process gets a connection.
   *
   * The child accepts only while its loop waits for a socket. Other connections stay in the backlog. Connections that
   * the child has accepted end with its process. On Windows a thread accepts, and can accept one connection after the
   * loop has stopped waiting. The next iteration of the loop gets this connection, and leaving the loop closes it.
   * `onRelease` is also called for these connections, some milliseconds late. Accepting ends when the child leaves the
   * loop or this source ends.
   *
   * @param listener The listener.
   * @param options The data for each connection, the limit of open sockets, and the timeout of an answer.
   * @returns A handle of the shared listener. The child has its duplicate, and has been told to accept.
   * @throws {HandoffError} If the target rejected the listener, as a target with `autoAccept: false` does; ended; or
   * took too long.
   * @throws {WinsockError} If the listener cannot be shared: WSAENOTSOCK if it was closed or released.
   * @throws {TypeError} If the target is not trusted, or JSON cannot express `data`.
   * @throws {RangeError} If `data` is too long, or `limit` or `timeout` is out of range.
   * @throws The signal's reason, if it is aborted before the target took the listener.
   */
  async shareListener(listener: Listener<SocketAddr>, options: ShareListenerOptions = {}): Promise<SharedListener> {
    const data = encodeData(options.data);
    const timeout = validateDuration("timeout", options.timeout ?? this.#sendTimeout, 1);
    const { signal } = options;
    if (kindOfSocket(listener) !== "listener") throw new TypeError("Cannot share the socket: it is not a listener");
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

  /**
   * Throws if a target that is not trusted would get a listener: with it, a process can stop or take all connections.
   */
  #checkTrust(socket: AnySocket): void {
    if (this.#trusted || kindOfSocket(socket) !== "listener") return;
    throw new TypeError(`Cannot hand off listener ${socket.handle}: process ${this.#child.pid} is not trusted`);
  }

  /**
   * Waits for the sockets in flight, tells the target that no more will come, and ends the channel. The child continues
   * to run.
   */
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
    // The deadlines of these sockets are no longer watched.
    this.#outbox.withdrawAll()(this.#failure ?? sourceClosed());
    this.#closed.resolve(this.#failure);
    this.#release();
  }

  /** Sends HELLO, which tells the target how to get its end of the channel, and begins to read the answers. */
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
      // The processes that the child spawns inherit an empty stdin.
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
      throw new RangeError(`READY comes from process ${processId}, but HELLO was for process ${this.#child.pid}`);
    }
    if (this.#isReady) throw new RangeError("READY was received twice");
    this.#isReady = true;
    trace("ready-received", 0, processId);
    this.#channel.established();
    this.#outbox.start();
    this.#ready.resolve();
  }

  /** Notes that the target takes no more sockets. It rejects what it is offered until it reads END. */
  #takeLeave(): void {
    if (this.#failure !== undefined) return;
    trace("left", 0, this.#child.pid);
    this.#failure = new HandoffError("closed", `process ${this.#child.pid} takes no more sockets`);
    this.#outbox.stop(this.#failure);
    this.#outbox.end(true, this.#sendTimeout);
    this.#closed.resolve(this.#failure);
  }

  /**
   * Handles the end of the channel, which is not the end of the target's process: the target may have closed the
   * channel. The sockets in flight are withdrawn at once. The callers get the error when it is known how the process
   * ended.
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

  /** Ends a target that owes an answer and sends nothing, and with it the copies of sockets that it may keep. */
  #endSilent(): void {
    if (!this.#endIfSilent) return;
    const { pid } = this.#child;
    killProcess(this.#child);
    this.#fail(new HandoffError("timeout", `process ${pid} did not answer for ${this.#sendTimeout} ms, and was ended`));
  }

  /** Ends the channel. Sockets that the target has not taken come back. */
  #fail(failure: HandoffError): void {
    if (this.#over || this.#ending) return;
    this.#over = true;
    this.#outbox.withdrawAll()(failure);
    this.#finish(failure);
  }

  #finish(failure: HandoffError): void {
    this.#failure = failure;
    // These sockets were sent while it was not yet known how the process had ended.
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

/** Returns the timeouts of a source, with their defaults. Throws a `RangeError` for a value that is not valid. */
export function sourceTimeouts(
  { startTimeout = START_TIMEOUT_MS, sendTimeout = SEND_TIMEOUT_MS }: HandoffSourceOptions,
): Required<Pick<HandoffSourceOptions, "startTimeout" | "sendTimeout">> {
  return {
    startTimeout: validateDuration("startTimeout", startTimeout, 1),
    sendTimeout: validateDuration("sendTimeout", sendTimeout, 1),
  };
}

/** Returns the bytes that are sent together with a socket: the given bytes, or the socket's own initial bytes. */
function checkedInitialBytes(socket: AnySocket, given: Uint8Array | undefined): Uint8Array {
  if (kindOfSocket(socket) !== "connection") {
    if (given !== undefined) {
      throw new TypeError("Invalid `initialBytes`: must be unset for a socket that is not a connection");
    }
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

function toSuspect({ pid, status }: HandoffChild): Suspect {
  const suspect = { processId: pid, over: false, ended: Promise.resolve() };
  suspect.ended = status.then(() => void (suspect.over = true), () => {});
  return suspect;
}

function exited(processId: number, status: Deno.CommandStatus): HandoffError {
  return new HandoffError("target-exited", `process ${processId} ${describeExit(status)}`);
}

/**
 * Prevents a socket from being used, or handed off by another source, while it is in flight.
 *
 * @returns A function that lets the socket be used again.
 */
function takeOutOfUse(socket: AnySocket): () => void {
  if (kindOfSocket(socket) === "connection") return beginHandoff(socket as Socket);
  if (onTheirWay.has(socket)) throw new TypeError(`Cannot hand off socket ${socket.handle}: it is in flight already`);
  onTheirWay.add(socket);
  return () => onTheirWay.delete(socket);
}

/** Calls a callback of the program. An exception in it does not affect the target. */
function callOut(callback: (() => void) | undefined): void {
  try {
    callback?.();
  } catch (error) {
    reportError(error);
  }
}
