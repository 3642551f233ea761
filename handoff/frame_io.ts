/**
 * Frames on their way out of a source, and into a target.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { nodeBuiltin, settleWithin } from "../internal/runtime.ts";

/** A frame that waits to leave. */
export interface QueuedFrame {
  /**
   * Makes its bytes when it leaves.
   *
   * @returns Nothing if the frame has become pointless. Does not throw.
   */
  encode(): Uint8Array | undefined;
  /** Its number, for the descriptor that goes along. */
  readonly sequence: number;
  /** The descriptor that goes ahead of it; asked for when the frame leaves. */
  readonly descriptor?: bigint | undefined;
}

/** Where the frames of a {@linkcode FrameWriter} go. */
export interface FrameSink {
  /** Sends descriptors, none of which leaves alone: `false` if there is no room for them at the moment. */
  sendDescriptors(sequences: readonly number[], descriptors: readonly bigint[]): boolean;
  /**
   * Writes bytes behind those written before. A second call waits for the first.
   *
   * @returns Nothing if they were taken at once; otherwise settles when they are.
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> | undefined;
  /** Ends the stream behind what was written. */
  end(): Promise<void>;
}

/** Most descriptors that leave in one message. */
export const MAX_DESCRIPTORS_AT_ONCE = 16;
/** How long to wait when the system has no room for a descriptor, in milliseconds. */
const NO_ROOM_DELAY_MS = 2;

/** Writes frames in order, those of one turn of the event loop in one call. */
export class FrameWriter {
  readonly #sink: FrameSink;
  readonly #onBroken: (cause: unknown) => void;
  #queue: QueuedFrame[] = [];
  #scheduled = false;
  /** While frames are made, which may bring others. */
  #encoding = false;
  /** Settles when what has left is taken, or the frames can go on after a pause. */
  #busy: Promise<void> | undefined;
  #broken = false;
  #idle: PromiseWithResolvers<void> | undefined;

  /**
   * @param sink Where they go.
   * @param onBroken Called once, when the other end reads no more.
   */
  constructor(sink: FrameSink, onBroken: (cause: unknown) => void) {
    this.#sink = sink;
    this.#onBroken = onBroken;
  }

  /**
   * Puts a frame behind those that wait.
   *
   * @param alone Whether nothing else is on its way, so that there is nothing to wait for.
   */
  write(frame: QueuedFrame, alone = false): void {
    if (this.#broken) return;
    this.#queue.push(frame);
    if (alone && !this.#scheduled && !this.#encoding) this.#flush();
    else this.#schedule();
  }

  /** Takes a frame back. Returns whether that was possible: it is not once any of it has left. */
  revoke(frame: QueuedFrame): boolean {
    const index = this.#queue.indexOf(frame);
    if (index !== -1) this.#queue.splice(index, 1);
    return index !== -1;
  }

  /**
   * Ends the stream behind what waits; does not throw, for a broken stream is ended too.
   *
   * @param timeout How long the other end may take to read what was written, in milliseconds; then the rest is dropped.
   */
  async end(timeout: number): Promise<void> {
    await settleWithin(this.#drained().then(() => this.#sink.end()).catch(() => {}), timeout);
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

  /** Sends what waits, as far as there is room. */
  #flush(): void {
    if (this.#broken || this.#busy !== undefined) return;
    try {
      this.#encoding = true;
      const { parts, noRoom } = this.#encodeWaiting();
      if (parts.length > 0) this.#busy = this.#sink.write(parts.length === 1 ? parts[0]! : concat(parts));
      if (noRoom) this.#busy = Promise.resolve(this.#busy).then(pause);
    } catch (error) {
      return this.#break(error);
    } finally {
      this.#encoding = false;
    }
    if (this.#busy === undefined) return this.#rest();
    this.#busy.then(() => {
      this.#busy = undefined;
      if (this.#queue.length > 0) this.#flush();
      else this.#rest();
    }, (error) => this.#break(error));
  }

  /** Makes the frames that can leave now. Their descriptors leave first, in the same turn. */
  #encodeWaiting(): { parts: Uint8Array<ArrayBuffer>[]; noRoom: boolean } {
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
      this.#queue.splice(0, group.length);
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

/** Bytes as they arrive. */
export interface FrameReader {
  /** The next bytes, the caller's for good; `undefined` at the end. */
  read(): Promise<Uint8Array | undefined>;
  /** Ends a pending read, and reads no more. */
  cancel(): void;
}

const BUFFER_SIZE = 16 * 1024;

/** This process's stdin, without the stream Deno has around it: that costs a fifth of the way of a small frame. */
export function stdinInput(): FrameReader {
  return {
    async read() {
      const buffer = new Uint8Array(BUFFER_SIZE);
      const length = await Deno.stdin.read(buffer);
      return length === null ? undefined : buffer.subarray(0, length);
    },
    cancel: () => Deno.stdin.close(),
  };
}

/** A stream. */
export function streamInput(stream: ReadableStream<Uint8Array>): FrameReader {
  const reader = stream.getReader();
  return {
    async read() {
      const { value } = await reader.read();
      return value;
    },
    cancel: () => void reader.cancel().catch(() => {}),
  };
}
