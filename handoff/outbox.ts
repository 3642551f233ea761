/**
 * All that is on its way to one target.
 *
 * @module
 */
import { encodeFrame, type Frame, FrameType } from "./frame.ts";
import type { FrameWriter } from "./frame_writer.ts";
import { HandoffError } from "./handoff_error.ts";
import type { OutgoingHandoff } from "./outgoing_handoff.ts";
import { decodeReady, decodeReason } from "./payload.ts";
import { trace } from "./trace.ts";

/** Most sockets on their way at a time. */
const MAX_IN_FLIGHT = 256;
/** Most bytes of OFFER frames on their way at a time, unless one alone has more. */
const MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024;
/** Sockets taken back that the target has still to answer for; more, and it is not answering at all. */
const MAX_UNANSWERED = 4096;

/** What a channel is told. */
export interface ChannelEvents {
  /** The target can take sockets. */
  ready(): void;
  /** The target has closed a socket it was given. */
  released(): void;
  /** The target reads no more. */
  broken(failure: HandoffError): void;
}

/** Takes hand-offs through their states, as frames go out and answers come in. */
export class Outbox {
  readonly #processId: number;
  readonly #writer: FrameWriter;
  readonly #events: ChannelEvents;
  readonly #all = new Set<OutgoingHandoff>();
  /** Not offered yet: there is no room for them, or the target is not ready. */
  readonly #waiting = new Set<OutgoingHandoff>();
  /** Offered and not answered, or not committed. */
  readonly #offered = new Map<number, OutgoingHandoff>();
  /** Taken back before they were answered. */
  readonly #unanswered = new Set<number>();
  /** The target's own. */
  readonly #held = new Set<number>();
  #bytes = 0;
  #lastSequence = 0;
  #ready = false;

  constructor(processId: number, writer: FrameWriter, events: ChannelEvents) {
    this.#processId = processId;
    this.#writer = writer;
    this.#events = events;
  }

  get count(): number {
    return this.#all.size;
  }

  get held(): number {
    return this.#held.size;
  }

