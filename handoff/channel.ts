/**
 * Channels between a source and a target, as both use them: one interface for each end, which is implemented once for
 * Unix and once for Windows. A channel carries frames, descriptors and answers, and has the table of decisions that the
 * two share. Frames are written in order, those of one turn in one call.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import type { OfferDecisions, SourceDecisions, TargetDecisions } from "../ffi/decisions.ts";
import { denoCore, nodeBuiltin, referenceCall, settleWithin } from "../internal/runtime.ts";
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

/** A frame that waits to be written. */
export interface QueuedFrame {
  /**
   * Encodes the frame when it is written. Does not throw.
   *
   * @returns `undefined` if the frame is no longer needed.
   */
  encode(): Uint8Array | undefined;
  /** Called when the system has all bytes of the frame. */
  written?(): void;
  /** The sequence number of the frame, for the descriptor that is sent with it. */
  readonly sequence: number;
  /** The descriptor that is sent before the frame. It is read when the frame is written. */
  readonly descriptor?: bigint | undefined;
}

/** The output of a {@linkcode FrameWriter}. */
export interface FrameSink {
  /** Sends descriptors, all or none. Returns `false` if there is no room for them now. */
  sendDescriptors(sequences: readonly number[], descriptors: readonly bigint[]): boolean;
  /**
   * Writes bytes after those written before. A second call waits for the first.
   *
   * @returns `undefined` if the bytes were written at once; otherwise a promise that settles when they are.
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> | undefined;
  /** Ends the stream after the bytes that were written. */
  end(): Promise<void>;
}

/** The largest number of descriptors in one message. */
export const MAX_DESCRIPTORS_AT_ONCE = 16;
/** How long to wait if the system has no room for a descriptor, in milliseconds. */
const NO_ROOM_DELAY_MS = 2;

/** Writes frames in order. Frames of one turn of the event loop are written in one call. */
export class FrameWriter {
  readonly #sink: FrameSink;
  readonly #onBroken: (cause: unknown) => void;
  #queue: QueuedFrame[] = [];
  #scheduled = false;
  /** Set while frames are encoded, which may add further frames. */
  #encoding = false;
  /** Settles when the written bytes are accepted, or when frames can be written again after a pause. */
  #busy: Promise<void> | undefined;
  #broken = false;
  #idle: PromiseWithResolvers<void> | undefined;

  /**
   * @param sink The output.
   * @param onBroken Called once, when the other end no longer reads.
   */
  constructor(sink: FrameSink, onBroken: (cause: unknown) => void) {
    this.#sink = sink;
    this.#onBroken = onBroken;
  }

