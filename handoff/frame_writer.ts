/**
 * Writing frames to a stream, all that wait in one write.
 *
 * @module
 */
import { concat } from "@std/bytes";

/** Writes frames in order; those that come while a write is under way leave together in the next. */
export class FrameWriter {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #waiting: Uint8Array[] = [];
  /** The write that takes what waits; once broken it stays, and refuses all that follow. */
  #next: Promise<void> | undefined;
  #current: Promise<void> = Promise.resolve();

  constructor(stream: WritableStream<Uint8Array<ArrayBuffer>>) {
    this.#writer = stream.getWriter();
  }

  /** Resolves when the stream has taken the frame; rejects when it broke, with all that waited. */
  write(frame: Uint8Array): Promise<void> {
    this.#waiting.push(frame);
    return this.#next ??= this.#flush();
  }

  /**
   * Closes the stream behind what waits; never throws, for a stream that broke is closed too.
   *
   * @param timeout How long a reader may take to read what was written, in milliseconds; then the rest is dropped.
   */
  async close(timeout: number): Promise<void> {
    const late = Promise.withResolvers<void>();
    const deadline = setTimeout(late.resolve, timeout);
    const written = (this.#next ?? this.#current).catch(() => {});
    await Promise.race([written.then(() => this.#writer.close()).catch(() => {}), late.promise]);
    clearTimeout(deadline);
    this.#writer.abort().catch(() => {});
  }

  async #flush(): Promise<void> {
    await this.#current;
    const frames = this.#waiting;
    this.#waiting = [];
    this.#next = undefined;
    await (this.#current = this.#writer.write(concat(frames)));
  }
}
