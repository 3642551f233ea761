/**
 * The target's side of a hand-off, as the protocol defines it.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { DECISION_SLOTS } from "../ffi/decisions.ts";
import { nodeBuiltin, settleWithin } from "../internal/runtime.ts";
import type { SocketKind } from "../ffi/platform.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { markShared, onRelease } from "../sockets/descriptor.ts";
import type { Listener } from "../sockets/listener.ts";
import { type AnySocket, openOffered, ownOffered } from "../sockets/duplicate_socket.ts";
import { WSA_ERRORS } from "../structs/constants.ts";
import type { TargetChannel } from "./channel.ts";
import { errorAbout, HandoffError, trace } from "./errors.ts";
import { type FrameReader, stdinInput, streamInput } from "./frame_io.ts";
import { Inbox, type Incoming, IncomingHandoff, LEFT, type ReceiveOptions } from "./inbox.ts";
import { openTargetChannel } from "./spawn.ts";
import type { AcceptingListener } from "./shared_listener.ts";
import {
  decodeData,
  decodeHello,
  decodeOffer,
  encodeFrame,
  encodeReady,
  encodeReason,
  type Frame,
  FrameDecoder,
  FrameType,
  OfferedKind,
  type OfferPayload,
} from "./protocol.ts";

/**
 * The number of answers to remember: more than the hand-offs that a source can have withdrawn before it reads the
 * answer.
 */
const MAX_ANSWERED = 1024;
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
const ANSWER_STEPS = {
  [FrameType.TAKEN]: "taken",
  [FrameType.REJECT]: "rejected",
  [FrameType.DONE]: "done",
} as const;

const KIND_NAMES: Readonly<Record<SocketKind, string>> = {
  connection: "connections",
  listener: "listeners",
  datagram: "datagram sockets",
};

/** Reads frames, opens the sockets that are offered, and answers. */
export class Target {
  readonly #options: ReceiveOptions;
  readonly #input: FrameReader;
  readonly #inbox: Inbox;
  /** The latest numbers that were answered. A WITHDRAW of the source may cross the answer. */
  readonly #answered = new Set<number>();
  /** The number of open sockets of this process whose end the source has not been told. */
  #held = 0;
  /** The shared listeners that this process accepts on. */
  readonly #listeners = new Map<number, AcceptingListener>();
  /** The numbers of the listeners that were stopped here last. A frame about them may cross STOPPED. */
  readonly #stopped = new Set<number>();
  /** The listeners that have new counts to send. */
  readonly #changed = new Set<AcceptingListener>();
  #answers: Uint8Array<ArrayBuffer>[] = [];
  #scheduled = false;
  #late: { readonly timer: ReturnType<typeof setTimeout>; readonly delay: number } | undefined;
  #channel: TargetChannel | undefined;
  #source = 0;
  /** Whether no more frames will arrive. */
  #ended = false;
  #failure: unknown;
  /** Whether waiting for frames and connections keeps the process running. */
  #referenced = true;
  readonly #abort = () => this.leave();

