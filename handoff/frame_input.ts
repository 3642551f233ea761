/**
 * Where a target's frames come from.
 *
 * @module
 */

/** Bytes as they arrive. */
export interface FrameInput {
  /** The next bytes, the caller's for good; `undefined` at the end. */
  read(): Promise<Uint8Array | undefined>;
  /** Ends a pending read, and reads no more. */
  cancel(): void;
}

const BUFFER_SIZE = 16 * 1024;

/** This process's stdin, without the stream Deno has around it: that costs a fifth of the way of a small frame. */
export function stdinInput(): FrameInput {
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
export function streamInput(stream: ReadableStream<Uint8Array>): FrameInput {
  const reader = stream.getReader();
  return {
    async read() {
      const { value } = await reader.read();
      return value;
    },
    cancel: () => void reader.cancel().catch(() => {}),
  };
}
