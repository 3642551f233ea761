/**
 * The ends of a channel, as the source and the target use them: one interface for each end. Each interface is
 * implemented once for Unix and once for Windows. A channel carries frames, descriptors and answers, and has the table
 * of decisions that the source and the target share.
 *
 * @module
 */
import type { OfferDecisions, SourceDecisions, TargetDecisions } from "../ffi/decisions.ts";
import type { FrameSink } from "./frame_io.ts";
import type { Hello } from "./protocol.ts";

/**
 * The parts of a child process that a {@linkcode HandoffSource} uses. A `Deno.ChildProcess` that was spawned with
 * `stdin: "piped"` has them.
 */
export type HandoffChild =
  & Pick<Deno.ChildProcess, "pid" | "stdin" | "status">
  & Partial<Pick<Deno.ChildProcess, "kill">>;

/** The parts of HELLO that describe the channel. */
export type ChannelHello = Pick<Hello, "kind" | "means" | "descriptors" | "way">;

/** What a process writes OFFER frames to, and decides by. */
export interface OfferSink extends FrameSink {
  readonly decisions: OfferDecisions;
  /** Whether a socket's descriptor is sent together with its OFFER. Otherwise the OFFER contains a blob. */
  readonly passesDescriptors: boolean;
}

/** The source's end of a channel. It does not keep the process running. */
export interface SourceChannel extends OfferSink {
  readonly hello: ChannelHello;
  readonly decisions: SourceDecisions;
  /**
   * Begins to read the target's answers.
   *
   * @param onBytes Called with bytes as they arrive.
   * @param onEnd Called once, when no more bytes will arrive.
   */
  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void;
  /** Closes the target's ends in this process, because the target has them now. */
  established(): void;
  /** Closes all descriptors of this end. */
  close(): void;
}

/** The target's end of a channel. */
export interface TargetChannel {
  readonly decisions: TargetDecisions;
  /**
   * Begins to read frames, which keeps the process running.
   *
   * @param onBytes Called with bytes as they arrive.
   * @param onEnd Called once, when no more bytes will arrive: with the cause if frames may be lost.
   */
  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void;
  /** Sets whether reading keeps the process running. It does at first. */
  setReferenced(referenced: boolean): void;
  /**
   * Returns the descriptor that was sent together with an OFFER. The caller closes it.
   *
   * @returns `undefined` if this process had no room for it.
   * @throws {RangeError} If no descriptor was sent.
   */
  takeDescriptor(sequence: number): bigint | undefined;
  /**
   * Writes frames to the source. If the source has ended, they are dropped.
   *
   * @returns `undefined` if they were written at once; otherwise a promise that resolves when they are, or were dropped.
   */
  answer(bytes: Uint8Array<ArrayBuffer>): Promise<void> | undefined;
  /** Stops reading frames. */
  stopListening(): void;
  /** Closes all descriptors of this end, after the answers that were written. */
  close(): void;
}
