/** A process of `tests/children/fault_source.ts`, as the test sees it. */
import { endChild, RUN } from "../process.ts";
import { Events } from "./events.ts";
import type { FaultPlan } from "./steps.ts";

/** What a source process is told to do. */
export type Command = { do: "cell"; plan: FaultPlan } | {
  do: "go" | "abort" | "operate" | "act" | "finish" | "end" | "leave";
};

const SCRIPT = new URL("../../children/fault_source.ts", import.meta.url).href;

export class SourceProcess {
  readonly events: Events;
  readonly exited: Promise<unknown>;
  /** How many pipes, sockets and the like it had before; not known until it has made its first hand-off. */
  streams: number | undefined;
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  #port = 0;

  private constructor() {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [...RUN, "--allow-all", SCRIPT],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#stdin = this.#child.stdin.getWriter();
    this.#stdin.closed.catch(() => {});
    this.events = new Events(this.#child.stdout);
    this.exited = this.#child.status;
  }

  static async start(): Promise<SourceProcess> {
    const source = new SourceProcess();
    source.#port = (await source.events.next("listening"))!.port;
    return source;
  }

  get pid(): number {
    return this.#child.pid;
  }

  get port(): number {
    return this.#port;
  }

  /** Tells it to do something; one that has been killed hears nothing. */
  readonly tell = (command: Command): void => {
    this.#stdin.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`)).catch(() => {});
  };

  async end(): Promise<void> {
    await endChild(this.#child);
    await this.#stdin.abort().catch(() => {});
    await this.events.done;
  }
}
