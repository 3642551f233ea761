/**
 * The target's side of a hand-off, as the protocol defines it.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { BOOLEAN, checkOptions, duration, type Rule, SIGNAL, STREAM } from "../internal/options.ts";
import { nodeBuiltin, settleWithin, untilAborted } from "../internal/runtime.ts";
import type { SocketKind } from "../ffi/platform.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { markShared, onRelease } from "../sockets/descriptor.ts";
import type { Listener } from "../sockets/listener.ts";
import { type AnySocket, ownOffered } from "../sockets/duplicate_socket.ts";
import { WSA_ERRORS } from "../structs/constants.ts";
import type { TargetChannel } from "./channel.ts";
import { errorAbout, HandoffError, trace } from "./errors.ts";
import { type FrameReader, stdinInput, streamInput } from "./channel.ts";
import {
  Inbox,
  InboxLoop,
  type Incoming,
  type IncomingHandoff,
  Intake,
  keepLast,
  LEFT,
  type ReceiveOptions,
  socketKindOf,
} from "./inbox.ts";
import { Outbox, SEND_TIMEOUT_MS } from "./outbox.ts";
import { POST_RULES, type PostMessageOptions, SEND_RULES, type SendOptions } from "./outgoing.ts";
import { openTargetChannel } from "./spawn.ts";
import type { AcceptingListener } from "./shared_listener.ts";
import { decodeHello, encodeFrame, encodeReady, type Frame, FrameDecoder, FrameType, OfferedKind } from "./protocol.ts";

/** The time that stdin may stay open after the source was found to have ended, in milliseconds. */
const SOURCE_END_MS = 1_000;
/**
 * The time that a DONE waits for other answers to be sent with, in milliseconds. This saves the source a turn of its
 * event loop.
 */
const DONE_MS = 2;
/**
 * The time that the counts of shared listeners wait, in milliseconds. The source only shows them: this process itself
 * keeps to the limit. With many short connections, each message tells of many.
 */
const COUNTS_MS = 25;
/** The time that a source may take to learn that this process takes no more sockets, in milliseconds. */
const LEAVE_MS = 1_000;

const KIND_NAMES: Readonly<Record<SocketKind, string>> = {
  connection: "connections",
  listener: "listeners",
  datagram: "datagram sockets",
};

/** Reads frames, opens the sockets that are offered, and answers. */
export class Target {
  readonly #options: ReceiveOptions;
  readonly #input: FrameReader;
  /** The sockets for the program. */
  readonly #inbox: Inbox;
  /** The messages for the program. */
  readonly #messages: Inbox;
  /** The messages, as the program gets them. */
  readonly messages: AsyncIterable<unknown>;
  /** What the source offers, once the channel is open. */
  #intake: Intake | undefined;
  readonly #sendTimeout: number;
  /** What is handed back, once the program does so. */
  #outbox: Outbox | undefined;
  /** Resolves when the channel is open; rejects if it never will be. */
  readonly #opening = Promise.withResolvers<TargetChannel>();
  #takesSockets = false;
  /** The number of open sockets of this process whose end the source has not been told. */
  #held = 0;
  /** The shared listeners that this process accepts on. */
  readonly #listeners = new Map<number, AcceptingListener>();
  /** The numbers of the listeners that were stopped here last. A frame about them may cross STOPPED. */
  readonly #stopped = new Set<number>();
  /** The listeners that have new counts to send. */
  readonly #changed = new Set<AcceptingListener>();
  #answers: Uint8Array<ArrayBuffer>[] = [];
  /** The functions to be called when the system has these answers. */
  #written: (() => void)[] = [];
  /** The number of writes of answers that the system does not have yet. */
  #writing = 0;
  #scheduled = false;
  #late: { readonly timer: ReturnType<typeof setTimeout>; readonly delay: number } | undefined;
  #channel: TargetChannel | undefined;
  #source = 0;
  /** Whether no more frames will arrive. */
  #ended = false;
  #failure: unknown;
  /** Why the source takes nothing back, once that is so. */
  #overReason = "it has closed the channel, or ended";
  /** Whether waiting for frames and connections keeps the process running. */
  #referenced = true;
  readonly #abort = () => this.leave();

