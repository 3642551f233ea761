/**
 * What two versions of a server say to each other: lines of JSON over a connection that was handed over.
 *
 * @module
 */
import type net from "node:net";

/** One thing said. */
export type Message =
  /** New to old: its listeners are taken, and it can serve. */
  | { readonly say: "ready" }
  /** New to old: it will not serve. */
  | { readonly say: "refuse"; readonly reason: string }
  /** Old to new: nobody accepts now but you. */
  | { readonly say: "go" }
  /** New to old: it accepts. */
  | { readonly say: "serving" }
  /** Old to new, at the end of its trial: does your event loop run? */
  | { readonly say: "check" }
  /** Its answer. */
  | { readonly say: "alive" }
  /** Old to new: the trial is over, and what was handed over is yours alone. */
  | { readonly say: "confirm" }
  /** Supervisor to the version that serves: stop accepting. */
  | { readonly say: "pause" }
  /** Its answer. */
  | { readonly say: "paused" }
  /** Supervisor to the version that paused: its successor has failed. */
  | { readonly say: "resume" }
  /** Supervisor to the version that paused: its successor serves. */
  | { readonly say: "retire" };

const MAX_LINE = 64 * 1024;

/** One end of the connection. */
export class Conversation {
  readonly #socket: net.Socket;
  readonly #messages: Message[] = [];
  #text = "";
  #ended = false;
  /** How many wait for something that is to keep this process running. */
  #staying = 0;
  #changed = Promise.withResolvers<void>();

  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text) => this.#take(String(text)));
    socket.on("error", () => this.#end());
    socket.on("end", () => this.#end());
    socket.on("close", () => this.#end());
    socket.unref();
  }

  say(message: Message): void {
    if (!this.#ended) this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  /** Says a last thing; resolves when the other end will hear it even if this process ends, or is gone. */
  async finish(message: Message): Promise<void> {
    if (this.#ended) return;
    await this.stayFor(
      new Promise<void>((resolve) => {
        this.#socket.once("close", () => resolve());
        this.#socket.end(`${JSON.stringify(message)}\n`, () => resolve());
      }),
    );
    this.close();
  }

  /** The next message; `undefined` when the other end is gone. */
  async next(): Promise<Message | undefined> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined || this.#ended) return message;
      await this.#changed.promise;
    }
  }

  /** Waits for a promise, and keeps this process running meanwhile, which may have nothing else to do. */
  async stayFor<T>(promise: Promise<T>): Promise<T> {
    if (this.#staying++ === 0) this.#socket.ref();
    try {
      return await promise;
    } finally {
      if (--this.#staying === 0) this.#socket.unref();
    }
  }

  close(): void {
    this.#socket.destroySoon();
    this.#end();
  }

  #take(text: string): void {
    const lines = (this.#text + text).split("\n");
    this.#text = lines.pop()!;
    try {
      for (const line of lines) this.#messages.push(JSON.parse(line));
    } catch {
      this.#socket.destroy();
    }
    if (this.#text.length > MAX_LINE) this.#socket.destroy();
    this.#wake();
  }

  #end(): void {
    this.#ended = true;
    this.#wake();
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
