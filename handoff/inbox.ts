/**
 * The target's side of hand-offs: each one's states, and those that wait to be taken. The counterpart of `outbox.ts`.
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
   * The `data` of {@linkcode HandoffSource.send}, or of {@linkcode HandoffSource.shareListener} for a connection that was
   * accepted here; `undefined` if there was none.
   */
  readonly data: unknown;
  /** Bytes the source had read already. The socket's first read returns them too. */
  readonly initialBytes: Uint8Array;
  /**
   * Takes the socket: when this resolves, this process owns it. Unless `autoAccept` is false that has happened
   * already. It can be called after the loop has been left.
   *
   * @throws {HandoffError} If the source has withdrawn the socket. It is closed here then.
   * @throws {TypeError} If it was rejected.
   */
  accept(): Promise<void>;
  /**
   * Leaves the socket to the source; it is closed here.
   *
   * @param reason Why, for the source; at most 4096 bytes of it arrive.
   * @throws {TypeError} If it was accepted already, automatically or by hand.
   */
  reject(reason: string): void;
}

/** The sockets of each kind. */
export interface SocketsByKind {
  /** An established connection. */
  connection: Socket;
  /** A listening socket. */
  listener: Listener;
  /** A UDP socket. */
  datagram: DatagramSocket;
}

/**
 * How {@linkcode receive} takes sockets.
 *
 * @typeParam Kind The kinds that are taken.
 */
export interface ReceiveOptions<Kind extends SocketKind = SocketKind> {
  /**
   * Whether a socket is taken in the step in which the loop gets it. If not, the program takes each with
   * {@linkcode Received.accept}, or leaves it with {@linkcode Received.reject}. Defaults to `true`.
   */
  autoAccept?: boolean;
  /** The kinds of sockets to take; others are rejected. Defaults to `["connection"]`. */
  kinds?: readonly Kind[];
  /** Ends the loop. */
  signal?: AbortSignal;
  /** Where frames come from, in chunks that are not written to again. Defaults to this process's stdin. */
  input?: ReadableStream<Uint8Array>;
}

/** What waits in an {@linkcode Inbox} for the program to ask for it. */
export interface Incoming extends Received<AnySocket> {
  /** Whether there is nothing to take any more. */
  readonly closed: boolean;
  /** Takes it for the program, in the step in which the program gets it. Returns whether that was possible. */
  take(): boolean;
}

/** What an {@linkcode IncomingHandoff} asks of the channel. */
interface Answers {
  /** Decides for this side. Returns whether the source had not decided before. */
  take(): boolean;
  taken(socket: AnySocket): void;
  reject(reason: string): void;
}

/** offered → open → taken; or from the first two to closed: rejected here, or withdrawn there. */
type State = "offered" | "open" | "taken" | "closed";

/** A socket between its OFFER and the answer to it. Every OFFER is answered once: TAKEN, or REJECT. */
export class IncomingHandoff implements Incoming {
  readonly sequence: number;
  readonly payload: OfferPayload;
  readonly initialBytes: Uint8Array;
  data: unknown;
  readonly #answers: Answers;
  #state: State = "offered";
  #socket: AnySocket | undefined;
  /** Why it is closed, for a program that asks for it. */
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

  /** The duplicate is open. Returns whether it is still wanted; if not, it is closed. */
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

  /** The source has withdrawn the socket. */
  withdraw(): void {
    const reason = new HandoffError("timeout", "the source has withdrawn it", errorAbout("Cannot accept the socket"));
    this.#close(reason, "it was withdrawn");
  }

  /** The channel is broken: nobody can take the socket here. */
  abandon(): void {
    const reason = new HandoffError("channel-broken", "its channel is broken", errorAbout("Cannot accept the socket"));
    this.#close(reason, "the channel is broken");
  }

  /** A duplicate that was withdrawn or rejected is closed and nothing else: it is not this process's to shut down. */
  #close(reason: Error, words: string): void {
    if (this.#state === "taken" || this.#state === "closed") return;
    this.#state = "closed";
    this.#reason = reason;
    this.#socket?.close();
    this.#answers.reject(words);
  }
}

