/**
 * The receiving side of hand-offs: the state of each hand-off, and the sockets and messages that wait to be taken. The
 * counterpart of `outbox.ts`. A target takes what its source offers, and a source takes what its target hands back.
 *
 * @module
 */
import { DECISION_SLOTS, type TakeDecisions } from "../ffi/decisions.ts";
import { check, STRING } from "../internal/options.ts";
import type { SocketKind } from "../ffi/platform.ts";
import type { DatagramSocket } from "../sockets/datagram_socket.ts";
import { type AnySocket, openOffered } from "../sockets/duplicate_socket.ts";
import type { Listener } from "../sockets/listener.ts";
import type { Socket } from "../sockets/socket.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { errorAbout, errorMessage, HandoffError, type HandoffStep, trace } from "./errors.ts";
import {
  decodeData,
  decodeOffer,
  encodeFrame,
  encodeReason,
  type Frame,
  FrameType,
  MAX_OFFERED_BYTES,
  OfferedKind,
  type OfferPayload,
} from "./protocol.ts";

/** A socket that arrived. */
export interface Received<S extends AnySocket = Socket> {
  /** The socket. With `autoAccept: false` it must not be used before {@linkcode Received.accept} has resolved. */
  readonly socket: S;
  /**
   * The `data` of {@linkcode HandoffSource.send}. For a connection that was accepted in this process, the `data` of
   * {@linkcode HandoffSource.shareListener}. `undefined` if no data was sent.
   */
  readonly data: unknown;
  /** The bytes that the source had already read. The socket's first read also returns them. */
  readonly initialBytes: Uint8Array;
  /**
   * Takes the socket. When the promise resolves, this process owns the socket. Unless `autoAccept` is `false`, the
   * socket has been taken already. This can be called after the loop has been left.
   *
   * @throws {HandoffError} If the source has withdrawn the socket. The socket is then closed in this process.
   * @throws {TypeError} If the socket was rejected.
   */
  accept(): Promise<void>;
  /**
   * Rejects the socket: it stays with the source and is closed in this process.
   *
   * @param reason The reason, for the source. At most 4096 bytes of it are sent.
   * @throws {TypeError} If the socket was accepted already, automatically or by the program.
   */
  reject(reason: string): void;
}

/** The class of the sockets of each kind. */
export interface SocketsByKind {
  /** A connection. */
  connection: Socket;
  /** A listener. */
  listener: Listener;
  /** A datagram socket (UDP). */
  datagram: DatagramSocket;
}

/**
 * Options of {@linkcode receive}.
 *
 * @typeParam Kind The kinds of sockets that are taken.
 */
export interface ReceiveOptions<Kind extends SocketKind = SocketKind> {
  /**
   * Whether a socket is taken in the step in which the loop gets it. If `false`, the program takes each socket with
   * {@linkcode Received.accept}, or rejects it with {@linkcode Received.reject}. Defaults to `true`.
   */
  autoAccept?: boolean;
  /** The kinds of sockets to take. Other sockets are rejected. Defaults to `["connection"]`. */
  kinds?: readonly Kind[];
  /** The signal that ends the loop. */
  signal?: AbortSignal;
  /**
   * The time that the source may take for each socket of {@linkcode HandoffTarget.send} and each message of {@linkcode
   * HandoffTarget.postMessage}, in milliseconds, from 1 to 2 147 483 647. Defaults to `10_000`.
   */
  sendTimeout?: number;
  /** The stream of frames. Its chunks must not be changed later. Defaults to this process's stdin. */
  input?: ReadableStream<Uint8Array>;
}

/** A socket that waits in an {@linkcode Inbox} until the program asks for it. */
export interface Incoming extends Received<AnySocket> {
  /** Whether it is a message, without a socket. */
  readonly isMessage: boolean;
  /** Whether the socket can no longer be taken. */
  readonly closed: boolean;
  /** Takes the socket for the program, in the step in which the program gets it. Returns whether that was possible. */
  take(): boolean;
}

