/**
 * The sending side of hand-offs: which sockets and messages wait, which are offered, and the decision on each. A source
 * offers to its target, and a target hands back to its source.
 *
 * @module
 */
import { DECISION_SLOTS } from "../ffi/decisions.ts";
import { INVALID_SOCKET, type OpenSockets } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { isExclusive, markDuplicated, markShared, noteOffered, type Suspect } from "../sockets/descriptor.ts";
import { type AnySocket, checkOpen, kindOfSocket, makeBlob } from "../sockets/duplicate_socket.ts";
import { FrameWriter, type OfferSink } from "./channel.ts";
import { errorAbout, HandoffError, type HandoffStep, trace } from "./errors.ts";
import {
  checkedInitialBytes,
  NO_BYTES,
  NOT_SENT,
  OutgoingHandoff,
  type PostMessageOptions,
  type SendOptions,
  takeOutOfUse,
} from "./outgoing.ts";
import type { ListenerShare } from "./shared_listener.ts";
import {
  decodeReason,
  encodeData,
  encodeFrame,
  encodeOffer,
  type Frame,
  FrameType,
  MAX_OFFERED_BYTES,
  OfferedKind,
} from "./protocol.ts";

/** The default time that the other process may take for each socket and message, in milliseconds. */
export const SEND_TIMEOUT_MS = 10_000;
/** The largest number of messages in flight, so that a program that takes none does not hold up the sockets. */
const MAX_MESSAGES_OFFERED = 16;
/** The largest number of messages that are in flight or wait, and of their bytes. */
const MAX_MESSAGES = 1024;
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/**
 * The pause after which the source looks again whether a socket is closed of which a target that is not trusted says so,
 * in milliseconds. It doubles up to the longest one.
 */
const LOOK_DELAY_MS = 2;
const MAX_LOOK_DELAY_MS = 1_000;
/**
 * The shortest pause, as a multiple of the time of the last look. It limits the part of the thread's time that looking
 * takes, because looking takes longer the more sockets the target has.
 */
const LOOK_PAUSE = 20;

/** A slot of the table of decisions, from the OFFER to its answer. */
interface Slot {
  readonly outgoing: OutgoingHandoff;
  /** Whether the OFFER has begun to be written. An answer before that is not valid. */
  offered: boolean;
  /** The owner of the socket, when it is known. */
  owner: "source" | "target" | undefined;
}

/** Settings of an {@linkcode Outbox}. */
interface OutboxSettings {
  /** The time that a target may take for each socket, in milliseconds. */
  readonly timeout: number;
  /** The target, if its program is not trusted. */
  readonly suspect: Suspect | undefined;
  /** Whether the target says when it has closed a socket that it took. */
  readonly countsHeld: boolean;
}

/** The events that the source handles. */
interface OutboxEvents {
  /** Called when the target has closed a socket that it took. */
  released(): void;
  /** Called when {@linkcode Outbox.unprovable} has changed. */
  unproven(): void;
  /** Called when the target has sent nothing for as long as a hand-off may take, and owes an answer. */
  silent(): void;
  /** The time of the last message from the target, in the time of `performance.now()`. */
  lastHeard(): number;
  /** Called when the target no longer reads. */
  broken(cause: unknown): void;
  /** Returns how the target's process ended, if it has ended or ends in a moment. */
  exit(): Promise<HandoffError | undefined>;
}

/**
 * The sockets that a target owns and has not closed.
 *
 * A target says with DONE that it has closed one. A target that is not trusted may lie, so that it would get more than
 * its share: the source then looks itself whether any process has the socket open. If the system does not tell, the
 * socket counts until the target's process has ended.
 */
class HeldSockets {
  readonly #trusted: boolean;
  readonly #events: Pick<OutboxEvents, "released" | "unproven">;
  readonly #held = new Set<number>();
  /** Those of which the target says so, and which are watched. */
  readonly #saidClosed = new Set<number>();
  /** Those that cannot be watched. */
  readonly #unwatched = new Set<number>();
  /** The number of those of which the target has said so and that cannot be watched. */
  unprovable = 0;
  #openSockets: OpenSockets | undefined;
  #look: ReturnType<typeof setTimeout> | undefined;
  #lookDelay = LOOK_DELAY_MS;
  /** The time that the last look took, in milliseconds. */
  #lookTime = 0;

