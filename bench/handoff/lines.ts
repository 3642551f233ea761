/**
 * Lines of JSON from a stream, and promises with a deadline.
 *
 * @module
 */

/** Reads a stream line by line. */
export class LineReader {
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** The next line's value. */
  async nextJson<T>(): Promise<T> {
    while (!this.#text.includes("\n")) {
      const { done, value } = await this.#reader.read();
      if (done) throw new Error("The process at the other end has ended");
      this.#text += value;
    }
    const end = this.#text.indexOf("\n");
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 1);
    return JSON.parse(line);
  }

  /** Closes the stream. */
  async close(): Promise<void> {
    await this.#reader.cancel().catch(() => {});
  }
}

/** The promise's outcome, or a failure when it takes longer. */
export async function within<T>(milliseconds: number, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`Nothing happened in ${milliseconds} ms`)), milliseconds);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
