/** A control socket with somebody in the middle, through whom every answer goes. */
import type net from "node:net";
import { systemCalls } from "../../../ffi/system.ts";
import { adoptStream } from "../../../sockets/native_stream.ts";
import { encodeFrame, type Frame, FrameDecoder } from "./protocol.ts";

/** What the one in the middle does with an answer, whole as it came; nothing passes but what it writes. */
export type AnswerHook = (frame: Frame, bytes: Uint8Array<ArrayBuffer>) => void;

export class ControlPump {
  readonly #near: net.Socket;
  readonly #far: net.Socket;

  private constructor(near: bigint, far: bigint, hook: AnswerHook) {
    this.#near = adoptStream(near);
    this.#far = adoptStream(far);
    const decoder = new FrameDecoder();
    this.#far.on("data", (chunk: Uint8Array) => {
      for (const frame of decoder.push(chunk)) {
        if (this.#far.destroyed) return;
        hook(frame, encodeFrame(frame.type, frame.sequence, frame.payload));
      }
    });
    this.#near.on("data", () => {});
    for (const [one, other] of [[this.#near, this.#far], [this.#far, this.#near]] as const) {
      one.on("end", () => {
        one.end();
        other.end();
      });
      one.on("error", () => this.close());
      one.on("close", () => other.destroySoon());
    }
  }

  /** What a function makes of the pair of sockets it asks the system for: the two are not connected directly. */
  static between<T>(make: () => T, hook: AnswerHook): { made: T; pump: ControlPump } {
    const calls = systemCalls();
    const pair = calls.pair;
    let pump: ControlPump | undefined;
    calls.pair = () => {
      const [source, near] = pair.call(calls);
      const [far, target] = pair.call(calls);
      pump = new ControlPump(near, far, hook);
      return [source, target];
    };
    try {
      const made = make();
      if (pump === undefined) throw new Error("No pair of sockets was made");
      return { made, pump };
    } finally {
      calls.pair = pair;
    }
  }

  /** Sends bytes on to the source. */
  write(bytes: Uint8Array<ArrayBuffer>): void {
    this.#near.write(bytes);
  }

  /** Breaks off behind what was written: the source reads the end, the target can say no more. */
  end(): void {
    this.#near.end();
    this.#far.destroy();
  }

  close(): void {
    this.#near.destroy();
    this.#far.destroy();
  }
}