  /** @throws {TypeError} If an option is not valid. */
  constructor(options: ReceiveOptions) {
    checkOptions(options);
    this.#options = options;
    this.#inbox = new Inbox(options.autoAccept === false);
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
   * Leaves: the program takes no more sockets. Sockets that it has not seen are rejected, and so are those that arrive
   * until the source knows. Sockets that it has seen and not decided on can still be taken.
   */
  leave(): void {
    if (this.#inbox.left) return;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#inbox.leave();
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
      channel.listen((bytes) => this.#takeFrames(decoder, bytes), () => this.#end());
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
    this.#inbox.fail();
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
    this.#inbox.end();
    this.#closeWhenDone();
  }

  /** Closes the channel when there is nothing left to answer. */
  #closeWhenDone(): void {
    if (!this.#ended || this.#inbox.unanswered > 0 || this.#held > 0 || this.#listeners.size > 0) return;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#closeChannel();
  }

  #closeChannel(): void {
    clearTimeout(this.#late?.timer);
    this.#sendAnswers();
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
    channel.answer(encodeFrame(FrameType.READY, 0, ...encodeReady(Deno.pid, secret)));
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
    const { type, sequence, payload } = frame;
    switch (type) {
      case FrameType.OFFER:
        return this.#takeOffer(sequence, decodeOffer(payload));
      case FrameType.WITHDRAW:
        return this.#takeWithdraw(sequence);
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

  #takeOffer(sequence: number, payload: OfferPayload): void {
    if (this.#inbox.find(sequence) !== undefined) throw new RangeError(`Socket ${sequence} is offered twice`);
    trace("offer-received", sequence, this.#source);
    this.#channel!.decisions.remember(sequence % DECISION_SLOTS, payload.decision);
    const incoming = new IncomingHandoff(sequence, payload, {
      take: () => this.#decide(sequence, payload.decision),
      taken: (socket) => this.#taken(sequence, socket, payload.kind),
      reject: (reason) => this.#answer(FrameType.REJECT, sequence, encodeReason(reason)),
    });
    this.#inbox.add(incoming);
    try {
      if (payload.blob.byteLength > 0) this.#openBlob(incoming);
      else this.#opened(incoming, this.#openDescriptor(incoming));
    } catch (error) {
      if (!(error instanceof WinsockError)) throw error;
      this.#cannotOpen(incoming, error);
    }
  }

  #openDescriptor({ sequence, payload, initialBytes }: IncomingHandoff): AnySocket {
    const descriptor = this.#channel!.takeDescriptor(sequence);
    if (descriptor !== undefined) return ownOffered(descriptor, kindOf(payload.kind), { initialBytes });
    throw new WinsockError(WSA_ERRORS.WSAEMFILE, {
      operation: "open a shared socket",
      functionName: "recvmsg",
      detail: "this process has no room for another descriptor",
    });
  }

  #openBlob(incoming: IncomingHandoff): void {
    const { payload, initialBytes } = incoming;
    openOffered(payload.blob, kindOf(payload.kind), { initialBytes }).then(
      (socket) => this.#opened(incoming, socket),
      (error) => this.#cannotOpen(incoming, error),
    );
  }

  #opened(incoming: IncomingHandoff, socket: AnySocket): void {
    if (!incoming.opened(socket)) return;
    trace("opened", incoming.sequence, this.#source);
    const { kind } = incoming.payload;
    try {
      this.#checkKind(kind === OfferedKind.shared ? "connection" : kindOf(kind));
      incoming.data = decodeData(incoming.payload.data);
    } catch (error) {
      return this.#cannotOpen(incoming, error);
    }
    if (kind !== OfferedKind.shared) return this.#inbox.opened(incoming);
    this.#share(incoming).catch((error) => this.#fail(error));
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

  #cannotOpen(incoming: IncomingHandoff, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    incoming.reject(`process ${Deno.pid} cannot take it: ${reason}`);
  }

  #checkKind(kind: SocketKind): void {
    const { kinds = ["connection"] } = this.#options;
    if (!kinds.includes(kind)) throw new TypeError(`it takes no ${KIND_NAMES[kind]}`);
  }

  /** Makes the decision for the target. If it is not a decision of this channel, the channel breaks. */
  #decide(sequence: number, decision: bigint): boolean {
    try {
      return this.#channel!.decisions.decide(sequence % DECISION_SLOTS, decision);
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  #taken(sequence: number, socket: AnySocket, kind: number): void {
    this.#answer(FrameType.TAKEN, sequence);
    if (kind === OfferedKind.shared) return;
    // The source has a copy until it reads TAKEN. When this process closes the connection, the peer must see its end
    // all the same.
    if (kind === OfferedKind.connection) markShared(socket);
    this.#held++;
    onRelease(socket, () => {
      this.#held--;
      this.#answer(FrameType.DONE, sequence);
      this.#acceptMore();
    });
  }

  #takeWithdraw(sequence: number): void {
    const incoming = this.#inbox.find(sequence);
    if (incoming === undefined) {
      if (this.#answered.delete(sequence)) return;
      throw new RangeError(`WITHDRAW is for socket ${sequence}, which was not offered`);
    }
    trace("withdrawn", sequence, this.#source);
    this.#inbox.withdraw(incoming);
  }

  #answer(type: keyof typeof ANSWER_STEPS, sequence: number, payload: Uint8Array = new Uint8Array(0)): void {
    if (type !== FrameType.DONE) {
      this.#inbox.answered(sequence);
      keepLast(this.#answered, sequence);
    }
    const frame = encodeFrame(type, sequence, payload);
    if (type !== FrameType.DONE) this.#send(frame);
    else {
      this.#answers.push(frame);
      this.#sendLater(DONE_MS);
    }
    trace(ANSWER_STEPS[type], sequence, this.#source);
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

  /** Sends all answers of one turn of the event loop together. */
  #sendAnswers(): void {
    this.#scheduled = false;
    const answers = this.#answers;
    for (const listener of this.#changed) answers.push(...listener.counts());
    this.#changed.clear();
    if (answers.length === 0) return;
    this.#answers = [];
    this.#channel?.answer(answers.length === 1 ? answers[0]! : concat(answers));
  }
}

function checkOptions({ autoAccept, kinds }: ReceiveOptions): void {
  if (autoAccept !== undefined && typeof autoAccept !== "boolean") {
    throw new TypeError(`Invalid \`autoAccept\`: must be true or false, got ${autoAccept}`);
  }
  if (kinds === undefined || Array.isArray(kinds) && kinds.length > 0 && kinds.every((kind) => kind in KIND_NAMES)) {
    return;
  }
  throw new TypeError(`Invalid \`kinds\`: must be some of ${Object.keys(KIND_NAMES).join(", ")}, got ${String(kinds)}`);
}

/** Remembers a number, and forgets the oldest one if there are too many. */
function keepLast(numbers: Set<number>, number: number): void {
  numbers.add(number);
  if (numbers.size <= MAX_ANSWERED) return;
  const [oldest] = numbers;
  numbers.delete(oldest!);
}

function kindOf(kind: number): SocketKind {
  if (kind === OfferedKind.listener || kind === OfferedKind.shared) return "listener";
  return kind === OfferedKind.datagram ? "datagram" : "connection";
}

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
