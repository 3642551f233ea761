/**
 * The target's side of a hand-off, as the protocol sees it.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import type net from "node:net";
import { nodeBuiltin } from "../ffi/node_builtins.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { markShared, whenReleased } from "../sockets/descriptor.ts";
import { openSocket, type SharedSocket } from "../sockets/duplicate_socket.ts";
import { Listener } from "../sockets/listener.ts";
import { openStream } from "../sockets/stream.ts";
import { Socket } from "../sockets/socket.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { WSA_ERRORS } from "../structs/winsock_errors.ts";
import { atMost } from "./at_most.ts";
import { encodeFrame, type Frame, FrameDecoder, FrameType } from "./frame.ts";
import { type FrameInput, stdinInput, streamInput } from "./frame_input.ts";
import { HandoffError } from "./handoff_error.ts";
import { Offer } from "./offer.ts";
import { decodeHello, decodeOffer, encodeReady, encodeReason, type OfferPayload } from "./payload.ts";
import type { ReceiveOptions } from "./received.ts";
import { trace } from "./trace.ts";

const DEFAULT_HIGH_WATER_MARK = 16;
/** More than a source can have on their way or unanswered at a time. */
const MAX_REJECTED = 8192;
/** How long stdin may still be open when the source was found to be gone, in milliseconds. */
const SOURCE_END_MS = 1_000;
const ANSWER_STEPS = {
  [FrameType.ACCEPT]: "accepted",
  [FrameType.REJECT]: "rejected",
  [FrameType.DONE]: "done",
} as const;

/** Reads frames, claims what is offered, and queues what this process may use. */
export class Target {
  readonly #options: ReceiveOptions;
  readonly #input: FrameInput;
  readonly #offers = new Map<number, Offer>();
  /** Rejected last: the source may have taken one back before it heard. */
  readonly #rejected = new Set<number>();
  /** Claimed and waiting for room: automatic acceptance only. */
  #waiting: Offer[] = [];
  /** Ready for the loop. */
  #queue: Offer[] = [];
  /** Accepted automatically and not taken by the loop yet. */
  #ahead = 0;
  #answers: Uint8Array[] = [];
  #control: net.Socket | undefined;
  #source = 0;
  #changed = Promise.withResolvers<void>();
  #ended = false;
  #failure: unknown;
  readonly #abort = () => this.#end();

