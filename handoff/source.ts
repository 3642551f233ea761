/**
 * The source's side of a hand-off.
 *
 * @module
 */
import { BOOLEAN, check, checkOptions, duration, FUNCTION, PATH, SIGNAL } from "../internal/options.ts";
import { settleWithin } from "../internal/runtime.ts";
import { type AnySocket, checkHolders, checkOpen, kindOfSocket } from "../sockets/duplicate_socket.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import type { DatagramSocket } from "../sockets/datagram_socket.ts";
import { markShared } from "../sockets/descriptor.ts";
import type { Listener } from "../sockets/listener.ts";
import type { HandoffChild, SourceChannel } from "./channel.ts";
import { errorMessage, errorOfExit, HandoffError, trace } from "./errors.ts";
import { Inbox, InboxLoop, type Incoming, Intake, type SocketsByKind } from "./inbox.ts";
import {
  checkWorkerCommand,
  describeExit,
  killProcess,
  openSourceChannel,
  type ScriptOptions,
  spawnWorkerCommand,
  type WorkerScript,
} from "./spawn.ts";
import { Outbox, SEND_TIMEOUT_MS } from "./outbox.ts";
import { POST_RULES, type PostMessageOptions, SEND_RULES, type SendOptions, UntrustedProcess } from "./outgoing.ts";
import type { ListenerShare, SharedListener, ShareListenerOptions } from "./shared_listener.ts";
import {
  decodeReady,
  encodeData,
  encodeFrame,
  encodeHello,
  type Frame,
  FrameDecoder,
  FrameType,
  MAX_MESSAGE_OFFER,
  MAX_PAYLOAD,
  MAX_REASON,
  OfferedKind,
  type OfferPayload,
  SECRET_SIZE,
  SHARE_LIMIT,
} from "./protocol.ts";

/** The default time that a target may take to become ready, in milliseconds. */
export const START_TIMEOUT_MS = 30_000;
/**
 * How long to wait for the exit status of a process that has closed its end of the channel, in milliseconds. An error
 * can then say how the process ended.
 */
const EXIT_MS = 1_000;

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
   * A target that is not trusted gets connections and UDP sockets, but not listeners and local datagram sockets. It
   * can set options of a connection that it was offered, such as `SO_LINGER`, so that closing the connection blocks.
   * For this reason, the source closes such connections on a pool thread, including those that come back, and one at a
   * time, so that it holds up only its own. It cannot hand sockets back with {@linkcode HandoffTarget.send}, only send
   * messages.
   *
   * A socket that comes back from it, and that it may have received, cannot be handed off to another process before its
   * process has ended. What it took counts as held until the source sees that no process has it open; see `onRelease`.
   */
  trusted?: boolean;
  /**
   * Whether the source ends a target that is silent (SIGKILL). A target must answer for each socket that was withdrawn
   * from it. If it sends nothing for `sendTimeout` after that, it is stopped or busy, and may keep a copy of the socket.
   * A target that is not `trusted` is also ended if it makes closing its connections in this process block for
   * `sendTimeout`, as it can with `SO_LINGER`. Defaults to `true`.
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

/** What the target hands back: a socket with data, or a message. */
export type HandoffMessage = MessageWithoutSocket | MessageWithSocket;

/** A message of the target. */
export interface MessageWithoutSocket {
  /** The message: any JSON value. */
  readonly data: unknown;
  /** There is no socket. */
  readonly socket?: undefined;
}

/** A socket that the target has handed back. */
export interface MessageWithSocket {
  /** The `data` of {@linkcode HandoffTarget.send}; `undefined` if nothing was sent. */
  readonly data: unknown;
  /** The socket, which belongs to this process now. The caller must close it or hand it off. */
  readonly socket: SocketsByKind[keyof SocketsByKind];
  /** The bytes that the target had already read. The socket's first read also returns them. */
  readonly initialBytes: Uint8Array;
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
  /**
   * The messages of the target ({@linkcode HandoffTarget.postMessage}) and the sockets that it hands back ({@linkcode
   * HandoffTarget.send}). The loop ends when no more can come.
   *
   * A message or socket is taken in the step in which a loop gets it, and not before: until then it belongs to the
   * target, whose call waits at most for its `sendTimeout`. Several loops share what comes. Leaving one takes nothing
   * more. Waiting does not keep this process running; the child does, as long as it runs.
   *
   * @example A source that moves the connections that its first target gives up to the second one
   * ```ts ignore
   * import { HandoffSource } from "@winsock/handoff";
   *
   * const first = await HandoffSource.spawn(new URL("worker.ts", import.meta.url));
   * const second = await HandoffSource.spawn(new URL("worker.ts", import.meta.url));
   * for await (const { socket, data } of first.messages) {
   *   if (socket === undefined) console.log("the worker says", data);
   *   else await second.send(socket, { data }).catch(() => socket.close());
   * }
   * ```
   */
  readonly messages: AsyncIterable<HandoffMessage>;