  /** Resolves when nothing is on its way any more. */
  async allSettled(): Promise<void> {
    await Promise.allSettled([...this.#all].map(({ settled }) => settled));
  }

  add(outgoing: OutgoingHandoff): void {
    this.#all.add(outgoing);
    this.#waiting.add(outgoing);
  }

  /** Offers what waits, as far as there is room. */
  offerWaiting(): void {
    if (!this.#ready) return;
    for (const outgoing of this.#waiting) {
      const full = this.#offered.size >= MAX_IN_FLIGHT || this.#bytes + outgoing.size > MAX_IN_FLIGHT_BYTES;
      if (full && this.#offered.size > 0) return;
      this.#waiting.delete(outgoing);
      this.#offer(outgoing);
    }
  }

  takeAnswer({ type, sequence, payload }: Frame): void {
    if (type === FrameType.READY) return this.#takeReady(payload);
    if (type === FrameType.DONE) return this.#takeDone(sequence);
    if (type !== FrameType.ACCEPT && type !== FrameType.REJECT) throw new RangeError(`Frame type ${type} is no answer`);
    const outgoing = this.#offered.get(sequence);
    if (outgoing?.state === "offered") {
      if (type === FrameType.ACCEPT) this.#commit(outgoing);
      else this.#rejected(outgoing, payload);
    } else if (!this.#unanswered.delete(sequence)) {
      throw new RangeError(`No answer is due for socket ${sequence}`);
    }
  }

  /** Takes a socket back, unless the target may own it already. */
  withdraw(outgoing: OutgoingHandoff, reason: unknown): void {
    const { frame, sequence, state } = outgoing;
    if (state === "settled") return;
    const unsent = frame !== undefined && this.#writer.revoke(frame);
    if (state === "committing" && !unsent) return;
    if (state === "offered" && !unsent) this.#expectAnswer(sequence);
    if (state === "committing" || state === "offered" && !unsent) {
      this.#writer.write(() => encodeFrame(FrameType.WITHDRAW, sequence)).catch(() => {});
      trace("withdrawn", sequence, this.#processId);
    }
    this.#end(outgoing, reason);
  }

  /** The channel is over: gives back all that the target cannot own. */
  giveBackAll(failure: HandoffError): void {
    this.#ready = false;
    for (const outgoing of this.#all) {
      const unsent = outgoing.frame !== undefined && this.#writer.revoke(outgoing.frame);
      if (outgoing.state !== "committing" || unsent) this.#end(outgoing, failure);
    }
  }

  #offer(outgoing: OutgoingHandoff): void {
    outgoing.sequence = this.#lastSequence = (this.#lastSequence + 1 >>> 0) || 1;
    outgoing.state = "offered";
    outgoing.frame = () => this.#encodeOffer(outgoing);
    this.#offered.set(outgoing.sequence, outgoing);
    this.#bytes += outgoing.size;
    this.#writer.write(outgoing.frame).catch((error) => this.#events.broken(this.#died(error)));
  }

  #encodeOffer(outgoing: OutgoingHandoff): Uint8Array {
    try {
      const frame = outgoing.encodeOffer(this.#processId);
      trace("duplicated", outgoing.sequence, this.#processId);
      trace("offered", outgoing.sequence, this.#processId);
      return frame;
    } catch (error) {
      this.#end(outgoing, error);
      return new Uint8Array(0);
    }
  }

  async #commit(outgoing: OutgoingHandoff): Promise<void> {
    const { sequence } = outgoing;
    trace("accept-received", sequence, this.#processId);
    this.#held.add(sequence);
    outgoing.state = "committing";
    outgoing.frame = () => outgoing.encodeCommit();
    try {
      await this.#writer.write(outgoing.frame, true);
    } catch (error) {
      this.#held.delete(sequence);
      return this.#end(outgoing, this.#died(error));
    }
    // Taken back while it waited to leave, where this has no more to do.
    if (!this.#offered.has(sequence)) return void this.#held.delete(sequence);
    trace("committed", sequence, this.#processId);
    this.#forget(outgoing);
    outgoing.complete();
  }

  #rejected(outgoing: OutgoingHandoff, payload: Uint8Array): void {
    const reason = decodeReason(payload);
    trace("reject-received", outgoing.sequence, this.#processId);
    this.#end(outgoing, new HandoffError("rejected", reason));
  }

  #takeReady(payload: Uint8Array): void {
    const claimant = decodeReady(payload);
    if (claimant !== this.#processId) {
      throw new RangeError(`READY comes from process ${claimant}, not ${this.#processId}`);
    }
    if (this.#ready) throw new RangeError("READY came twice");
    trace("ready-received", 0, this.#processId);
    this.#ready = true;
    this.#events.ready();
  }

  #takeDone(sequence: number): void {
    if (!this.#held.delete(sequence)) throw new RangeError(`DONE is for socket ${sequence}, which the target has not`);
    trace("done", sequence, this.#processId);
    this.#events.released();
  }

  #expectAnswer(sequence: number): void {
    this.#unanswered.add(sequence);
    if (this.#unanswered.size <= MAX_UNANSWERED) return;
    this.#events.broken(new HandoffError("channel-broken", `process ${this.#processId} answers nothing`));
  }

  #end(outgoing: OutgoingHandoff, reason: unknown): void {
    this.#forget(outgoing);
    outgoing.giveBack(reason);
  }

  /** Whatever becomes of it, it is not on its way any more; another may be. */
  #forget(outgoing: OutgoingHandoff): void {
    this.#all.delete(outgoing);
    this.#waiting.delete(outgoing);
    if (this.#offered.delete(outgoing.sequence)) this.#bytes -= outgoing.size;
    if (this.#waiting.size > 0) queueMicrotask(() => this.offerWaiting());
  }

  #died(cause: unknown): HandoffError {
    return new HandoffError("target-died", `process ${this.#processId} no longer reads its stdin`, { cause });
  }
}