  constructor(trusted: boolean, events: Pick<OutboxEvents, "released" | "unproven">) {
    this.#trusted = trusted;
    this.#events = events;
  }

  get size(): number {
    return this.#held.size;
  }

  has(sequence: number): boolean {
    return this.#held.has(sequence);
  }

  /** Adds a socket that the target has taken. This process still has its own descriptor of it. */
  add(sequence: number, socket: AnySocket): void {
    this.#held.add(sequence);
    if (this.#trusted) return;
    this.#openSockets ??= systemCalls().watchOpenSockets();
    if (this.#openSockets?.add(socket.handle, sequence) !== true) this.#unwatched.add(sequence);
  }

  /** Handles DONE. Returns `false` if it is not due. */
  done(sequence: number): boolean {
    if (!this.#held.has(sequence) || this.#saidClosed.has(sequence)) return false;
    if (this.#trusted) {
      this.#held.delete(sequence);
      this.#events.released();
      return true;
    }
    this.#saidClosed.add(sequence);
    if (this.#unwatched.has(sequence)) {
      this.unprovable++;
      this.#events.unproven();
    } else {
      this.#lookDelay = LOOK_DELAY_MS;
      this.#lookLater();
    }
    return true;
  }

  dispose(): void {
    clearTimeout(this.#look);
    this.#openSockets?.close();
    this.#openSockets = undefined;
  }

  #lookLater(): void {
    if (this.#look !== undefined) return;
    this.#look = setTimeout(() => {
      this.#look = undefined;
      this.#lookDelay = Math.min(2 * this.#lookDelay, MAX_LOOK_DELAY_MS);
      if (this.#lookForClosed()) this.#lookLater();
    }, Math.max(this.#lookDelay, LOOK_PAUSE * this.#lookTime));
    Deno.unrefTimer(this.#look);
  }

  /** Releases the sockets that no process has open. Returns whether some may be closed later. */
  #lookForClosed(): boolean {
    const begun = performance.now();
    const open = this.#openSockets?.list();
    this.#lookTime = performance.now() - begun;
    if (open === undefined) return true;
    let pending = false;
    for (const sequence of this.#saidClosed) {
      if (this.#unwatched.has(sequence)) continue;
      if (open.has(sequence)) {
        pending = true;
        continue;
      }
      this.#saidClosed.delete(sequence);
      this.#held.delete(sequence);
      this.#events.released();
    }
    return pending;
  }
}

/** Changes the states of hand-offs as frames are written and answers arrive. */
export class Outbox {
  readonly #processId: number;
  readonly #settings: OutboxSettings;
  readonly #channel: OfferSink;
  readonly #writer: FrameWriter;
  readonly #events: OutboxEvents;
  /** The hand-offs that are not settled, oldest first. */
  readonly #all = new Set<OutgoingHandoff>();
  readonly #waiting = new Set<OutgoingHandoff>();
  readonly #slots: (Slot | undefined)[] = new Array(DECISION_SLOTS);
  #busySlots = 0;
  #bytes = 0;
  /** The number of messages that are offered. */
  #messagesOffered = 0;
  /** The number of messages that are in flight or wait, and of their bytes. */
  #messages = 0;
  #messageBytes = 0;
  /** The number of the socket that was offered last. The numbers wrap around. */
  lastSequence = 0;
  readonly #held: HeldSockets;
  /** Running while the target owes an answer to a withdrawal. */
  #patience: ReturnType<typeof setTimeout> | undefined;
  /** The listeners that the target accepts on, or has open connections of. */
  readonly #shares = new Map<number, ListenerShare>();
  /** Whether the target takes sockets now. */
  #open = false;
  #sweep: ReturnType<typeof setTimeout> | undefined;

  constructor(processId: number, settings: OutboxSettings, channel: OfferSink, events: OutboxEvents) {
    this.#processId = processId;
    this.#settings = settings;
    this.#channel = channel;
    this.#events = events;
    this.#held = new HeldSockets(settings.suspect === undefined, events);
    this.#writer = new FrameWriter(channel, (cause) => events.broken(cause));
  }

  /** The number of sockets that are in flight, or wait to be sent. */
  get count(): number {
    return this.#all.size - this.#messages;
  }

  /** The number of held sockets that will count until the target has ended, though it says that it has closed them. */
  get unprovable(): number {
    return this.#held.unprovable;
  }

  /** The number of sockets that the target owns and has not closed. */
  get held(): number {
    let held = this.#held.size;
    for (const { open } of this.#shares.values()) held += open;
    return held;
  }

  /** Resolves when all hand-offs that are in flight now are settled. */
  async allSettled(): Promise<void> {
    await Promise.allSettled([...this.#all].map(({ settled }) => settled));
  }

  /** Begins to offer sockets, because the target is ready. The deadlines begin too. */
  start(): void {
    this.#open = true;
    for (const outgoing of this.#all) outgoing.deadline = performance.now() + this.#settings.timeout;
    this.#watchDeadlines();
    this.#offerWaiting();
  }

  /**
   * Hands a socket off. Resolves when it belongs to the other process.
   *
   * @param check Throws if nothing can be sent.
   */
  async send(socket: AnySocket, options: SendOptions, check: () => void): Promise<void> {
    const data = encodeData(options.data);
    const initialBytes = checkedInitialBytes(socket, options.initialBytes);
    options.signal?.throwIfAborted();
    check();
    checkOpen(socket);
    const put = takeOutOfUse(socket);
    try {
      await this.#settle(() => this.add(socket, data, initialBytes), options.signal);
    } finally {
      put();
    }
  }

  /**
   * Sends a message. Resolves when the other process's program has got it.
   *
   * @param check Throws if nothing can be sent.
   */
  async post(message: unknown, { signal }: PostMessageOptions, check: () => void): Promise<void> {
    const data = encodeData(message, "message");
    signal?.throwIfAborted();
    check();
    if (
      this.#messages >= MAX_MESSAGES || this.#messages > 0 && this.#messageBytes + data.byteLength > MAX_MESSAGE_BYTES
    ) {
      throw new HandoffError("overloaded", `${this.#messages} messages wait already`, errorAbout(NOT_SENT));
    }
    await this.#settle(() => this.add(undefined, data, NO_BYTES), signal);
  }

  async #settle(add: () => OutgoingHandoff, signal: AbortSignal | undefined): Promise<void> {
    let outgoing: OutgoingHandoff | undefined;
    const abort = () => outgoing !== undefined && this.withdraw(outgoing, signal?.reason);
    try {
      outgoing = add();
      signal?.addEventListener("abort", abort);
      await outgoing.settled;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Adds a socket to be handed off, or a message. */
  add(
    socket: AnySocket | undefined,
    data: Uint8Array,
    initialBytes: Uint8Array,
    share?: ListenerShare,
  ): OutgoingHandoff {
    const outgoing = new OutgoingHandoff(
      socket,
      data,
      initialBytes,
      this.#encodeOffer,
      share,
    );
    this.#all.add(outgoing);
    this.#waiting.add(outgoing);
    this.#count(outgoing, 1);
    if (this.#open) {
      outgoing.deadline = performance.now() + this.#settings.timeout;
      this.#watchDeadlines();
      this.#offerWaiting(true);
    }
    return outgoing;
  }

  /**
   * Withdraws a socket, unless the target has decided first. In either case the caller is told who owns it.
   *
   * @param reason The error for the caller, if the socket belongs to it.
   */
  withdraw(outgoing: OutgoingHandoff, reason: unknown): void {
    if (!this.#all.has(outgoing)) return;
    if (outgoing.state === "waiting" || this.#writer.revoke(outgoing)) return this.#takeBack(outgoing, reason);
    const { sequence } = outgoing;
    if (!this.#decide(sequence)) return this.#giveAway(outgoing);
    this.#writer.write({ sequence, encode: () => encodeFrame(FrameType.WITHDRAW, sequence) });
    this.#trace("withdrawn", outgoing);
    this.#takeBack(outgoing, reason, true);
    this.#expectAnswer();
  }

  /** Ends a target that owes an answer and sends nothing: it is stopped, and may keep what was taken back. */
  #expectAnswer(): void {
    if (this.#patience !== undefined) return;
    const since = performance.now();
    this.#patience = setTimeout(() => {
      this.#patience = undefined;
      if (!this.#slots.some((slot) => slot?.owner === "source")) return;
      if (this.#events.lastHeard() <= since) this.#events.silent();
      else this.#expectAnswer();
    }, this.#settings.timeout);
    Deno.unrefTimer(this.#patience);
  }

  /**
   * Handles an answer.
   *
   * @throws {RangeError} If no answer is due, or the decision differs. The decision determines the owner all the same.
   */
  takeAnswer({ type, sequence, payload }: Frame): void {
    if (type === FrameType.DONE) return this.#takeDone(sequence);
    const index = sequence % DECISION_SLOTS;
    const slot = this.#slots[index];
    if (slot?.outgoing.sequence !== sequence || !slot.offered) {
      throw new RangeError(`No answer is due for socket ${sequence}`);
    }
    const { outgoing } = slot;
    // A frame is only a hint: the source makes its own attempt to decide.
    const owner = this.#decide(sequence) ? "source" : "target";
    if (owner === "target") {
      this.#giveAway(outgoing);
    } else if (type === FrameType.TAKEN) {
      this.#trace("withdrawn", outgoing);
      this.#takeBack(outgoing, lied(this.#processId, "took a socket that it has not decided on"), true);
    } else {
      this.#trace("reject-received", outgoing);
      this.#takeBack(outgoing, new HandoffError("rejected", decodeReason(payload)), true);
    }
    this.#free(index);
    if ((type === FrameType.TAKEN) !== (owner === "target")) {
      throw new RangeError(`The answer to socket ${sequence} is not what was decided`);
    }
    this.#offerWaiting();
  }

  /**
   * Writes a frame about a shared listener, or an answer.
   *
   * @param written Called when the system has the frame.
   */
  control(encode: () => Uint8Array, written?: () => void): void {
    this.#writer.write(written === undefined ? { sequence: 0, encode } : { sequence: 0, encode, written });
  }

  /**
   * Handles a frame from the target about a shared listener.
   *
   * @throws {RangeError} If the target does not have this listener, or the frame is not expected now.
   */
  takeShareAnswer(frame: Frame): void {
    const share = this.#shares.get(frame.sequence);
    if (share === undefined) throw new RangeError(`Listener ${frame.sequence} is not shared`);
    share.take(frame);
  }

  /** Removes a shared listener, because no more frames about it will arrive. */
  forgetShare(sequence: number): void {
    this.#shares.delete(sequence);
  }

  /** Stops accepting on all shared listeners, if the target answers. */
  async stopShares(): Promise<void> {
    await Promise.allSettled([...this.#shares.values()].map((share) => share.stop()));
  }

  /**
   * Stops offering, because the target takes no more sockets. Sockets that wait come back; offered sockets are still
   * answered.
   */
  stop(reason: unknown): void {
    this.#open = false;
    for (const outgoing of this.#all) {
      if (outgoing.state === "waiting" || this.#writer.revoke(outgoing)) this.#takeBack(outgoing, reason);
    }
  }

  /**
   * Withdraws all sockets, because the channel is over. Sockets that the target has decided to take belong to the
   * target.
   *
   * @returns A function that tells the callers of the other sockets the reason.
   */
  withdrawAll(): (reason: unknown) => void {
    this.#open = false;
    const returned: (readonly [OutgoingHandoff, sent: boolean])[] = [];
    for (const outgoing of this.#all) {
      const unsent = outgoing.state === "waiting" || this.#writer.revoke(outgoing);
      if (unsent || this.#decide(outgoing.sequence)) returned.push([outgoing, !unsent]);
      else this.#giveAway(outgoing);
    }
    for (const [outgoing] of returned) this.#settled(outgoing);
    for (const [outgoing, sent] of returned) if (sent) this.#trace("withdrawn", outgoing);
    return (reason) => {
      for (const [outgoing, sent] of returned) this.#giveBack(outgoing, reason, sent);
    };
  }

  /** Stops the timers and writes nothing more: the channel is about to be closed. */
  dispose(): void {
    this.#writer.stop();
    clearTimeout(this.#sweep);
    clearTimeout(this.#patience);
    this.#sweep = undefined;
    this.#held.dispose();
  }

  /** Ends the frames, after END if the target is to be told. */
  async end(tell: boolean, timeout: number): Promise<void> {
    if (tell) this.#writer.write({ sequence: 0, encode: () => encodeFrame(FrameType.END, 0) });
    await this.#writer.end(timeout);
  }

  /**
   * Offers the sockets that wait. Frames are written in order. A socket's OFFER is added when there is a slot for it.
   *
   * @param atOnce Whether a single OFFER need not wait for the end of the turn. While answers are read it must wait,
   * because the next answer may break the channel.
   */
  #offerWaiting(atOnce = false): void {
    if (!this.#open) return;
    for (const outgoing of this.#waiting) {
      const isMessage = outgoing.socket === undefined;
      if (this.#busySlots === DECISION_SLOTS) return;
      if (this.#bytes + outgoing.size > MAX_OFFERED_BYTES && this.#bytes > 0) return;
      if (isMessage && this.#messagesOffered === MAX_MESSAGES_OFFERED) continue;
      if (isMessage) this.#messagesOffered++;
      this.#waiting.delete(outgoing);
      outgoing.sequence = this.#nextSequence();
      outgoing.state = "offered";
      this.#slots[outgoing.sequence % DECISION_SLOTS] = { outgoing, offered: false, owner: undefined };
      this.#busySlots++;
      this.#bytes += outgoing.size;
      this.#writer.write(outgoing, atOnce && this.#busySlots === 1 && this.#waiting.size === 0);
    }
  }

  /**
   * Returns the next number whose slot is free and that no socket of the target has. There is always a free slot here.
   */
  #nextSequence(): number {
    let next = this.lastSequence;
    do next = (next + 1 >>> 0) || 1; while (
      this.#slots[next % DECISION_SLOTS] !== undefined || this.#held.has(next) || this.#shares.has(next)
    );
    return this.lastSequence = next;
  }

  /**
   * Encodes an OFFER. The duplicate is made only now, because a duplicate without an OFFER would stay with the target.
   */
  readonly #encodeOffer = (outgoing: OutgoingHandoff): Uint8Array | undefined => {
    if (outgoing.state === "settled") return undefined;
    const { socket, sequence, data, initialBytes } = outgoing;
    try {
      if (socket !== undefined) checkOpen(socket);
      const decision = this.#openDecision(sequence % DECISION_SLOTS);
      const kind = this.#noteOffered(outgoing);
      if (socket !== undefined && !this.#channel.passesDescriptors) {
        outgoing.blob = makeBlob(socket, this.#processId);
      }
      this.#slots[sequence % DECISION_SLOTS]!.offered = true;
      this.#trace("offered", outgoing);
      const payload = encodeOffer({ kind, decision, blob: outgoing.blob, data, initialBytes });
      return encodeFrame(FrameType.OFFER, sequence, ...payload);
    } catch (error) {
      this.#cannotOffer(outgoing, error);
      return undefined;
    }
  };

  /** Opens a decision. If that fails, the channel ends, because there are no hand-offs without decisions. */
  #openDecision(slot: number): bigint {
    try {
      return this.#channel.decisions.open(slot);
    } catch (error) {
      queueMicrotask(() => this.#events.broken(error));
      throw error;
    }
  }

  /** Notes that the target may now have a descriptor. Returns the kind of the OFFER. */
  #noteOffered({ socket, share }: OutgoingHandoff): number {
    if (socket === undefined) return OfferedKind.message;
    return share === undefined ? this.#noteShared(socket) : this.#noteListener(socket);
  }

  /**
   * Notes that the target may now have a descriptor. If the socket comes back, closing it here still ends the
   * connection.
   */
  #noteShared(socket: AnySocket): number {
    const kind = kindOfSocket(socket);
    if (kind !== "connection") {
      markDuplicated(socket);
      return OfferedKind[kind];
    }
    noteOffered(socket, this.#settings.suspect);
    if (!isExclusive(socket)) return OfferedKind.copy;
    markShared(socket);
    return OfferedKind.connection;
  }

  /**
   * Notes that the target may now have the listener. On Windows, the source itself may then accept on it only by a pool
   * thread.
   */
  #noteListener(listener: AnySocket): number {
    markDuplicated(listener);
    return OfferedKind.shared;
  }

  /**
   * Handles an OFFER that could not be made. On Windows nothing can be made for a process that has just ended. The
   * error then says how it ended, because that is more useful.
   */
  async #cannotOffer(outgoing: OutgoingHandoff, error: unknown): Promise<void> {
    this.#settled(outgoing);
    this.#free(outgoing.sequence % DECISION_SLOTS);
    this.#offerWaiting();
    const told = outgoing.socket?.handle === INVALID_SOCKET || this.#channel.passesDescriptors;
    outgoing.giveBack(told ? error : await this.#events.exit() ?? error);
  }

  #takeDone(sequence: number): void {
    if (!this.#held.done(sequence)) {
      throw new RangeError(`DONE is for socket ${sequence}, which the target does not have`);
    }
    trace("done", sequence, this.#processId);
  }

  /** Publishes a step of a hand-off. A message is not a hand-off. */
  #trace(step: HandoffStep["step"], { socket, sequence }: OutgoingHandoff): void {
    if (socket !== undefined) trace(step, sequence, this.#processId);
  }

  /** Makes the decision for the source. Returns whether the target had not made it before. */
  #decide(sequence: number): boolean {
    const index = sequence % DECISION_SLOTS;
    const slot = this.#slots[index]!;
    slot.owner ??= this.#channel.decisions.decide(index) ? "source" : "target";
    return slot.owner === "source";
  }

  /** Completes a hand-off, because the target owns the socket. */
  #giveAway(outgoing: OutgoingHandoff): void {
    if (outgoing.state === "settled") return;
    const { sequence, share, socket } = outgoing;
    if (share !== undefined) this.#shares.set(sequence, share);
    else if (socket !== undefined && this.#settings.countsHeld) this.#held.add(sequence, socket);
    this.#settled(outgoing);
    this.#trace("taken-received", outgoing);
    outgoing.complete();
    share?.begin(sequence);
  }

  /**
   * Returns a socket to its caller.
   *
   * @param sent Whether the target has its OFFER, and will answer it.
   */
  #takeBack(outgoing: OutgoingHandoff, reason: unknown, sent = false): void {
    if (outgoing.state === "settled") return;
    const offered = outgoing.state === "offered";
    this.#settled(outgoing);
    this.#giveBack(outgoing, reason, sent);
    if (!offered || sent) return;
    this.#free(outgoing.sequence % DECISION_SLOTS);
    this.#offerWaiting();
  }

  /**
   * Returns a socket to its caller. If a provider cannot withdraw its duplicate, the channel ends, after the caller was
   * told who owns the socket.
   *
   * @param sent Whether the target may have received the socket.
   */
  #giveBack(outgoing: OutgoingHandoff, reason: unknown, sent: boolean): void {
    try {
      outgoing.giveBack(reason, sent ? this.#settings.suspect : undefined);
    } catch (error) {
      queueMicrotask(() => this.#events.broken(error));
    }
  }

  #count({ socket, data }: OutgoingHandoff, by: 1 | -1): void {
    if (socket !== undefined) return;
    this.#messages += by;
    this.#messageBytes += by * data.byteLength;
  }

  #settled(outgoing: OutgoingHandoff): void {
    if (this.#all.delete(outgoing)) this.#count(outgoing, -1);
    this.#waiting.delete(outgoing);
    if (this.#all.size === 0 && this.#sweep !== undefined) Deno.unrefTimer(this.#sweep);
  }

  /** Frees a slot, because the answer has arrived or will not arrive. Another hand-off can use it. */
  #free(index: number): void {
    const slot = this.#slots[index];
    if (slot === undefined) return;
    this.#slots[index] = undefined;
    this.#busySlots--;
    if (slot.outgoing.socket === undefined) this.#messagesOffered--;
    this.#bytes -= slot.outgoing.size;
  }

  /**
   * Starts one timer for all deadlines, which are in the order of the sockets. It keeps the process running for them.
   */
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
