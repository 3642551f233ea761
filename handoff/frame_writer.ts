/**
 * Writing frames to a stream, all that wait in one write.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { nodeBuiltin } from "../ffi/node_builtins.ts";
import { atMost } from "./at_most.ts";

/** A frame's bytes, made when they leave: none if it has become pointless. Does not throw. */
export type MakeFrame = () => Uint8Array;

/** Frames that are written together. */
interface Batch {
  readonly frames: MakeFrame[];
  /** Written behind the others, on their own; no others may join any more. */
  readonly last: MakeFrame[];
  written: Promise<void>;
}

/** Last frames of one write: together they fit what a pipe takes whole or not at all (PIPE_BUF, 4096 bytes). */
const MAX_LAST_FRAMES = 64;

/** Writes frames in order; those that come while a write is under way leave together in the next. */
export class FrameWriter {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  /** The batches that have not begun to leave; the last one may still take frames. */
  readonly #waiting: Batch[] = [];
  /** Settles with the last batch; once broken it refuses all that follow. */
  #current: Promise<void> = Promise.resolve();

  constructor(stream: WritableStream<Uint8Array<ArrayBuffer>>) {
    this.#writer = stream.getWriter();
  }

  /**
   * Writes a frame behind those that wait.
   *
   * @param frame Makes its bytes.
   * @param last Whether nothing but other last frames may follow in the same write. Then a write that fails has not
   * delivered this frame: a reader cannot have seen it and missed what came behind it.
   * @returns Settles when the stream has taken the frame and all that was written with it, or broke.
   */
  write(frame: MakeFrame, last = false): Promise<void> {
    let batch = this.#waiting.at(-1);
    const sealed = batch !== undefined && batch.last.length > 0;
    if (batch === undefined || sealed && (!last || batch.last.length >= MAX_LAST_FRAMES)) batch = this.#begin();
    (last ? batch.last : batch.frames).push(frame);
    return batch.written;
  }

  /** Takes back a frame. Returns whether that was possible: it is not once the frame has begun to leave. */
  revoke(frame: MakeFrame): boolean {
    for (const { frames, last } of this.#waiting) {
      for (const list of [frames, last]) {
        const index = list.indexOf(frame);
        if (index === -1) continue;
        list.splice(index, 1);
        return true;
      }
    }
    return false;
  }

  /** Leaves the stream to others: for a writer that nothing was written with. */
  release(): void {
    this.#writer.releaseLock();
  }

  /**
   * Closes the stream behind what waits; never throws, for a stream that broke is closed too.
   *
   * @param timeout How long a reader may take to read what was written, in milliseconds; then the rest is dropped.
   */
  async close(timeout: number): Promise<void> {
    await atMost(timeout, this.#current.then(() => this.#writer.close()).catch(() => {}));
    this.#writer.abort().catch(() => {});
  }

  #begin(): Batch {
    const batch: Batch = { frames: [], last: [], written: this.#current };
    this.#waiting.push(batch);
    batch.written = this.#current = this.#current.then(endOfTurn).then(async () => {
      this.#waiting.shift();
      for (const list of [batch.frames, batch.last]) {
        const bytes = concat(list.map((frame) => frame()));
        if (bytes.byteLength > 0) await this.#writer.write(bytes);
      }
    });
    return batch;
  }
}

/** When everything that this turn of the event loop has to do is done. */
function endOfTurn(): Promise<void> {
  return new Promise((resolve) => nodeBuiltin("node:process").nextTick(resolve));
}