  /** @throws {TypeError} If an option is not valid. */
  constructor(options: ReceiveOptions) {
    checkOptions(options, {
      autoAccept: BOOLEAN,
      kinds: KINDS,
      signal: SIGNAL,
      input: STREAM,
      sendTimeout: duration(1),
    });
    this.#options = options;
    this.#sendTimeout = options.sendTimeout ?? SEND_TIMEOUT_MS;
    this.#opening.promise.catch(() => {});
    const opening = () => this.#intake?.opening === true;
    this.#inbox = new Inbox(options.autoAccept === false, opening);
    this.#messages = new Inbox(false, opening);
    this.messages = new InboxLoop(this.#messages, ({ data }) => data);
    this.#input = options.input === undefined ? stdinInput() : streamInput(options.input);
    this.#inbox.onWanted = () => this.#acceptMore();
    options.signal?.addEventListener("abort", this.#abort);
    if (options.signal?.aborted) this.leave();
    this.#start();
  }

  /** Returns the next socket; `undefined` when no more will arrive. */
  async next(): Promise<Incoming | undefined> {
    const incoming = await this.#inbox.next();
    if (incoming === undefined && this.#failure !== undefined) throw this.#failure;
    return incoming;
  }

  /** Passes sockets on while they are wanted. Resolves with whether more may arrive. */
  async passWhile(wanted: () => boolean, passed: (incoming: Incoming) => void): Promise<boolean> {
    const more = await this.#inbox.passWhile(wanted, passed);
    if (!more && this.#failure !== undefined) throw this.#failure;
    return more;
  }

  /** Sets whether waiting for sockets keeps the process running. It does at first. */
  setReferenced(referenced: boolean): void {
    this.#referenced = referenced;
    this.#reference();
  }

  #reference(): void {
    const referenced = this.#referenced && !this.#inbox.left;
    (this.#channel ?? this.#input).setReferenced(referenced);
    for (const listener of this.#listeners.values()) listener.setReferenced(referenced);
  }

  /**
   * Leaves: the program takes no more sockets or messages. Those that it has not seen are rejected, and so are those
   * that arrive until the source knows. Sockets that it has seen and not decided on can still be taken.
   */
  leave(): void {
    if (this.#inbox.left) return;
    if (!this.#ended) this.#overReason = "this process has left its loop";
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#inbox.leave();
    this.#messages.leave();
    this.#stopAccepting(LEFT);
    if (this.#channel === undefined) return this.#end();
    if (this.#ended) return this.#closeWhenDone();
    this.#send(encodeFrame(FrameType.LEAVE, 0));
    this.#reference();
    const late = setTimeout(() => this.#end(), LEAVE_MS);
    Deno.unrefTimer(late);
  }

  /** Reads HELLO, and then begins to read the channel. */
  async #start(): Promise<void> {
    try {
      const decoder = new FrameDecoder();
      while (!this.#ended && this.#channel === undefined) {
        const chunk = await this.#input.read();
        if (chunk === undefined || this.#ended) return this.#end();
        for (const frame of decoder.push(chunk)) {
          if (this.#channel === undefined) await this.#takeHello(frame);
          else this.#take(frame);
        }
      }
      const channel = this.#channel;
      if (channel === undefined || this.#ended) return this.#end();
      channel.listen(
        (bytes) => this.#takeFrames(decoder, bytes),
        (cause) => cause === undefined ? this.#end() : this.#fail(cause),
      );
      this.#reference();
    } catch (error) {
      this.#fail(error);
    }
  }

  #takeFrames(decoder: FrameDecoder, bytes: Uint8Array): void {
    if (this.#ended) return;
    try {
      for (const frame of decoder.push(bytes)) {
        this.#take(frame);
        if (this.#ended) return;
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Fails: the input is not the protocol, or cannot be used. The end of the answers tells the source. */
  #fail(error: unknown): void {
    if (this.#ended) return;
    if (!this.#inbox.left) this.#failure = error instanceof Deno.errors.NotCapable ? error : channelBroken(error);
    this.#inbox.leave();
    this.#messages.keepMessages();
    this.#intake?.abandon();
    this.#end();
    this.#closeChannel();
  }

  /** Notes that no more frames will arrive. Sockets that have arrived can still be taken. */
  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#channel === undefined) this.#input.cancel();
    else this.#channel.stopListening();
    this.#stopAccepting("its source has closed the channel");
    this.#opening.reject(this.#over());
    this.#outbox?.withdrawAll()(this.#over());
    this.#messages.keepMessages();
    this.#inbox.end();
    this.#messages.end();
    this.#closeWhenDone();
  }

  /** Closes the channel when there is nothing left to answer. */
  #closeWhenDone(): void {
    if (!this.#ended || (this.#intake?.unanswered ?? 0) > 0 || this.#held > 0 || this.#listeners.size > 0) return;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#closeChannel();
  }

  #closeChannel(): void {
    clearTimeout(this.#late?.timer);
    this.#sendAnswers(true);
    this.#outbox?.dispose();
    this.#channel?.close();
  }

  async #takeHello({ type, payload }: Frame): Promise<void> {
    if (type !== FrameType.HELLO) throw new RangeError("The first frame is not HELLO");
    const hello = decodeHello(payload);
    const { sourceProcessId, targetProcessId, secret } = hello;
    if (targetProcessId !== Deno.pid) {
      throw new RangeError(
        `HELLO is for process ${targetProcessId}, but this is ${Deno.pid}: spawn Deno.execPath() itself, not a wrapper`,
      );
    }
    this.#source = sourceProcessId;
    trace("hello-received", 0, sourceProcessId);
    let channel: TargetChannel;
    try {
      channel = await openTargetChannel(hello, this.#input);
    } catch (error) {
      if (isSourceGone(error) && await this.#inputEnds()) return this.#end();
      throw error;
    }
    this.#channel = channel;
    if (this.#ended) return channel.close();
    this.#intake = this.#openIntake(channel);
    this.#takesSockets = hello.takesSockets;
    channel.answer(encodeFrame(FrameType.READY, 0, ...encodeReady(Deno.pid, secret)));
    this.#opening.resolve(channel);
  }

  #openIntake(channel: TargetChannel): Intake {
    return new Intake({
      peerProcessId: this.#source,
      decisions: channel.decisions,
      answer: (frame, written) => {
        this.#written.push(written);
        this.#send(frame);
      },
      openDescriptor: (incoming) => this.#openDescriptor(channel, incoming),
      route: (incoming) => this.#route(incoming),
      taken: (incoming) => this.#taken(incoming),
      answered: () => {
        this.#inbox.serve();
        this.#closeWhenDone();
      },
      broken: (error) => this.#fail(error),
    });
  }

  /** Hands a socket back to the source. Resolves when it belongs to the source. */
  async send(socket: AnySocket, options: SendOptions): Promise<void> {
    checkOptions(options, SEND_RULES);
    const outbox = await this.#openOutbox(options.signal);
    await outbox.send(socket, options, () => {
      this.#checkSending();
      if (this.#takesSockets) return;
      throw new HandoffError(
        "rejected",
        `process ${this.#source} takes no sockets from a target that it does not trust`,
      );
    });
  }

  /** Sends a message to the source. Resolves when its program has got it. */
  async postMessage(message: unknown, options: PostMessageOptions): Promise<void> {
    checkOptions(options, POST_RULES);
    const outbox = await this.#openOutbox(options.signal);
    await outbox.post(message, options, () => this.#checkSending());
  }

  /** The error of sending to a source that takes nothing back any more. */
  #over(): HandoffError {
    return new HandoffError("closed", `the source takes nothing back any more: ${this.#overReason}`);
  }

  #checkSending(): void {
    if (this.#ended || this.#inbox.left) throw this.#over();
  }

  /** Waits for the channel, and opens what is needed to hand back. */
  async #openOutbox(signal: AbortSignal | undefined): Promise<Outbox> {
    const channel = await untilAborted(this.#opening.promise, signal);
    if (this.#outbox !== undefined) return this.#outbox;
    this.#checkSending();
    const sink = {
      decisions: channel.decisions.back(),
      passesDescriptors: false,
      sendDescriptors: () => false,
      write: (bytes: Uint8Array<ArrayBuffer>) => channel.answer(bytes),
      end: () => Promise.resolve(),
    };
    const settings = { timeout: this.#sendTimeout, suspect: undefined, countsHeld: false };
    this.#outbox = new Outbox(this.#source, settings, sink, {
      released: () => {},
      unproven: () => {},
      silent: () => {},
      lastHeard: () => performance.now(),
      broken: (cause) => this.#fail(cause),
      exit: () => Promise.resolve(undefined),
    });
    this.#outbox.start();
    return this.#outbox;
  }

  /**
   * Returns whether the source's end of stdin is closed, or will be in a moment. When a process ends, the system closes
   * its descriptors one by one.
   */
  async #inputEnds(): Promise<boolean> {
    let ended = false;
    const reading = this.#input.read().then((chunk) => ended = chunk === undefined, () => {});
    await settleWithin(reading, SOURCE_END_MS);
    return ended;
  }

  #take(frame: Frame): void {
    const { type, sequence } = frame;
    switch (type) {
      case FrameType.OFFER:
      case FrameType.WITHDRAW:
        return this.#intake!.take(frame);
      case FrameType.TAKEN:
      case FrameType.REJECT:
        if (this.#outbox === undefined) throw new RangeError(`No answer is due for socket ${sequence}`);
        return this.#outbox.takeAnswer(frame);
      case FrameType.ACCEPT:
      case FrameType.PAUSE:
      case FrameType.STOP:
        return this.#takeControl(frame);
      case FrameType.END:
        trace("end-received", 0, this.#source);
        return this.#end();
      case FrameType.HELLO:
        throw new RangeError("HELLO was received twice");
      default:
        throw new RangeError(`Frame type ${type} is for a source`);
    }
  }

  #openDescriptor(channel: TargetChannel, { sequence, payload, initialBytes }: IncomingHandoff): AnySocket {
    const descriptor = channel.takeDescriptor(sequence);
    if (descriptor !== undefined) return ownOffered(descriptor, socketKindOf(payload.kind), { initialBytes });
    throw new WinsockError(WSA_ERRORS.WSAEMFILE, {
      operation: "open a shared socket",
      functionName: "recvmsg",
      detail: "this process has no room for another descriptor",
    });
  }

  /** Returns the inbox for an offer. A listener to accept on is not for the program. */
  #route(incoming: IncomingHandoff): Inbox | undefined {
    if (incoming.isMessage) return this.#messages;
    const { kind } = incoming.payload;
    this.#checkKind(kind === OfferedKind.shared ? "connection" : socketKindOf(kind));
    if (kind !== OfferedKind.shared) return this.#inbox;
    this.#share(incoming).catch((error) => this.#fail(error));
    return undefined;
  }

  /** Takes a listener to accept on. The program does not see it. */
  async #share(incoming: IncomingHandoff): Promise<void> {
    if (this.#inbox.manual) return incoming.reject("it accepts sockets by hand and takes no listeners");
    const { AcceptingListener, ANSWERS } = await import("./shared_listener.ts");
    if (this.#inbox.left || this.#ended) return incoming.reject(LEFT);
    const { sequence, payload } = incoming;
    if (!incoming.take()) return;
    this.#stopped.delete(sequence);
    const listener = incoming.socket as Listener<SocketAddr>;
    this.#listeners.set(
      sequence,
      new AcceptingListener(sequence, listener, payload.data, {
        inbox: this.#inbox,
        held: () => this.#held,
        changed: (accepting, by) => this.#counted(accepting, by),
        answer: (accepting, type, ...reason) => {
          this.#send(...accepting.counts(), encodeFrame(type, sequence, ...reason));
          trace(ANSWERS[type], sequence, this.#source);
        },
        stopped: () => this.#listenerStopped(sequence),
      }),
    );
    this.#reference();
  }

  #takeControl(frame: Frame): void {
    const { sequence } = frame;
    const listener = this.#listeners.get(sequence);
    if (listener !== undefined) return listener.take(frame);
    if (!this.#stopped.has(sequence)) throw new RangeError(`Listener ${sequence} is not shared with this process`);
  }

  #counted(accepting: AcceptingListener, by: 1 | -1): void {
    this.#held += by;
    this.#changed.add(accepting);
    this.#sendLater(COUNTS_MS);
    if (by > 0) return;
    this.#acceptMore();
    this.#closeWhenDone();
  }

  #acceptMore(): void {
    for (const listener of this.#listeners.values()) listener.accept();
  }

  #stopAccepting(reason: string): void {
    for (const listener of this.#listeners.values()) listener.stop(reason);
  }

  #listenerStopped(sequence: number): void {
    this.#listeners.delete(sequence);
    keepLast(this.#stopped, sequence);
    this.#closeWhenDone();
  }

  #checkKind(kind: SocketKind): void {
    const { kinds = ["connection"] } = this.#options;
    if (!kinds.includes(kind)) throw new TypeError(`it takes no ${KIND_NAMES[kind]}`);
  }

  #taken({ sequence, socket, payload: { kind } }: IncomingHandoff): void {
    if (kind === OfferedKind.shared) return;
    // The source has a copy until it reads TAKEN. When this process closes the connection, the peer must see its end
    // all the same.
    if (kind === OfferedKind.connection) markShared(socket);
    this.#held++;
    onRelease(socket, () => {
      this.#held--;
      this.#done(sequence);
      this.#acceptMore();
    });
  }

  #done(sequence: number): void {
    this.#answers.push(encodeFrame(FrameType.DONE, sequence));
    this.#sendLater(DONE_MS);
    trace("done", sequence, this.#source);
    this.#closeWhenDone();
  }

  #send(...frames: Uint8Array<ArrayBuffer>[]): void {
    this.#answers.push(...frames);
    if (this.#scheduled) return;
    this.#scheduled = true;
    nodeBuiltin("node:process").nextTick(() => this.#sendAnswers());
  }

  #sendLater(delay: number): void {
    if (this.#scheduled || this.#late !== undefined && this.#late.delay <= delay) return;
    clearTimeout(this.#late?.timer);
    const timer = setTimeout(() => {
      this.#late = undefined;
      this.#sendAnswers();
    }, delay);
    Deno.unrefTimer(timer);
    this.#late = { timer, delay };
  }

  /**
   * Sends all answers of one turn of the event loop together. While the source does not read, new counts are added up
   * and not sent.
   *
   * @param last Whether the channel is about to be closed.
   */
  #sendAnswers(last = false): void {
    this.#scheduled = false;
    const answers = this.#answers;
    if (last || this.#writing === 0) {
      for (const listener of this.#changed) answers.push(...listener.counts());
      this.#changed.clear();
    }
    if (answers.length === 0) return;
    const written = this.#written;
    [this.#answers, this.#written] = [[], []];
    this.#writing++;
    const done = () => {
      this.#writing--;
      for (const call of written) call();
      if (this.#changed.size > 0) this.#sendLater(COUNTS_MS);
    };
    const writing = this.#channel?.answer(answers.length === 1 ? answers[0]! : concat(answers));
    if (writing === undefined) done();
    else writing.then(done);
  }
}

const KINDS: Rule = {
  what: `an array of ${Object.keys(KIND_NAMES).join(", ")}`,
  accepts: (kinds) =>
    Array.isArray(kinds) && kinds.length > 0 && kinds.every((kind) => Object.hasOwn(KIND_NAMES, kind)),
};

/**
 * Returns whether the source has ended, so that a duplicate cannot be opened: refused, reset, or ended during the
 * request.
 */
function isSourceGone(error: unknown): boolean {
  const { WSAECONNREFUSED, WSAECONNRESET, WSAESHUTDOWN, WSAEADDRNOTAVAIL } = WSA_ERRORS;
  const codes: readonly number[] = [WSAECONNREFUSED, WSAECONNRESET, WSAESHUTDOWN, WSAEADDRNOTAVAIL];
  return error instanceof WinsockError && codes.includes(error.code);
}

function channelBroken(cause: unknown): HandoffError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new HandoffError("channel-broken", reason, errorAbout("Cannot receive more sockets", { cause }));
}
