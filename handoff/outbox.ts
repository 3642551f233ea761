/**
 * All that one source hands to one target: which sockets wait, which are offered, and who decided on each.
 *
 * @module
 */
import { DECISION_SLOTS } from "../ffi/decisions.ts";
import { INVALID_SOCKET } from "../ffi/platform.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import {
  closeCopy,
  closeCopyElsewhere,
  isExclusive,
  markDuplicated,
  markShared,
  markSuspect,
} from "../sockets/descriptor.ts";
import { type AnySocket, checkOpen, duplicateSocket, kindOfSocket } from "../sockets/duplicate_socket.ts";
import type { SourceChannel } from "./channel.ts";
import { HandoffError, trace } from "./errors.ts";
import { FrameWriter, type QueuedFrame } from "./frame_io.ts";
import type { ListenerShare } from "./shared_listener.ts";
import {
  decodeReason,
  encodeFrame,
  encodeOffer,
  type Frame,
  FrameType,
  HEADER_SIZE,
  OFFER_SIZE,
  OfferedKind,
} from "./protocol.ts";

/** Most bytes of OFFER frames on their way at a time, unless one alone has more. */
const MAX_BYTES = 4 * 1024 * 1024;
/** Bytes of a blob, whether or not this channel sends one. */
const BLOB_SIZE = 628;
const NO_BLOB = new Uint8Array(0);

/**
 * waiting → offered → settled. A hand-off is settled when its caller has been told who owns the socket; the target may
 * still owe the answer to its OFFER.
 */
type State = "waiting" | "offered" | "settled";

/** One socket on its way out of this process. */
export class OutgoingHandoff implements QueuedFrame {
  readonly socket: AnySocket;
  /** Settles with the hand-off: resolves when the target owns the socket, and it is closed here. */
  readonly settled: Promise<void>;
  /** Bytes its OFFER takes, in memory and on the wire. */
  readonly size: number;
  readonly data: Uint8Array;
  readonly initialBytes: Uint8Array;
  /** When it is withdrawn, as `performance.now()` tells time. */
  deadline = Infinity;
  state: State = "waiting";
  sequence = 0;
  /** What a provider made for the target, so that it can be withdrawn. */
  blob: Uint8Array = NO_BLOB;
  readonly #trusted: boolean;
  readonly #encode: (outgoing: OutgoingHandoff) => Uint8Array | undefined;
  readonly #done = Promise.withResolvers<void>();
  /** The listener's share, if the source goes on having it. */
  readonly share: ListenerShare | undefined;

  constructor(
    socket: AnySocket,
    data: Uint8Array,
    initialBytes: Uint8Array,
    trusted: boolean,
    encode: (outgoing: OutgoingHandoff) => Uint8Array | undefined,
    share?: ListenerShare,
  ) {
    this.socket = socket;
    this.settled = this.#done.promise;
    this.size = HEADER_SIZE + OFFER_SIZE + BLOB_SIZE + data.byteLength + initialBytes.byteLength;
    this.data = data;
    this.initialBytes = initialBytes;
    this.#trusted = trusted;
    this.#encode = encode;
    this.share = share;
  }

  /** What goes ahead of the frame, where descriptors do: without a blob. */
  get descriptor(): bigint | undefined {
    return this.blob.byteLength === 0 ? this.socket.handle : undefined;
  }

  encode(): Uint8Array | undefined {
    return this.#encode(this);
  }

  /**
   * The target owns the socket: this process closes its copy, and does nothing else to it. A listener that is shared stays
   * open here.
   */
  complete(): void {
    if (this.state === "settled") return;
    this.state = "settled";
    if (this.share !== undefined) return this.#done.resolve();
    try {
      if (kindOfSocket(this.socket) !== "connection") this.socket.close();
      else if (this.#trusted) closeCopy(this.socket);
      else closeCopyElsewhere(this.socket);
      this.#done.resolve();
    } catch (error) {
      this.#done.reject(error);
    }
  }

  /** The socket stays its caller's. */
  giveBack(reason: unknown): void {
    if (this.state === "settled") return;
    this.state = "settled";
    this.#done.reject(reason);
    if (this.blob.byteLength > 0) defaultProvider().withdraw(this.blob);
  }
}

/** A slot of the table of decisions, from the OFFER to its answer. */
interface Slot {
  readonly outgoing: OutgoingHandoff;
  /** Whether the OFFER has begun to leave; an answer before that is not one. */
  offered: boolean;
  /** Who owns the socket, once that was found out. */
  owner: "source" | "target" | undefined;
}

/** How an {@linkcode Outbox} works. */
interface OutboxSettings {
  /** How long a target may take for each socket, in milliseconds. */
  readonly timeout: number;
  /** Whether the target's program is trusted. */
  readonly trusted: boolean;
}

/** What a source is told. */
interface OutboxEvents {
  /** The target has closed a socket it was given. */
  released(): void;
  /** The target reads no more. */
  broken(cause: unknown): void;
  /** How the target's process ended, if it has or does so in a moment. */
  exit(): Promise<HandoffError | undefined>;
}

/** Takes hand-offs through their states, as frames go out and answers come in. */
export class Outbox {
  readonly #processId: number;
  readonly #settings: OutboxSettings;
  readonly #channel: SourceChannel;
  readonly #writer: FrameWriter;
  readonly #events: OutboxEvents;
  /** Not settled, oldest first. */
  readonly #all = new Set<OutgoingHandoff>();
  readonly #waiting = new Set<OutgoingHandoff>();
  readonly #slots: (Slot | undefined)[] = new Array(DECISION_SLOTS);
  #busySlots = 0;
  #bytes = 0;
  /** The number of the socket that was offered last. It comes round again. */
  lastSequence = 0;
  /** Sockets that the target owns and has not closed. */
  readonly #held = new Set<number>();
  /** Listeners that the target accepts on, or has open connections of. */
  readonly #shares = new Map<number, ListenerShare>();
  /** Whether the target takes sockets at present. */
  #open = false;
  #sweep: ReturnType<typeof setTimeout> | undefined;

