/**
 * One run of a contestant: its processes, and the connection over which its source speaks with the benchmark.
 *
 * @module
 */
import type { Contestant, StartOptions } from "./lane.ts";
import { LineReader, within } from "./lines.ts";
import { killTree } from "../../tools/process_tree.ts";

/** Wine takes some seconds to begin. */
const START_TIMEOUT_MS = 60_000;
const END_TIMEOUT_MS = 10_000;

/** A running contestant. */
export class Session implements AsyncDisposable {
  /** The process everything of the contestant descends from. */
  readonly processId: number;
  /** Where its source accepts connections. */
  readonly port: number;
  /** What runs it, as it says itself. */
  readonly version: string;
  readonly #child: Deno.ChildProcess;
  readonly #control: Deno.Conn;
  readonly #lines: LineReader;

  private constructor(
    child: Deno.ChildProcess,
    control: Deno.Conn,
    lines: LineReader,
    hello: { port: number; version: string },
  ) {
    this.#child = child;
    this.#control = control;
    this.#lines = lines;
    this.processId = child.pid;
    this.port = hello.port;
    this.version = hello.version;
  }

  /** Starts a contestant and waits until its source listens. */
  static async start(
    contestant: Contestant,
    options: StartOptions = { stderr: "piped", args: [] },
  ): Promise<Session> {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const child = contestant.start(listener.addr.port, options).spawn();
    const errors = options.stderr === "piped" ? new Response(child.stderr).text() : Promise.resolve("");
    const ended = child.status.then(async ({ code }): Promise<never> => {
      throw new Error(
        `${contestant.name} ended with ${code}: ${firstError(await errors)}`,
      );
    });
    ended.catch(() => {});
    try {
      const control = await within(START_TIMEOUT_MS, Promise.race([listener.accept(), ended]));
      const lines = new LineReader(control.readable);
      return new Session(child, control, lines, await within(START_TIMEOUT_MS, lines.nextJson()));
    } catch (error) {
      await killTree(child);
      throw error;
    }
  }

  /** Asks the source, and waits for its answer. */
  async ask<T>(line: string, timeout: number): Promise<T> {
    await this.#control.write(new TextEncoder().encode(`${line}\n`));
    return await within(timeout, this.#lines.nextJson<T>());
  }

  /** Ends the contestant, and waits until it is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#control.closeWrite().catch(() => {});
    await within(END_TIMEOUT_MS, this.#child.status).catch(() => killTree(this.#child));
    await this.#lines.close();
  }
}

/** The line that says what went wrong, of what a process printed before it ended. */
function firstError(text: string): string {
  const lines = text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return lines.find((line) => /\berror\b|failed/i.test(line)) ?? lines.at(-1) ?? "it said nothing";
}
