/**
 * What source and target need of the way between them: one interface for each, implemented once for Unix and once for
 * Windows. It carries frames, descriptors and answers, and has the table of decisions that both share.
 *
 * @module
 */
import type { SourceDecisions, TargetDecisions } from "../ffi/decisions.ts";
import type { FrameSink } from "./frame_io.ts";
import type { Hello } from "./protocol.ts";

/** What a {@linkcode HandoffSource} needs of its child: a `Deno.ChildProcess` spawned with `stdin: "piped"` has it. */
export type HandoffChild =
  & Pick<Deno.ChildProcess, "pid" | "stdin" | "status">
  & Partial<Pick<Deno.ChildProcess, "kill">>;

/** What HELLO says of a channel. */
export type ChannelHello = Pick<Hello, "kind" | "means" | "descriptors" | "way">;

/** A source's end. It does not keep the process running. */
export interface SourceChannel extends FrameSink {
  readonly hello: ChannelHello;
  readonly decisions: SourceDecisions;
  /** Whether further frames go over the child's stdin. */
  readonly usesStdin: boolean;
  /** Whether a socket's descriptor is sent beside its OFFER; otherwise the OFFER has a blob. */
  readonly passesDescriptors: boolean;
  /**
   * Hears the target's answers.
   *
   * @param onBytes Called with bytes as they arrive.
   * @param onEnd Called once, when no more will come.
   */
  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void;
  /** The target has its ends: they are closed here. */
  established(): void;
  /** Closes everything. */
  close(): void;
}

/** A target's end. */
export interface TargetChannel {
  readonly decisions: TargetDecisions;
  /**
   * Hears frames, which keeps the process running.
   *
   * @param onBytes Called with bytes as they arrive.
   * @param onEnd Called once, when no more will come.
   */
  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void;
  /** Hears on without keeping the process running. */
  unref(): void;
  /**
   * The descriptor that was sent beside an OFFER, the caller's to close.
   *
   * @returns Nothing if this process had no room for it.
   * @throws {RangeError} If none was sent.
   */
  takeDescriptor(sequence: number): bigint | undefined;
  /** Writes answers. A source that is gone hears nothing. */
  answer(bytes: Uint8Array<ArrayBuffer>): void;
  /** Hears no more frames. */
  stopListening(): void;
  /** Closes everything, behind the answers that were written. */
  close(): void;
}
