/** A source's channel with somebody in the middle, through whom every frame and every answer goes. */
import type { SourceDecisions } from "../../../ffi/decisions.ts";
import type { ChannelHello, SourceChannel } from "../../../handoff/channel.ts";
import { attachChannel, openSourceChannel } from "../../../handoff/spawn.ts";
import { encodeFrame, type Frame, FrameDecoder } from "./protocol.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** What is done with a frame, whole as it came; nothing passes but what is written or delivered. */
export interface ChannelHooks {
  /** One on its way to the target. HELLO goes another way than the rest. */
  frame(frame: Frame, bytes: Bytes): Promise<void>;
  /** One on its way to the source. */
  answer(frame: Frame, bytes: Bytes): void;
}

export class TappedChannel implements SourceChannel {
  readonly hello: ChannelHello;
  readonly decisions: SourceDecisions;
  readonly passesDescriptors: boolean;
  /** What a source takes for its child: its stdin and its channel have somebody in the middle. */
  readonly child: Deno.ChildProcess;
  readonly #real: SourceChannel;
  readonly #stdin: WritableStreamDefaultWriter<Bytes>;
  readonly #hooks: ChannelHooks;
  readonly #frames = new FrameDecoder();
  readonly #answers = new FrameDecoder();
  #deliver: ((bytes: Bytes) => void) | undefined;
  #endAnswers: ((cause?: unknown) => void) | undefined;

  constructor(child: Deno.ChildProcess, hooks: ChannelHooks) {
    this.#hooks = hooks;
    this.#stdin = child.stdin.getWriter();
    this.#stdin.closed.catch(() => {});
    this.#real = openSourceChannel(child);
    const { hello, decisions, passesDescriptors } = this.#real;
    this.hello = hello;
    this.decisions = decisions;
    this.passesDescriptors = passesDescriptors;
    const stdin = new WritableStream<Bytes>({
      write: (chunk) => this.write(chunk),
      close: () => this.#stdin.close(),
      abort: (reason) => this.#stdin.abort(reason).catch(() => {}),
    });
    const { pid, status } = child;
    this.child = { pid, status, stdin } as Deno.ChildProcess;
    attachChannel(this.child, this);
  }

  sendDescriptors(sequences: readonly number[], descriptors: readonly bigint[]): boolean {
    return this.#real.sendDescriptors(sequences, descriptors);
  }

  async write(bytes: Bytes): Promise<void> {
    for (const frame of this.#frames.push(bytes)) {
      await this.#hooks.frame(frame, encodeFrame(frame.type, frame.sequence, frame.payload));
    }
  }

  async end(): Promise<void> {
    await this.#real.end();
  }

  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void {
    this.#deliver = onBytes;
    this.#endAnswers = onEnd;
    this.#real.listen((bytes) => {
      for (const frame of this.#answers.push(bytes)) {
        this.#hooks.answer(frame, encodeFrame(frame.type, frame.sequence, frame.payload));
      }
    }, (cause) => this.endAnswers(cause));
  }

  established(): void {
    this.#real.established();
  }

  close(): void {
    this.#real.close();
  }

  /** Sends bytes on to the target, over its stdin; throws once that is closed. */
  async writeStdin(bytes: Bytes): Promise<void> {
    await this.#stdin.write(bytes);
  }

  /** Sends bytes on to the target, on the way of frames; throws once that has ended. */
  async writeFrames(bytes: Bytes): Promise<void> {
    await this.#real.write(bytes);
  }

  /** Sends bytes on to the source. What comes after the end is lost. */
  deliver(bytes: Bytes): void {
    this.#deliver?.(bytes);
  }

  /** Ends stdin behind what was written. */
  async endStdin(): Promise<void> {
    await this.#stdin.close().catch(() => {});
  }

  /** Ends the way of frames behind what was written. */
  async endFrames(): Promise<void> {
    await this.#real.end().catch(() => {});
  }

  /** Ends the way of answers behind what was delivered. */
  endAnswers(cause?: unknown): void {
    const end = this.#endAnswers;
    this.#endAnswers = undefined;
    this.#deliver = undefined;
    end?.(cause);
  }

  /** Gives up what is left of it. */
  async dispose(): Promise<void> {
    await this.#stdin.abort().catch(() => {});
  }
}
