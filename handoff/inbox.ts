/**
 * The target's side of hand-offs: the state of each hand-off, and the sockets that wait to be taken. The counterpart of
 * `outbox.ts`.
 *
 * @module
 */
import type { SocketKind } from "../ffi/platform.ts";
import type { DatagramSocket } from "../sockets/datagram_socket.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import type { Listener } from "../sockets/listener.ts";
import type { Socket } from "../sockets/socket.ts";
import { errorAbout, HandoffError } from "./errors.ts";
import type { OfferPayload } from "./protocol.ts";

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
  /** The stream of frames. Its chunks must not be changed later. Defaults to this process's stdin. */
  input?: ReadableStream<Uint8Array>;
}

/** A socket that waits in an {@linkcode Inbox} until the program asks for it. */
export interface Incoming extends Received<AnySocket> {
  /** Whether the socket can no longer be taken. */
  readonly closed: boolean;
  /** Takes the socket for the program, in the step in which the program gets it. Returns whether that was possible. */
  take(): boolean;
}

/** The operations of the channel that an {@linkcode IncomingHandoff} uses. */
interface Answers {
  /** Makes the decision for the target. Returns whether the source had not made it before. */
  take(): boolean;
  taken(socket: AnySocket): void;
  reject(reason: string): void;
}

/**
 * The states: offered → open → taken. From the first two also to closed: rejected by the target, or withdrawn by the
 * source.
 */
type State = "offered" | "open" | "taken" | "closed";

/** A socket between its OFFER and the answer to it. Every OFFER is answered once, with TAKEN or REJECT. */
export class IncomingHandoff implements Incoming {
  readonly sequence: number;
  readonly payload: OfferPayload;
  readonly initialBytes: Uint8Array;
  data: unknown;
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

  get socket(): AnySocket {
    return this.#socket!;
  }

  /** Whether its duplicate is not open yet. */
  get opening(): boolean {
    return this.#state === "offered";
  }

  get closed(): boolean {
    return this.#state === "closed";
  }

  /** Sets the open duplicate. Returns whether it is still needed; otherwise it is closed. */
  opened(socket: AnySocket): boolean {
    this.#socket = socket;
    if (this.#state === "offered") this.#state = "open";
    else socket.close();
    return this.#state === "open";
  }

  /** Takes the socket for this process. Returns whether the source had not withdrawn it before. */
  take(): boolean {
    if (this.#state === "taken") return true;
    if (this.#state === "closed") return false;
    if (this.#answers.take()) {
      this.#state = "taken";
      this.#answers.taken(this.socket);
      return true;
    }
    this.withdraw();
    return false;
  }

  accept(): Promise<void> {
    return this.take() ? Promise.resolve() : Promise.reject(this.#reason);
  }

  reject(reason: string): void {
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

/** Gives offers to the calls that wait for them. No offer is taken before a call waits for it. */
export class Inbox {
  /** Whether the program decides on each offer itself. */
  readonly manual: boolean;
  /** The offers that have not been answered, by sequence. */
  readonly #unanswered = new Map<number, IncomingHandoff>();
  /** The open sockets that the program has not got yet. */
  #untaken: Incoming[] = [];
  readonly #calls: ((incoming: Incoming | undefined) => void)[] = [];
  /** The call that gets all sockets while it wants them. */
  #passing: Passing | undefined;
  /** The number of shared listeners that may still bring a connection. */
  #acceptors = 0;
  /** Called when the program asks for a socket and none has arrived. */
  onWanted: () => void = () => {};
  #left = false;
  #ended = false;
  #serving = false;

  /** @param manual Whether the program decides on each offer itself. */
  constructor(manual: boolean) {
    this.manual = manual;
  }

  /** The number of offers that have not been answered. */
  get unanswered(): number {
    return this.#unanswered.size;
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
    this.#serve();
  }

  /** Adds a connection that this process accepted. A waiting call gets it, even if the loop is being left. */
  accepted(incoming: Incoming): void {
    if (this.#left && !this.#awaited) return incoming.reject(LEFT);
    this.#untaken.push(incoming);
    this.#serve();
  }

  /** Adds an offer. Its duplicate is not open yet. */
  add(incoming: IncomingHandoff): void {
    this.#unanswered.set(incoming.sequence, incoming);
  }

  find(sequence: number): IncomingHandoff | undefined {
    return this.#unanswered.get(sequence);
  }

  answered(sequence: number): void {
    this.#unanswered.delete(sequence);
    if (this.#ended) this.#serve();
  }

  /** Handles an offer whose duplicate is open now. */
  opened(incoming: IncomingHandoff): void {
    if (this.#left) return incoming.reject(LEFT);
    this.#untaken.push(incoming);
    this.#serve();
  }

  /** Handles an offer that the source has withdrawn. */
  withdraw(incoming: IncomingHandoff): void {
    const index = this.#untaken.indexOf(incoming);
    if (index !== -1) this.#untaken.splice(index, 1);
    incoming.withdraw();
  }

  /** Returns the next offer; `undefined` when no more will arrive. */
  next(): Promise<Incoming | undefined> {
    return new Promise((resolve) => {
      this.#calls.push(resolve);
      this.#serve();
      if (this.wanted) this.onWanted();
    });
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
      this.#serve();
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
    this.#serve();
  }

  /** Drops all offers: the channel is broken, so that none of them can be decided or taken any more. */
  fail(): void {
    this.leave();
    for (const incoming of [...this.#unanswered.values()]) incoming.abandon();
  }

  /** Notes that no more offers will arrive. Those that have arrived can still be taken. */
  end(): void {
    this.#ended = true;
    this.#serve();
  }

  /** Takes each offer in the same step in which it resolves the call that gets it, so that no abort comes between. */
  #serve(): void {
    if (this.#serving) return;
    this.#serving = true;
    while (this.#untaken.length > 0 && this.#awaited) {
      const incoming = this.#untaken.shift()!;
      if (this.manual ? !incoming.closed : incoming.take()) this.#give(incoming);
    }
    if (this.#passing?.wanted() === false) this.#endPassing(true);
    this.#serving = false;
    if (this.#acceptors > 0) return;
    if (this.#left || this.#ended && !this.#opening) {
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

  /** Whether a duplicate is being opened, so that its offer may still reach the program. */
  get #opening(): boolean {
    return this.#unanswered.values().some(({ opening }) => opening);
  }
}
