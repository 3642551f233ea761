/**
 * The client's process, as the benchmark drives it: one for all samples of a lane.
 *
 * @module
 */
import type { ClientSample, SampleRequest } from "./client.ts";
import { LineReader, within } from "./lines.ts";
import { FFI_GRANT, RUN } from "./ours_child.ts";
import { killTree } from "../../tools/process_tree.ts";

/** Starts a client when one is needed; one that does not answer is ended, and the next sample has a new one. */
export class ClientProcess implements AsyncDisposable {
  readonly #under: readonly string[];
  #running: { child: Deno.ChildProcess; lines: LineReader; stdin: WritableStreamDefaultWriter } | undefined;

  /** @param under A command to start it under, and its arguments. */
  constructor(under: readonly string[]) {
    this.#under = under;
  }

  /** The process of the next sample. */
  get processId(): number {
    return (this.#running ??= this.#start()).child.pid;
  }

  /** Takes one sample. */
  async sample(request: SampleRequest): Promise<ClientSample> {
    const { lines, stdin } = this.#running ??= this.#start();
    try {
      await stdin.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
      return await within(request.seconds * 1000 + 20_000, lines.nextJson<ClientSample>());
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    this.#running = undefined;
    await killTree(running.child);
  }

  #start() {
    const script = new URL("client.ts", import.meta.url).href;
    const [program, ...args] = [...this.#under, Deno.execPath(), ...RUN, FFI_GRANT, script];
    const child = new Deno.Command(program!, { args, stdin: "piped", stdout: "piped", stderr: "inherit" }).spawn();
    return { child, lines: new LineReader(child.stdout), stdin: child.stdin.getWriter() };
  }
}