/** The operations of the channel that an {@linkcode IncomingHandoff} uses. */
interface Answers {
  /** Makes the decision for the target. Returns whether the source had not made it before. */
  take(): boolean;
  taken(): void;
  reject(reason: string): void;
}

/**
 * The states: offered → open → taken. From the first two also to closed: rejected by the target, or withdrawn by the
 * source.
 */
type State = "offered" | "open" | "taken" | "closed";

/** A socket or message between its OFFER and the answer to it. Every OFFER is answered once, with TAKEN or REJECT. */
export class IncomingHandoff implements Incoming {
  readonly sequence: number;
  readonly payload: OfferPayload;
  readonly initialBytes: Uint8Array;
  data: unknown;
  /** The inbox that it is in, once its duplicate is open. */
  inbox: Inbox | undefined;
  readonly #answers: Answers;
  #state: State = "offered";
  #socket: AnySocket | undefined;
  /** The reason why it is closed, for a program that calls `accept`. */
  #reason: Error | undefined;

  constructor(sequence: number, payload: OfferPayload, answers: Answers) {
    this.sequence = sequence;
    this.payload = payload;
    this.initialBytes = payload.initialBytes.slice();
    this.#answers = answers;
  }

  /** The socket. Only called for what is not a message. */
  get socket(): AnySocket {
    return this.#socket!;
  }

  /** Whether it is a message, without a socket. */
  get isMessage(): boolean {
    return this.payload.kind === OfferedKind.message;
  }

  /** Whether its duplicate is not open yet. */
  get opening(): boolean {
    return this.#state === "offered";
  }

  get closed(): boolean {
    return this.#state === "closed";
  }