  constructor(options: ReceiveOptions) {
    this.#options = options;
    this.#input = options.input === undefined ? stdinInput() : streamInput(options.input);
    options.signal?.addEventListener("abort", this.#abort);
    if (options.signal?.aborted) this.#end();
    this.#read();
  }

  /** The next socket; `undefined` when no more will come. */
  async next(): Promise<Offer | undefined> {
    for (;;) {
      const offer = this.#queue.shift();
      if (offer !== undefined) {
        this.#makeRoom();
        return offer;
      }
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#ended) return undefined;
      await this.#changed.promise;
    }
  }

  /** Refuses what is on its way, and closes what nobody has taken. */
  close(): void {
    this.#end();
    for (const offer of this.#queue) offer.socket.close();
    this.#queue = [];
    this.#sendAnswers();
    this.#control?.destroySoon();
  }

  async #read(): Promise<void> {
    try {
      const decoder = new FrameDecoder();
      while (!this.#ended) {
        const chunk = await this.#input.read();
        if (chunk === undefined) break;
        for (const frame of decoder.push(chunk)) {
          await this.#take(frame);
          if (this.#ended) return;
        }
      }
    } catch (error) {
      this.#failure = error instanceof Deno.errors.NotCapable ? error : channelBroken(error);
    } finally {
      this.#end();
    }
  }

  /** No frame comes any more: what is not committed stays the source's. */
  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#input.cancel();
    for (const [sequence, offer] of this.#offers) {
      this.#offers.delete(sequence);
      offer.withdraw(new HandoffError("channel-broken", "the source sends no more"));
    }
    this.#waiting = [];
    this.#wake();
  }

  async #take({ type, sequence, payload }: Frame): Promise<void> {
    if (this.#control === undefined && type !== FrameType.HELLO) throw new RangeError("The first frame is not HELLO");
    switch (type) {
      case FrameType.HELLO:
        return await this.#takeHello(payload);
      case FrameType.OFFER:
        if (this.#offers.has(sequence)) throw new RangeError(`Socket ${sequence} is offered twice`);
        return this.#takeOffer(sequence, decodeOffer(payload));
      case FrameType.COMMIT:
        return this.#takeCommit(sequence);
      case FrameType.WITHDRAW:
        return this.#takeWithdraw(sequence);
      case FrameType.END:
        trace("end-received", 0, this.#source);
        return this.#end();
      default:
        throw new RangeError(`Frame type ${type} is for a source`);
    }
  }

  async #takeHello(payload: Uint8Array): Promise<void> {
    if (this.#control !== undefined) throw new RangeError("HELLO came twice");
    const { sourceProcessId, targetProcessId, control } = decodeHello(payload);
    if (targetProcessId !== Deno.pid) {
      throw new RangeError(
        `HELLO is for process ${targetProcessId}, this is ${Deno.pid}: spawn Deno.execPath() itself, not a wrapper`,
      );
    }
    this.#source = sourceProcessId;
    trace("hello-received", 0, sourceProcessId);
    try {
      this.#control = openStream(await defaultProvider().socket(control));
    } catch (error) {
      if (isSourceGone(error) && await this.#inputEnds()) return this.#end();
      throw error;
    }
    // A source that died is noticed at the end of stdin.
    this.#control.on("error", () => {});
    if (this.#ended) return void this.#control.destroy();
    this.#control.unref();
    this.#control.write(encodeFrame(FrameType.READY, 0, encodeReady(Deno.pid)));
  }

  /** Whether the source's end of stdin is closed, or is in a moment: of a process that dies the system closes one by one. */
  async #inputEnds(): Promise<boolean> {
    let ended = false;
    const reading = this.#input.read().then((chunk) => ended = chunk === undefined, () => {});
    await atMost(SOURCE_END_MS, reading);
    return ended;
  }

  #takeOffer(sequence: number, payload: OfferPayload): void {
    trace("offer-received", sequence, this.#source);
    const offer = new Offer(sequence, payload, {
      accept: () => this.#answer(FrameType.ACCEPT, sequence),
      reject: (reason) => {
        this.#offers.delete(sequence);
        this.#rememberRejected(sequence);
        this.#answer(FrameType.REJECT, sequence, encodeReason(reason));
      },
    });
    this.#offers.set(sequence, offer);
    offer.claim(async (info, options) => this.#checkKind(await openSocket(info, options))).then(
      () => this.#claimed(offer),
      () => {},
    );
  }

  #claimed(offer: Offer): void {
    // Taken back just now.
    if (this.#offers.get(offer.sequence) !== offer) return;
    trace("claimed", offer.sequence, this.#source);
    if (this.#byHand) return this.#enqueue(offer);
    this.#waiting.push(offer);
    this.#acceptWaiting();
  }

  #acceptWaiting(): void {
    const most = this.#options.highWaterMark ?? DEFAULT_HIGH_WATER_MARK;
    while (this.#ahead < most && this.#waiting.length > 0) {
      const offer = this.#waiting.shift()!;
      this.#ahead++;
      offer.accept().catch(() => {});
    }
  }

  #makeRoom(): void {
    if (this.#byHand) return;
    this.#ahead--;
    this.#acceptWaiting();
  }

  #enqueue(offer: Offer): void {
    this.#queue.push(offer);
    this.#wake();
  }

  get #byHand(): boolean {
    return this.#options.accept === "manual";
  }

  #takeCommit(sequence: number): void {
    const offer = this.#offers.get(sequence);
    if (offer === undefined) throw new RangeError(`COMMIT is for socket ${sequence}, which was not accepted`);
    offer.commit();
    this.#offers.delete(sequence);
    markShared(offer.socket);
    whenReleased(offer.socket, () => this.#answer(FrameType.DONE, sequence));
    trace("commit-received", sequence, this.#source);
    if (!this.#byHand) this.#enqueue(offer);
  }

  #takeWithdraw(sequence: number): void {
    const offer = this.#offers.get(sequence);
    if (offer === undefined) {
      if (this.#rejected.delete(sequence)) return;
      throw new RangeError(`WITHDRAW is for socket ${sequence}, which was not offered`);
    }
    this.#offers.delete(sequence);
    trace("withdrawn", sequence, this.#source);
    const { accepted } = offer;
    if (!accepted) this.#answer(FrameType.REJECT, sequence, encodeReason("it was taken back"));
    offer.withdraw(new HandoffError("expired", "the source has taken the socket back"));
    this.#waiting = this.#waiting.filter((waiting) => waiting !== offer);
    this.#queue = this.#queue.filter((queued) => queued !== offer);
    if (accepted) this.#makeRoom();
  }

  #rememberRejected(sequence: number): void {
    this.#rejected.add(sequence);
    if (this.#rejected.size <= MAX_REJECTED) return;
    const [oldest] = this.#rejected;
    this.#rejected.delete(oldest!);
  }

  #checkKind(socket: SharedSocket): SharedSocket {
    if (socket instanceof Socket) return socket;
    const { listeners = false, datagrams = false } = this.#options;
    const listens = socket instanceof Listener;
    if (listens ? listeners : datagrams) return socket;
    socket.close();
    throw new TypeError(`this process takes no ${listens ? "listeners" : "datagram sockets"}`);
  }

  #answer(type: keyof typeof ANSWER_STEPS, sequence: number, payload: Uint8Array = new Uint8Array(0)): void {
    if (this.#control === undefined || this.#control.destroyed) return;
    if (this.#answers.length === 0) nodeBuiltin("node:process").nextTick(() => this.#sendAnswers());
    this.#answers.push(encodeFrame(type, sequence, payload));
    trace(ANSWER_STEPS[type], sequence, this.#source);
  }

  /** All answers of one turn of the event loop leave together. */
  #sendAnswers(): void {
    if (this.#answers.length > 0) this.#control?.write(concat(this.#answers));
    this.#answers = [];
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** Whether nobody is there any more to claim a duplicate from: refused, reset, or ended while the claim was sent. */
function isSourceGone(error: unknown): boolean {
  const { WSAECONNREFUSED, WSAECONNRESET, WSAESHUTDOWN } = WSA_ERRORS;
  const codes: readonly number[] = [WSAECONNREFUSED, WSAECONNRESET, WSAESHUTDOWN];
  return error instanceof WinsockError && codes.includes(error.code);
}

function channelBroken(cause: unknown): HandoffError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new HandoffError("channel-broken", reason, { what: "No more sockets can be received", cause });
}
