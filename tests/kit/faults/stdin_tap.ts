/** A child's stdin with somebody in front of it, through whom every frame goes. */
import { encodeFrame, type Frame, FrameDecoder } from "./protocol.ts";

/** What is done with a frame, whole as it came; nothing passes but what it writes. */
export type FrameHook = (frame: Frame, bytes: Uint8Array<ArrayBuffer>) => Promise<void>;

export class StdinTap {
  readonly stream: WritableStream<Uint8Array<ArrayBuffer>>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #closed: Promise<void> | undefined;

  constructor(stdin: WritableStream<Uint8Array<ArrayBuffer>>, hook: FrameHook) {
    this.#writer = stdin.getWriter();
    this.#writer.closed.catch(() => {});
    const decoder = new FrameDecoder();
    this.stream = new WritableStream({
      write: async (chunk) => {
        for (const frame of decoder.push(chunk)) {
          await hook(frame, encodeFrame(frame.type, frame.sequence, frame.payload));
        }
      },
      close: () => this.close(),
      abort: (reason) => this.#writer.abort(reason).catch(() => {}),
    });
  }

  /** Sends bytes on to the child; throws once the pipe is closed, as the pipe itself does. */
  async write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#closed !== undefined) throw new Deno.errors.BrokenPipe("The pipe is closed");
    await this.#writer.write(bytes);
  }

  /** Closes the pipe. */
  close(): Promise<void> {
    return this.#closed ??= this.#writer.close().catch(() => this.#writer.abort().catch(() => {}));
  }
}