  /** Sets the open duplicate, if it is not a message. Returns whether it is still needed; otherwise it is closed. */
  opened(socket: AnySocket | undefined): boolean {
    this.#socket = socket;
    if (this.#state === "offered") this.#state = "open";
    else socket?.close();
    return this.#state === "open";
  }

  /** Takes the socket for this process. Returns whether the source had not withdrawn it before. */
  take(): boolean {
    if (this.#state === "taken") return true;
    if (this.#state === "closed") return false;
    if (this.#answers.take()) {
      this.#state = "taken";
      this.#answers.taken();
      return true;
    }
    this.withdraw();
    return false;
  }

  accept(): Promise<void> {
    return this.take() ? Promise.resolve() : Promise.reject(this.#reason);
  }

  reject(reason: string): void {
    check("reason", reason, STRING);
    if (this.#state === "taken") {
      throw new TypeError(`Cannot reject socket ${this.socket.handle}: it was accepted`);
    }
    this.#close(new TypeError("Cannot accept the socket: it was rejected"), reason);
  }

  /** Closes the socket because the source has withdrawn it. */
  withdraw(): void {
    const reason = new HandoffError("timeout", "the source has withdrawn it", errorAbout("Cannot accept the socket"));
    this.#close(reason, "it was withdrawn");
  }

  /** Closes the socket because the channel is broken: the target cannot take it any more. */
  abandon(): void {
    const reason = new HandoffError("channel-broken", "its channel is broken", errorAbout("Cannot accept the socket"));
    this.#close(reason, "the channel is broken");
  }

  /**
   * Closes a duplicate that was withdrawn or rejected. It is not shut down, because it does not belong to this process.
   */
  #close(reason: Error, words: string): void {
    if (this.#state === "taken" || this.#state === "closed") return;
    this.#state = "closed";
    this.#reason = reason;
    this.#socket?.close();
    this.#answers.reject(words);
  }
}

/** The object that the program gets. It has the documented members only, and no access to the others. */
export class ReceivedSocket implements Received<AnySocket> {
  readonly #incoming: Incoming;

  constructor(incoming: Incoming) {
    this.#incoming = incoming;
  }

  get socket(): AnySocket {
    return this.#incoming.socket;
  }

  get data(): unknown {
    return this.#incoming.data;
  }

  get initialBytes(): Uint8Array {
    return this.#incoming.initialBytes;
  }

  accept(): Promise<void> {
    return this.#incoming.accept();
  }

  reject(reason: string): void {
    this.#incoming.reject(reason);
  }
}

/** The reason for rejecting an offer that arrived after the program had left its loop. */
export const LEFT = "this process takes no more sockets";

/** A pending call of {@linkcode Inbox.passWhile}. */
interface Passing {
  wanted(): boolean;
  passed(incoming: Incoming): void;
  resolve(more: boolean): void;
}

/** A call that waits for an offer. */
export type InboxCall = (incoming: Incoming | undefined) => void;

/** Gives offers to the calls that wait for them. No offer is taken before a call waits for it. */
export class Inbox {
  /** Whether the program decides on each offer itself. */
  readonly manual: boolean;
  /** Returns whether a duplicate is being opened, so that its offer may still reach the program. */
  readonly #opening: () => boolean;
  /** The open sockets that the program has not got yet. */
  #untaken: Incoming[] = [];
  readonly #calls: InboxCall[] = [];
  /** The call that gets all sockets while it wants them. */
  #passing: Passing | undefined;
  /** The number of shared listeners that may still bring a connection. */
  #acceptors = 0;
  /** Called when the program asks for a socket and none has arrived. */
  onWanted: () => void = () => {};
  #left = false;
  #ended = false;
  #serving = false;

  /**
   * @param manual Whether the program decides on each offer itself.
   * @param opening Returns whether a duplicate is being opened, so that its offer may still arrive here.
   */
  constructor(manual: boolean, opening: () => boolean) {
    this.manual = manual;
    this.#opening = opening;
  }

  /** Whether the program takes no more sockets. */
  get left(): boolean {
    return this.#left;
  }

  /** Whether the program waits for a socket, and none has arrived. */
  get wanted(): boolean {
    return this.#awaited && this.#untaken.length === 0 && !this.#left;
  }

  /** Whether the program waits for a socket. */
  get #awaited(): boolean {
    return this.#calls.length > 0 || this.#passing?.wanted() === true;
  }

  /** Adds a shared listener that may bring connections. Until it is removed, the loop does not end. */
  addAcceptor(): void {
    this.#acceptors++;
  }

  removeAcceptor(): void {
    this.#acceptors--;
    this.serve();
  }

  /** Adds a connection that this process accepted. A waiting call gets it, even if the loop is being left. */
  accepted(incoming: Incoming): void {
    if (this.#left && !this.#awaited) return incoming.reject(LEFT);
    this.#untaken.push(incoming);
    this.serve();
  }

  /** Handles an offer whose duplicate is open now. */
  opened(incoming: IncomingHandoff): void {
    if (this.#left) return incoming.reject(LEFT);
    this.#untaken.push(incoming);
    this.serve();
  }

  /** Handles an offer that was withdrawn. */
  withdraw(incoming: IncomingHandoff): void {
    const index = this.#untaken.indexOf(incoming);
    if (index !== -1) this.#untaken.splice(index, 1);
    incoming.withdraw();
  }

  /** Returns the next offer; `undefined` when no more will arrive. */
  next(): Promise<Incoming | undefined> {
    return new Promise((resolve) => this.call(resolve));
  }

  /** Calls a function with the next offer, or with `undefined` when no more will arrive. */
  call(call: InboxCall): void {
    this.#calls.push(call);
    this.serve();
    if (this.wanted) this.onWanted();
  }

  /** Ends a call that still waits, which gets `undefined`. */
  cancel(call: InboxCall): void {
    const index = this.#calls.indexOf(call);
    if (index === -1) return;
    this.#calls.splice(index, 1);
    call(undefined);
  }

  /**
   * Passes offers on, each in the step in which it can be taken, while they are wanted.
   *
   * @param wanted Returns whether another one is wanted.
   * @param passed Gets each one. It must not throw.
   * @returns Resolves with whether more may arrive.
   */
  passWhile(wanted: () => boolean, passed: (incoming: Incoming) => void): Promise<boolean> {
    return new Promise((resolve) => {
      this.#passing = { wanted, passed, resolve };
      this.serve();
      if (this.wanted) this.onWanted();
    });
  }

  /**
   * Rejects all offers that the program has not seen, because it takes no more. It can still decide on those it has
   * seen.
   */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    const untaken = this.#untaken;
    this.#untaken = [];
    for (const incoming of untaken) incoming.reject(LEFT);
    this.serve();
  }

  /** Takes the messages that have arrived, because they can no longer be taken later. Calls still get them. */
  keepMessages(): void {
    for (const incoming of [...this.#untaken]) if (incoming.isMessage) incoming.take();
  }

  /** Notes that no more offers will arrive. Those that have arrived can still be taken. */
  end(): void {
    this.#ended = true;
    this.serve();
  }

  /** Takes each offer in the same step in which it resolves the call that gets it, so that no abort comes between. */
  serve(): void {
    if (this.#serving) return;
    this.#serving = true;
    while (this.#untaken.length > 0 && this.#awaited) {
      const incoming = this.#untaken.shift()!;
      if (this.manual ? !incoming.closed : incoming.take()) this.#give(incoming);
    }
    if (this.#passing?.wanted() === false) this.#endPassing(true);
    this.#serving = false;
    if (this.#acceptors > 0) return;
    if (this.#left || this.#ended && !this.#opening()) {
      for (const call of this.#calls.splice(0)) call(undefined);
      this.#endPassing(false);
    }
  }

  #give(incoming: Incoming): void {
    const call = this.#calls.shift();
    if (call !== undefined) call(incoming);
    else this.#passing!.passed(incoming);
  }

  #endPassing(more: boolean): void {
    this.#passing?.resolve(more);
    this.#passing = undefined;
  }
}

/**
 * The number of answers to remember: more than the hand-offs that the other process can have withdrawn before it reads
 * the answer.
 */
const MAX_ANSWERED = 1024;

const ANSWER_STEPS: Readonly<Record<number, HandoffStep["step"]>> = {
  [FrameType.TAKEN]: "taken",
  [FrameType.REJECT]: "rejected",
};

/**
 * The largest number of offers that have not been answered, and of answers that are not known to have left. The other
 * process frees a slot when it reads the answer, so that it has at most {@linkcode DECISION_SLOTS} offers of which it has
 * not. It may have read all answers of one write before this process knows that they have left.
 */
const MAX_UNSENT = 2 * DECISION_SLOTS;

/** The operations of the channel that an {@linkcode Intake} uses. */
export interface IntakePort {
  /** The process at the other end. */
  readonly peerProcessId: number;
  /** The decisions on what the other process offers. */
  readonly decisions: TakeDecisions;
  /**
   * Sends TAKEN or REJECT.
   *
   * @param written To be called when the system has the frame.
   */
  answer(frame: Uint8Array<ArrayBuffer>, written: () => void): void;
  /**
   * Throws a `RangeError` if the other process must not make such an offer. Nothing is opened before this. Not set if
   * it may make any.
   */
  check?(payload: OfferPayload): void;
  /** Returns the descriptor that was sent with an OFFER that has no blob, as a socket. Not set if none is sent. */
  openDescriptor?(incoming: IncomingHandoff): AnySocket;
  /**
   * Returns the inbox that an open offer is for. `undefined` if this function has handled the offer itself.
   *
   * @throws {TypeError} If this process takes no such socket. The offer is rejected, with the message as the reason.
   */
  route(incoming: IncomingHandoff): Inbox | undefined;
  /** Called when a socket was taken, after the answer. */
  taken(incoming: IncomingHandoff): void;
  /** Called when an offer was answered. */
  answered(): void;
  /** Called when a decision cannot be made, which breaks the channel. */
  broken(error: unknown): void;
}

/** Handles the offers of one process: opens them, puts them in an inbox, decides and answers. */
export class Intake {
  readonly #port: IntakePort;
  /** The offers that have not been answered, by sequence. */
  readonly #unanswered = new Map<number, IncomingHandoff>();
  /** The latest numbers that were answered. A WITHDRAW may cross the answer. */
  readonly #answered = new Set<number>();
  /** The number of answers that are not known to have left. */
  #unsent = 0;
  #bytes = 0;

  constructor(port: IntakePort) {
    this.#port = port;
  }

  /** The number of offers that have not been answered. */
  get unanswered(): number {
    return this.#unanswered.size;
  }

  /** Whether a duplicate is being opened. */
  get opening(): boolean {
    return this.#unanswered.values().some(({ opening }) => opening);
  }

  /**
   * Handles OFFER or WITHDRAW.
   *
   * @throws {RangeError} If it is not expected now.
   * @throws {FrameError} If it is not valid.
   */
  take({ type, sequence, payload }: Frame): void {
    if (type === FrameType.WITHDRAW) this.#takeWithdraw(sequence);
    else this.#takeOffer(sequence, payload);
  }

  #takeOffer(sequence: number, bytes: Uint8Array): void {
    if (this.#unanswered.has(sequence)) throw new RangeError(`Socket ${sequence} is offered twice`);
    const payload = decodeOffer(bytes);
    this.#port.check?.(payload);
    if (this.#unanswered.size >= DECISION_SLOTS) throw new RangeError("More sockets are offered than there are slots");
    if (this.#unanswered.size + this.#unsent >= MAX_UNSENT) {
      throw new RangeError(`Socket ${sequence} is offered, but ${this.#unsent} answers have not been read`);
    }
    if (this.#unanswered.size > 0 && this.#bytes + bytes.byteLength > MAX_OFFERED_BYTES) {
      throw new RangeError(`More than ${MAX_OFFERED_BYTES} bytes are offered and not answered`);
    }
    this.#port.decisions.remember(sequence % DECISION_SLOTS, payload.decision);
    const incoming: IncomingHandoff = new IncomingHandoff(sequence, payload, {
      take: () => this.#decide(sequence, payload.decision),
      taken: () => {
        this.#answer(FrameType.TAKEN, incoming, bytes.byteLength);
        if (!incoming.isMessage) this.#port.taken(incoming);
      },
      reject: (reason) => this.#answer(FrameType.REJECT, incoming, bytes.byteLength, encodeReason(reason)),
    });
    this.#trace("offer-received", incoming);
    this.#unanswered.set(sequence, incoming);
    this.#bytes += bytes.byteLength;
    try {
      if (incoming.isMessage) this.#opened(incoming, undefined);
      else if (payload.blob.byteLength > 0) this.#openBlob(incoming);
      else if (this.#port.openDescriptor === undefined) throw new RangeError(`OFFER ${sequence} has no blob`);
      else this.#opened(incoming, this.#port.openDescriptor(incoming));
    } catch (error) {
      if (!(error instanceof WinsockError)) throw error;
      cannotTake(incoming, error);
    }
  }

  #openBlob(incoming: IncomingHandoff): void {
    const { payload, initialBytes } = incoming;
    openOffered(payload.blob, socketKindOf(payload.kind), { initialBytes }).then(
      (socket) => this.#opened(incoming, socket),
      (error) => cannotTake(incoming, error),
    );
  }

  #opened(incoming: IncomingHandoff, socket: AnySocket | undefined): void {
    if (!incoming.opened(socket)) return;
    this.#trace("opened", incoming);
    try {
      incoming.data = decodeData(incoming.payload.data);
      incoming.inbox = this.#port.route(incoming);
    } catch (error) {
      return cannotTake(incoming, error);
    }
    incoming.inbox?.opened(incoming);
  }

  #takeWithdraw(sequence: number): void {
    const incoming = this.#unanswered.get(sequence);
    if (incoming === undefined) {
      if (this.#answered.delete(sequence)) return;
      throw new RangeError(`WITHDRAW is for socket ${sequence}, which was not offered`);
    }
    this.#trace("withdrawn", incoming);
    if (incoming.inbox === undefined) incoming.withdraw();
    else incoming.inbox.withdraw(incoming);
  }

  /** Publishes a step of a hand-off. A message is not a hand-off. */
  #trace(step: HandoffStep["step"], { isMessage, sequence }: IncomingHandoff): void {
    if (!isMessage) trace(step, sequence, this.#port.peerProcessId);
  }

  /** Makes the decision for this process. If it is not a decision of this channel, the channel breaks. */
  #decide(sequence: number, decision: bigint): boolean {
    try {
      return this.#port.decisions.decide(sequence % DECISION_SLOTS, decision);
    } catch (error) {
      this.#port.broken(error);
      return false;
    }
  }

  #answer(type: FrameType, incoming: IncomingHandoff, size: number, payload: Uint8Array = new Uint8Array(0)): void {
    const { sequence } = incoming;
    if (this.#unanswered.delete(sequence)) this.#bytes -= size;
    keepLast(this.#answered, sequence);
    this.#unsent++;
    this.#port.answer(encodeFrame(type, sequence, payload), () => this.#unsent--);
    this.#trace(ANSWER_STEPS[type]!, incoming);
    this.#port.answered();
  }

  /** Drops all offers: the channel is broken, so that none of them can be decided or taken any more. */
  abandon(): void {
    for (const incoming of [...this.#unanswered.values()]) incoming.abandon();
  }
}

function cannotTake(incoming: IncomingHandoff, error: unknown): void {
  const reason = errorMessage(error);
  incoming.reject(`process ${Deno.pid} cannot take it: ${reason}`);
}

/** Remembers a number, and forgets the oldest one if there are too many. */
export function keepLast(numbers: Set<number>, number: number): void {
  numbers.add(number);
  if (numbers.size <= MAX_ANSWERED) return;
  const [oldest] = numbers;
  numbers.delete(oldest!);
}

/** Returns the kind of socket of an OFFER that is not a message. */
export function socketKindOf(kind: number): SocketKind {
  if (kind === OfferedKind.listener || kind === OfferedKind.shared) return "listener";
  return kind === OfferedKind.datagram ? "datagram" : "connection";
}

/** A program's view of an {@linkcode Inbox}: each loop over it gets what no other loop has got. */
export class InboxLoop<Item> implements AsyncIterable<Item> {
  readonly #inbox: Inbox;
  readonly #item: (incoming: Incoming) => Item;

  /** @param item Returns what the program gets. */
  constructor(inbox: Inbox, item: (incoming: Incoming) => Item) {
    this.#inbox = inbox;
    this.#item = item;
  }

  /** Leaving a loop takes nothing more. Another loop can continue. */
  [Symbol.asyncIterator](): AsyncIterator<Item, void, void> {
    const calls = new Set<InboxCall>();
    let over = false;
    return {
      next: () => {
        const { promise, resolve } = Promise.withResolvers<IteratorResult<Item, void>>();
        const call: InboxCall = (incoming) => {
          calls.delete(call);
          over ||= incoming === undefined;
          resolve(
            incoming === undefined ? { done: true, value: undefined } : { done: false, value: this.#item(incoming) },
          );
        };
        calls.add(call);
        if (over) call(undefined);
        else this.#inbox.call(call);
        return promise;
      },
      return: () => {
        over = true;
        for (const call of calls) this.#inbox.cancel(call);
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }
}