  constructor(processId: number, settings: OutboxSettings, channel: SourceChannel, events: OutboxEvents) {
    this.#processId = processId;
    this.#settings = settings;
    this.#channel = channel;
    this.#events = events;
    this.#writer = new FrameWriter(channel, (cause) => events.broken(cause));
  }

  /** How many sockets are on their way, or wait to be. */
  get count(): number {
    return this.#all.size;
  }

  /** How many sockets the target owns and has not closed. */
  get held(): number {
    let held = this.#held.size;
    for (const { open } of this.#shares.values()) held += open;
    return held;
  }

  /** Resolves when all that is on its way now is settled. */
  async allSettled(): Promise<void> {
    await Promise.allSettled([...this.#all].map(({ settled }) => settled));
  }

  /** The target is ready: what waits is offered, and deadlines begin. */
  start(): void {
    this.#open = true;
    for (const outgoing of this.#all) outgoing.deadline = performance.now() + this.#settings.timeout;
    this.#watchDeadlines();
    this.#offerWaiting();
  }

  /** Puts a socket on its way. */
  add(socket: AnySocket, data: Uint8Array, initialBytes: Uint8Array, share?: ListenerShare): OutgoingHandoff {
    const outgoing = new OutgoingHandoff(socket, data, initialBytes, this.#settings.trusted, this.#encodeOffer, share);
    this.#all.add(outgoing);
    this.#waiting.add(outgoing);
    if (this.#open) {
      outgoing.deadline = performance.now() + this.#settings.timeout;
      this.#watchDeadlines();
      this.#offerWaiting(true);
    }
    return outgoing;
  }

  /**
   * Withdraws a socket, unless the target was first. Either way its caller is told who owns it.
   *
   * @param reason What the caller is told, if the socket is its own.
   */
  withdraw(outgoing: OutgoingHandoff, reason: unknown): void {
    if (!this.#all.has(outgoing)) return;
    if (outgoing.state === "waiting" || this.#writer.revoke(outgoing)) return this.#takeBack(outgoing, reason);
    const { sequence } = outgoing;
    if (!this.#decide(sequence)) return this.#giveAway(outgoing);
    this.#writer.write({ sequence, encode: () => encodeFrame(FrameType.WITHDRAW, sequence) });
    trace("withdrawn", sequence, this.#processId);
    this.#takeBack(outgoing, reason, true);
  }

  /**
   * Takes an answer.
   *
   * @throws {RangeError} If none is due, or the decision says otherwise. The decision names the owner all the same.
   */
  takeAnswer({ type, sequence, payload }: Frame): void {
    if (type === FrameType.DONE) return this.#takeDone(sequence);
    const index = sequence % DECISION_SLOTS;
    const slot = this.#slots[index];
    if (slot?.outgoing.sequence !== sequence || !slot.offered) {
      throw new RangeError(`No answer is due for socket ${sequence}`);
    }
    const { outgoing } = slot;
    // A frame is a hint: this side makes its own attempt.
    const owner = this.#decide(sequence) ? "source" : "target";
    if (type === FrameType.TAKEN) {
      trace("taken-received", sequence, this.#processId);
      if (owner === "target") this.#giveAway(outgoing);
      else this.#takeBack(outgoing, lied(this.#processId, "took a socket that it has not decided on"), true);
    } else {
      trace("reject-received", sequence, this.#processId);
      const reason = decodeReason(payload);
      if (owner === "source") this.#takeBack(outgoing, new HandoffError("rejected", reason), true);
      else this.#giveAway(outgoing);
    }
    this.#free(index);
    if ((type === FrameType.TAKEN) !== (owner === "target")) {
      throw new RangeError(`The answer to socket ${sequence} is not what was decided`);
    }
    this.#offerWaiting();
  }

  /** Writes a frame about a shared listener. */
  control(encode: () => Uint8Array): void {
    this.#writer.write({ sequence: 0, encode });
  }

  /**
   * Takes what the target says of a shared listener.
   *
   * @throws {RangeError} If the target has no such listener, or it is not due.
   */
  takeShareAnswer(frame: Frame): void {
    const share = this.#shares.get(frame.sequence);
    if (share === undefined) throw new RangeError(`Listener ${frame.sequence} is not shared`);
    share.take(frame);
  }

  /** There is nothing more to hear of a shared listener. */
  forgetShare(sequence: number): void {
    this.#shares.delete(sequence);
  }

  /** Has the target accept on no listener any more, as far as it answers. */
  async stopShares(): Promise<void> {
    await Promise.allSettled([...this.#shares.values()].map((share) => share.stop()));
  }

  /** The target takes no more: what waits comes back; what is offered is still answered. */
  stop(reason: unknown): void {
    this.#open = false;
    for (const outgoing of this.#all) {
      if (outgoing.state === "waiting" || this.#writer.revoke(outgoing)) this.#takeBack(outgoing, reason);
    }
  }

  /**
   * The channel is over: withdraws all there is. Sockets that the target has decided on are its own.
   *
   * @returns Tells the callers of the others why.
   */
  withdrawAll(): (reason: unknown) => void {
    this.#open = false;
    const returned: OutgoingHandoff[] = [];
    for (const outgoing of this.#all) {
      const unsent = outgoing.state === "waiting" || this.#writer.revoke(outgoing);
      if (unsent || this.#decide(outgoing.sequence)) returned.push(outgoing);
      else this.#giveAway(outgoing);
    }
    for (const outgoing of returned) this.#settled(outgoing);
    return (reason) => {
      for (const outgoing of returned) this.#giveBack(outgoing, reason);
    };
  }

  /** Gives up the timer, which is not needed any more. */
  dispose(): void {
    clearTimeout(this.#sweep);
    this.#sweep = undefined;
  }

  /** Ends the frames: behind END if the target is to be told. */
  async end(tell: boolean, timeout: number): Promise<void> {
    if (tell) this.#writer.write({ sequence: 0, encode: () => encodeFrame(FrameType.END, 0) });
    await this.#writer.end(timeout);
  }

  /**
   * Frames leave in order, the OFFER of a socket when there is a slot for it.
   *
   * @param atOnce Whether one alone need not wait for the end of the turn. While answers are read it does: the next one may
   * break the channel.
   */
  #offerWaiting(atOnce = false): void {
    if (!this.#open) return;
    for (const outgoing of this.#waiting) {
      if (this.#busySlots === DECISION_SLOTS) return;
      if (this.#bytes + outgoing.size > MAX_BYTES && this.#bytes > 0) return;
      this.#waiting.delete(outgoing);
      outgoing.sequence = this.#nextSequence();
      outgoing.state = "offered";
      this.#slots[outgoing.sequence % DECISION_SLOTS] = { outgoing, offered: false, owner: undefined };
      this.#busySlots++;
      this.#bytes += outgoing.size;
      this.#writer.write(outgoing, atOnce && this.#busySlots === 1 && this.#waiting.size === 0);
    }
  }

  /** The next number whose slot is free, of which there is one, and which no socket of the target has. */
  #nextSequence(): number {
    let next = this.lastSequence;
    do next = (next + 1 >>> 0) || 1; while (
      this.#slots[next % DECISION_SLOTS] !== undefined || this.#held.has(next) || this.#shares.has(next)
    );
    return this.lastSequence = next;
  }

  /** A duplicate without an OFFER would stay with the target, so it is made when the OFFER leaves. */
  readonly #encodeOffer = (outgoing: OutgoingHandoff): Uint8Array | undefined => {
    if (outgoing.state === "settled") return undefined;
    const { socket, sequence, data, initialBytes } = outgoing;
    try {
      checkOpen(socket);
      const decision = this.#openDecision(sequence % DECISION_SLOTS);
      const kind = outgoing.share === undefined ? this.#noteShared(socket) : this.#noteListener(socket);
      if (!this.#channel.passesDescriptors) outgoing.blob = duplicateSocket(socket, this.#processId);
      this.#slots[sequence % DECISION_SLOTS]!.offered = true;
      trace("offered", sequence, this.#processId);
      const payload = encodeOffer({ kind, decision, blob: outgoing.blob, data, initialBytes });
      return encodeFrame(FrameType.OFFER, sequence, ...payload);
    } catch (error) {
      this.#cannotOffer(outgoing, error);
      return undefined;
    }
  };

  /** Without decisions there are no hand-offs: the channel ends. */
  #openDecision(slot: number): bigint {
    try {
      return this.#channel.decisions.open(slot);
    } catch (error) {
      queueMicrotask(() => this.#events.broken(error));
      throw error;
    }
  }

  /** From now on the target may have a descriptor. If the socket comes back, closing it here still ends the connection. */
  #noteShared(socket: AnySocket): number {
    const kind = kindOfSocket(socket);
    if (kind !== "connection") {
      markDuplicated(socket);
      return OfferedKind[kind];
    }
    if (!this.#settings.trusted) markSuspect(socket);
    if (!isExclusive(socket)) return OfferedKind.copy;
    markShared(socket);
    return OfferedKind.connection;
  }

  /** On Windows the source itself may only accept on it by a pool thread from now on. */
  #noteListener(listener: AnySocket): number {
    markDuplicated(listener);
    return OfferedKind.shared;
  }

  /** On Windows nothing can be made for a process that has just ended: how it ended says more than that. */
  async #cannotOffer(outgoing: OutgoingHandoff, error: unknown): Promise<void> {
    this.#settled(outgoing);
    this.#free(outgoing.sequence % DECISION_SLOTS);
    this.#offerWaiting();
    const told = outgoing.socket.handle === INVALID_SOCKET || this.#channel.passesDescriptors;
    outgoing.giveBack(told ? error : await this.#events.exit() ?? error);
  }

  #takeDone(sequence: number): void {
    if (!this.#held.delete(sequence)) throw new RangeError(`DONE is for socket ${sequence}, which the target has not`);
    trace("done", sequence, this.#processId);
    this.#events.released();
  }

  /** Decides for this side. Returns whether the target had not. */
  #decide(sequence: number): boolean {
    const index = sequence % DECISION_SLOTS;
    const slot = this.#slots[index]!;
    slot.owner ??= this.#channel.decisions.decide(index) ? "source" : "target";
    return slot.owner === "source";
  }

  /** The target owns the socket. */
  #giveAway(outgoing: OutgoingHandoff): void {
    if (outgoing.state === "settled") return;
    const { sequence, share } = outgoing;
    if (share === undefined) this.#held.add(sequence);
    else this.#shares.set(sequence, share);
    this.#settled(outgoing);
    outgoing.complete();
    share?.begin(sequence);
  }

  /** @param sent Whether the target has its OFFER, and will answer it. */
  #takeBack(outgoing: OutgoingHandoff, reason: unknown, sent = false): void {
    if (outgoing.state === "settled") return;
    const offered = outgoing.state === "offered";
    this.#settled(outgoing);
    this.#giveBack(outgoing, reason);
    if (!offered || sent) return;
    this.#free(outgoing.sequence % DECISION_SLOTS);
    this.#offerWaiting();
  }

  /** A provider that cannot withdraw its duplicate ends the channel; whoever has the socket has been told by then. */
  #giveBack(outgoing: OutgoingHandoff, reason: unknown): void {
    try {
      outgoing.giveBack(reason);
    } catch (error) {
      queueMicrotask(() => this.#events.broken(error));
    }
  }

  #settled(outgoing: OutgoingHandoff): void {
    this.#all.delete(outgoing);
    this.#waiting.delete(outgoing);
    if (this.#all.size === 0 && this.#sweep !== undefined) Deno.unrefTimer(this.#sweep);
  }

  /** The answer has come, or none will: the slot can have another. */
  #free(index: number): void {
    const slot = this.#slots[index];
    if (slot === undefined) return;
    this.#slots[index] = undefined;
    this.#busySlots--;
    this.#bytes -= slot.outgoing.size;
  }

  /** One timer for all: deadlines come in the order in which the sockets did. It keeps the process running for them. */
  #watchDeadlines(): void {
    if (this.#sweep !== undefined) return void Deno.refTimer(this.#sweep);
    const [oldest] = this.#all;
    if (oldest === undefined) return;
    this.#sweep = setTimeout(() => {
      this.#sweep = undefined;
      const now = performance.now();
      for (const outgoing of this.#all) {
        if (outgoing.deadline > now) break;
        const reason = `process ${this.#processId} did not take it in ${this.#settings.timeout} ms`;
        this.withdraw(outgoing, new HandoffError("timeout", reason));
      }
      this.#watchDeadlines();
    }, Math.max(0, oldest.deadline - performance.now()));
  }
}

function lied(processId: number, what: string): HandoffError {
  return new HandoffError("channel-broken", `process ${processId} ${what}`);
}