  /**
   * Adds a frame after those that wait.
   *
   * @param alone Whether no other frame is in flight, so that there is nothing to wait for.
   */
  write(frame: QueuedFrame, alone = false): void {
    if (this.#broken) return;
    this.#queue.push(frame);
    if (alone && !this.#scheduled && !this.#encoding) this.#flush();
    else this.#schedule();
  }

  /**
   * Removes a frame that waits. Returns whether that was possible: it is not if any part of the frame has been written.
   */
  revoke(frame: QueuedFrame): boolean {
    const index = this.#queue.indexOf(frame);
    if (index !== -1) this.#queue.splice(index, 1);
    return index !== -1;
  }

  /**
   * Ends the stream after the frames that wait. Does not throw, because a broken stream is ended too.
   *
   * @param timeout The time that the other end may take to read what was written, in milliseconds. Then the rest is
   * dropped.
   */
  async end(timeout: number): Promise<void> {
    await settleWithin(this.#drained().then(() => this.#sink.end()).catch(() => {}), timeout);
    this.stop();
  }

  /** Drops the frames that wait, and all later ones: the output is about to be closed. */
  stop(): void {
    this.#broken = true;
    this.#queue = [];
  }

  async #drained(): Promise<void> {
    while (!this.#broken && (this.#queue.length > 0 || this.#busy !== undefined)) {
      this.#idle ??= Promise.withResolvers();
      await this.#idle.promise;
    }
  }

  #schedule(): void {
    if (this.#scheduled || this.#busy !== undefined) return;
    this.#scheduled = true;
    nodeBuiltin("node:process").nextTick(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  /** Writes the frames that wait, as far as there is room. */
  #flush(): void {
    if (this.#broken || this.#busy !== undefined) return;
    const frames: QueuedFrame[] = [];
    try {
      this.#encoding = true;
      const { parts, noRoom } = this.#encodeWaiting(frames);
      if (parts.length > 0) this.#busy = this.#sink.write(parts.length === 1 ? parts[0]! : concat(parts));
      if (noRoom) this.#busy = Promise.resolve(this.#busy).then(pause);
    } catch (error) {
      return this.#break(error);
    } finally {
      this.#encoding = false;
    }
    const written = () => {
      for (const frame of frames) frame.written?.();
    };
    if (this.#busy === undefined) {
      written();
      return this.#rest();
    }
    this.#busy.then(() => {
      this.#busy = undefined;
      written();
      if (this.#queue.length > 0) this.#flush();
      else this.#rest();
    }, (error) => this.#break(error));
  }

  /**
   * Encodes the frames that can be written now. Their descriptors are sent first, in the same turn.
   *
   * @param encoded Gets these frames.
   */
  #encodeWaiting(encoded: QueuedFrame[]): { parts: Uint8Array<ArrayBuffer>[]; noRoom: boolean } {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    while (this.#queue.length > 0) {
      const group = this.#queue.slice(0, MAX_DESCRIPTORS_AT_ONCE);
      const made = group.map((frame) => ({ frame, bytes: frame.encode() as Uint8Array<ArrayBuffer> | undefined }));
      const carrying = made.filter(({ frame, bytes }) => bytes !== undefined && frame.descriptor !== undefined);
      if (carrying.length > 0) {
        const sequences = carrying.map(({ frame }) => frame.sequence);
        if (!this.#sink.sendDescriptors(sequences, carrying.map(({ frame }) => frame.descriptor!))) {
          return { parts, noRoom: true };
        }
      }
      encoded.push(...this.#queue.splice(0, group.length));
      for (const { bytes } of made) if (bytes !== undefined) parts.push(bytes);
    }
    return { parts, noRoom: false };
  }

  #break(cause: unknown): void {
    if (this.#broken) return;
    this.#broken = true;
    this.#queue = [];
    this.#busy = undefined;
    this.#rest();
    this.#onBroken(cause);
  }

  #rest(): void {
    this.#idle?.resolve();
    this.#idle = undefined;
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, NO_ROOM_DELAY_MS));
}

/** A source of bytes. */
export interface FrameReader {
  /** Returns the next bytes, which belong to the caller; `undefined` at the end. */
  read(): Promise<Uint8Array | undefined>;
  /** Sets whether a pending read keeps the process running. It does at first. */
  setReferenced(referenced: boolean): void;
  /** Ends a pending read, and stops reading. */
  cancel(): void;
}

const BUFFER_SIZE = 16 * 1024;

/** The mark of a thread whose stdin is read. All copies of the library have the same, whatever their version. */
const READS_STDIN = Symbol.for("@winsock/handoff: reads stdin");

/** The number of the resource that is stdin. */
const STDIN = 0;

/** The members of Deno's core that are used. */
interface Core {
  read(resource: number, buffer: Uint8Array): Promise<number>;
}

/**
 * Returns a reader of this process's stdin. It reads the resource itself, because a pending `Deno.stdin.read` keeps the
 * process running in any case.
 *
 * @throws {Deno.errors.Busy} If this copy of the library or another one reads stdin already. Each would get a part of
 * the bytes.
 */
export function stdinInput(): FrameReader {
  const marks = globalThis as { [READS_STDIN]?: true };
  if (marks[READS_STDIN]) {
    throw new Deno.errors.Busy(
      "Cannot receive sockets: another call of `receive` reads stdin already, perhaps of another copy of the library",
    );
  }
  marks[READS_STDIN] = true;
  const core = denoCore<Core>();
  const readInto = typeof core?.read === "function"
    ? (buffer: Uint8Array) => core.read!(STDIN, buffer)
    : async (buffer: Uint8Array) => await Deno.stdin.read(buffer) ?? 0;
  let reading: Promise<number> | undefined;
  let referenced = true;
  return {
    async read() {
      const buffer = new Uint8Array(BUFFER_SIZE);
      reading = readInto(buffer);
      if (!referenced) referenceCall(reading, false);
      try {
        const length = await reading;
        return length === 0 ? undefined : buffer.subarray(0, length);
      } finally {
        reading = undefined;
      }
    },
    setReferenced(value) {
      referenced = value;
      if (reading !== undefined) referenceCall(reading, value);
    },
    cancel: () => Deno.stdin.close(),
  };
}

/** Returns a reader of a stream. Whether a pending read of the stream keeps the process running is up to the stream. */
export function streamInput(stream: ReadableStream<Uint8Array>): FrameReader {
  const reader = stream.getReader();
  return {
    async read() {
      const { value } = await reader.read();
      return value;
    },
    setReferenced: () => {},
    cancel: () => void reader.cancel().catch(() => {}),
  };
}