  readonly #child: HandoffChild;
  readonly #sendTimeout: number;
  readonly #trusted: boolean;
  readonly #onRelease: (() => void) | undefined;
  readonly #endIfSilent: boolean;
  #onUnproven = () => {};
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #channel: SourceChannel;
  readonly #outbox: Outbox;
  /** What the target hands back. */
  readonly #intake: Intake;
  readonly #inbox: Inbox;
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
  /** Whether an answer was not valid. Nothing that follows it is read, also while the source ends the channel. */
  #invalid = false;

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
    check("script", script, PATH);
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
      this.#channel = openSourceChannel(child);
    } catch (error) {
      this.#stdin.releaseLock();
      throw error;
    }
    this.#trusted = options.trusted ?? true;
    this.#onRelease = options.onRelease;
    this.#endIfSilent = options.endIfSilent ?? true;
    const slow = () => this.#endTarget(`kept the close of a connection waiting for ${sendTimeout} ms`);
    const suspect = this.#trusted ? undefined : new UntrustedProcess(child, sendTimeout, slow);
    const settings = { timeout: sendTimeout, suspect, countsHeld: true };
    this.#outbox = new Outbox(child.pid, settings, this.#channel, {
      released: () => callOut(options.onRelease),
      unproven: () => this.#onUnproven(),
      silent: () => this.#endTarget(`did not answer for ${sendTimeout} ms`),
      lastHeard: () => this.#lastHeard,
      broken: (cause) => this.#channelEnded(`process ${child.pid} no longer reads`, cause),
      exit: () => this.#exit(),
    });
    this.#inbox = new Inbox(false, () => this.#intake.opening);
    this.messages = new InboxLoop(this.#inbox, messageOf);
    this.#intake = new Intake({
      peerProcessId: child.pid,
      decisions: this.#channel.decisions.back,
      answer: (frame, written) => this.#outbox.control(() => frame, written),
      check: (payload) => this.#checkOffered(payload),
      route: () => this.#inbox,
      taken: ({ socket, payload }) => {
        if (payload.kind === OfferedKind.connection) markShared(socket);
      },
      answered: () => this.#inbox.serve(),
      broken: (error) => this.#fail(invalidAnswer(child.pid, error)),
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
   * from another target that is not `trusted`, may have kept it, and still runs; if the socket is a listener or a local
   * datagram socket, and this target is not trusted.
   * @throws {RangeError} If `data` or the initial bytes are too long.
   * @throws The signal's reason, if it is aborted before the target took the socket.
   */
  async send(socket: AnySocket, options: SendOptions = {}): Promise<void> {
    checkOptions(options, SEND_RULES);
    await this.#outbox.send(socket, options, () => {
      this.#checkSending();
      this.#checkTrust(socket);
      checkHolders(socket, this.#child.pid);
    });
  }

  /**
   * Sends a message to the child, which gets it from {@linkcode HandoffTarget.messages}. Messages arrive in the order of
   * the calls. They do not wait for sockets, and sockets do not wait for them.
   *
   * @param message The message: any JSON value, at most 1 MiB.
   * @param options The signal that withdraws the message.
   * @returns Resolves when the child's program has got the message. If the promise rejects, the program never gets it.
   * @throws {HandoffError} If the child ended, or did not take the message within `sendTimeout`; `overloaded` if 1 024
   * messages, or 16 MiB of them, wait already.
   * @throws {TypeError} If JSON cannot express the message.
   * @throws {RangeError} If the message is too long.
   * @throws The signal's reason, if it is aborted before the child took the message.
   */
  async postMessage(message: unknown, options: PostMessageOptions = {}): Promise<void> {
    checkOptions(options, POST_RULES);
    await this.#outbox.post(message, options, () => this.#checkSending());
  }

  #checkSending(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw sourceClosed();
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
    checkOptions(options, { limit: SHARE_LIMIT, timeout: duration(1), endIfSilent: BOOLEAN, signal: SIGNAL });
    const data = encodeData(options.data);
    const { timeout = this.#sendTimeout } = options;
    const { signal } = options;
    if (kindOfSocket(listener) !== "listener") throw new TypeError("Cannot share the socket: it is not a listener");
    this.#checkTrust(listener);
    const { ListenerShare, ShareHandle } = await import("./shared_listener.ts");
    signal?.throwIfAborted();
    this.#checkSending();
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
   * Throws if a target that is not trusted would get a listener: with it, a process can stop or take all connections. Or
   * a local datagram socket: with it, a process can send itself a descriptor that makes reading and closing block here.
   */
  #checkTrust(socket: AnySocket): void {
    if (this.#trusted) return;
    const kind = kindOfSocket(socket);
    const isLocal = kind === "datagram" && "path" in (socket as DatagramSocket<SocketAddr>).addr;
    if (kind !== "listener" && !isLocal) return;
    const what = isLocal ? "local datagram socket" : "listener";
    throw new TypeError(`Cannot hand off ${what} ${socket.handle}: process ${this.#child.pid} is not trusted`);
  }

  /** Throws if the target must not make such an offer. Only a trusted target hands sockets back. */
  #checkOffered({ kind }: OfferPayload): void {
    if (kind === OfferedKind.message || this.#trusted && kind !== OfferedKind.shared) return;
    throw new RangeError(`An offer of kind ${kind} is not for this source`);
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
    const { hello } = this.#channel;
    const frame = encodeFrame(
      FrameType.HELLO,
      0,
      ...encodeHello({
        ...hello,
        sourceProcessId: Deno.pid,
        targetProcessId: pid,
        secret: this.#secret,
        takesSockets: this.#trusted,
      }),
    );
    this.#stdin.closed.catch(() => {});
    this.#stdin.write(frame).then(() => {
      // The processes that the child spawns inherit an empty stdin.
      this.#stdin.close().catch(() => {});
    }, (cause) => this.#channelEnded(`process ${pid} does not read its stdin`, cause));
    trace("hello-sent", 0, pid);
    const decoder = new FrameDecoder(MAX_REASON, this.#trusted ? MAX_PAYLOAD : MAX_MESSAGE_OFFER);
    this.#channel.listen(
      (chunk) => this.#takeAnswers(decoder, chunk),
      (cause) => this.#channelEnded(`process ${pid} closed its end of the channel`, cause),
    );
  }

  #takeAnswers(decoder: FrameDecoder, chunk: Uint8Array): void {
    if (this.#invalid) return;
    this.#lastHeard = performance.now();
    try {
      for (const frame of decoder.push(chunk)) {
        if (this.#over) return;
        this.#takeAnswer(frame);
      }
    } catch (error) {
      this.#invalid = true;
      this.#fail(invalidAnswer(this.#child.pid, error));
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
      case FrameType.OFFER:
      case FrameType.WITHDRAW:
        return this.#takeOffer(frame);
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

  #takeOffer(frame: Frame): void {
    if (!this.#isReady) throw new RangeError("An offer was received before READY");
    this.#intake.take(frame);
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

  /**
   * Ends a target that owes an answer and sends nothing, or that makes closing its connections block; and with it the
   * copies of sockets that it may keep.
   */
  #endTarget(reason: string): void {
    if (!this.#endIfSilent) return;
    killProcess(this.#child);
    this.#fail(new HandoffError("timeout", `process ${this.#child.pid} ${reason}, and was ended`));
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
    // A target that has ended cannot be told that its last messages were not read.
    this.#inbox.keepMessages();
    this.#release();
  }

  #release(): void {
    this.#outbox.dispose();
    this.#intake.abandon();
    this.#inbox.end();
    this.#channel.close();
  }
}

/**
 * Checks the options of a source.
 *
 * @returns The timeouts, with their defaults.
 * @throws The errors of {@linkcode checkOptions}.
 */
export function sourceTimeouts(
  options: HandoffSourceOptions,
): Required<Pick<HandoffSourceOptions, "startTimeout" | "sendTimeout">> {
  checkOptions(options, {
    startTimeout: duration(1),
    sendTimeout: duration(1),
    trusted: BOOLEAN,
    endIfSilent: BOOLEAN,
    onRelease: FUNCTION,
  });
  const { startTimeout = START_TIMEOUT_MS, sendTimeout = SEND_TIMEOUT_MS } = options;
  return { startTimeout, sendTimeout };
}

function sourceClosed(): HandoffError {
  return new HandoffError("closed", "the source was closed");
}

function exited(processId: number, status: Deno.CommandStatus): HandoffError {
  return new HandoffError("target-exited", `process ${processId} ${describeExit(status)}`, errorOfExit(status));
}

function invalidAnswer(processId: number, error: unknown): HandoffError {
  const reason = errorMessage(error);
  const failure = `process ${processId} sent an answer that is not valid: ${reason}`;
  return new HandoffError("channel-broken", failure, { cause: error });
}

/** Returns what the program gets. */
function messageOf(incoming: Incoming): HandoffMessage {
  const { data, isMessage } = incoming;
  if (isMessage) return { data };
  return { data, socket: incoming.socket as MessageWithSocket["socket"], initialBytes: incoming.initialBytes };
}

/** Calls a callback of the program. An exception in it does not affect the target. */
function callOut(callback: (() => void) | undefined): void {
  try {
    callback?.();
  } catch (error) {
    reportError(error);
  }
}
