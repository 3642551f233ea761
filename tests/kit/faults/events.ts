/** What the processes of a fault tell the test: lines of JSON on one pipe, which the source's children share. */
import { settleWithin } from "../../../internal/runtime.ts";
import { within } from "../process.ts";
import { TextLines } from "../text_lines.ts";

export type Event =
  | { readonly event: "listening"; readonly port: number }
  | {
    readonly event: "spawned";
    readonly target: number;
    readonly inherits: boolean;
    readonly gate: string;
    readonly port: number;
  }
  | { readonly event: "outcome"; readonly outcome: string }
  | { readonly event: "loop"; readonly failure: string | null }
  | {
    readonly event:
      | "started"
      | "sharing"
      | "received"
      | "taken"
      | "gate"
      | "fault"
      | "thawed"
      | "closed"
      | "finished"
      | "ended"
      | "over";
  };

/** How long what was written to the pipe may take to be read, in milliseconds. */
const PIPE_MS = 250;

/** Tells the test something, at once: what comes next may be the end of this process. */
export function report(event: Event): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(event)}\n`));
}

/** The events of one source process and its targets, for whoever waits for one of them. */
export class Events {
  readonly #seen: Event[] = [];
  #changed = Promise.withResolvers<void>();
  /** Settles at the end of the pipe, which all its processes have closed then. */
  readonly done: Promise<void>;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.done = this.#read(stream);
  }

  /** Forgets what was told so far. */
  clear(): void {
    this.#seen.length = 0;
  }

  /** Whether something was told already. */
  has(kind: Event["event"]): boolean {
    return this.count(kind) > 0;
  }

  /** How often something was told already. */
  count(kind: Event["event"]): number {
    return this.#seen.filter(({ event }) => event === kind).length;
  }

  /** All that was told, for a message. */
  toString(): string {
    return this.#seen.map((event) => JSON.stringify(event)).join(" ");
  }

  /**
   * The first event of a kind, which may have come already; `undefined` if `instead` settles without it. What a process
   * told before its end may still be in the pipe then.
   */
  async next<Kind extends Event["event"]>(
    kind: Kind,
    instead: Promise<unknown> = new Promise(() => {}),
  ): Promise<Extract<Event, { event: Kind }> | undefined> {
    let over = false;
    const end = instead.then(() => settleWithin(this.done, PIPE_MS)).then(() => over = true);
    for (;;) {
      const found = this.#seen.find(({ event }) => event === kind);
      if (found !== undefined) return found as Extract<Event, { event: Kind }>;
      if (over) return undefined;
      await within(20_000, Promise.race([this.#changed.promise, end])).catch(() => {
        throw new Error(`"${kind}" did not come; what came: ${this}`);
      });
    }
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    for await (const line of stream.pipeThrough(new TextLines())) {
      this.#seen.push(JSON.parse(line));
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    }
  }
}