/** What the program gets: the documented members, and no way to the others. */
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

/** Why an offer is rejected that came when the program had left its loop. */
export const LEFT = "this process takes no more sockets";

/** Gives offers to the calls that wait for them. Nothing is taken before a call waits for it. */
export class Inbox {
  /** Whether the program decides on each offer itself. */
  readonly manual: boolean;
  /** Offered and not answered. */
  readonly #unanswered = new Map<number, IncomingHandoff>();
  /** Open, and not given to the program. */
  #untaken: Incoming[] = [];
  readonly #calls: ((incoming: Incoming | undefined) => void)[] = [];
  /** Shared listeners that may still bring a connection. */
  #acceptors = 0;
  /** Called when the program asks for a socket and none has come. */
  onWanted: () => void = () => {};
  #left = false;
  #ended = false;
  #serving = false;

  /** @param manual Whether the program decides on each offer itself. */
  constructor(manual: boolean) {
    this.manual = manual;
  }

  /** How many offers have no answer. */
  get unanswered(): number {
    return this.#unanswered.size;
  }

  /** Whether the program takes no more. */
  get left(): boolean {
    return this.#left;
  }

  /** Whether the program waits for a socket, and none has come. */
  get wanted(): boolean {
    return this.#calls.length > 0 && this.#untaken.length === 0 && !this.#left;
  }

  /** A shared listener may bring connections from now on: until it is removed no call is told that there is no more. */
  addAcceptor(): void {
    this.#acceptors++;
  }

  removeAcceptor(): void {
    this.#acceptors--;
    this.#serve();
  }

  /** A connection was accepted here: a call that waits gets it, also one of a loop that is being left. */
  accepted(incoming: Incoming): void {
    if (this.#left && this.#calls.length === 0) return incoming.reject(LEFT);
    this.#untaken.push(incoming);
    this.#serve();
  }

  /** An offer has come. Its duplicate is not open yet. */
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

  /** The duplicate of an offer is open. */
  opened(incoming: IncomingHandoff): void {
    if (this.#left) return incoming.reject(LEFT);
    this.#untaken.push(incoming);
    this.#serve();
  }

  /** The source has withdrawn an offer. */
  withdraw(incoming: IncomingHandoff): void {
    const index = this.#untaken.indexOf(incoming);
    if (index !== -1) this.#untaken.splice(index, 1);
    incoming.withdraw();
  }

  /** The next offer; `undefined` when no more will come. */
  next(): Promise<Incoming | undefined> {
    return new Promise((resolve) => {
      this.#calls.push(resolve);
      this.#serve();
      if (this.wanted) this.onWanted();
    });
  }

  /** The program takes no more: what it has not seen is rejected. What it has seen it can still decide on. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    const untaken = this.#untaken;
    this.#untaken = [];
    for (const incoming of untaken) incoming.reject(LEFT);
    this.#serve();
  }

  /** The channel is broken, and with it every decision: nothing that came can be taken any more. */
  fail(): void {
    this.leave();
    for (const incoming of [...this.#unanswered.values()]) incoming.abandon();
  }

  /** No more offers will come; those that came can still be taken. */
  end(): void {
    this.#ended = true;
    this.#serve();
  }

  /** Takes each offer in the same step in which it resolves the call that gets it: no abort comes between. */
  #serve(): void {
    if (this.#serving) return;
    this.#serving = true;
    while (this.#calls.length > 0) {
      const incoming = this.#untaken.shift();
      if (incoming === undefined) break;
      if (this.manual ? !incoming.closed : incoming.take()) this.#calls.shift()!(incoming);
    }
    this.#serving = false;
    if (this.#acceptors > 0) return;
    if (this.#left || this.#ended && !this.#opening) { for (const call of this.#calls.splice(0)) call(undefined); }
  }

  /** Whether a duplicate is being opened: its offer may still come to the program. */
  get #opening(): boolean {
    return this.#unanswered.values().some(({ opening }) => opening);
  }
}
