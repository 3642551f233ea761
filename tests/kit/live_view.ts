/** `examples/live_view.ts` in a process of its own, under the permissions it says, and what it tells. */
import type { Snapshot } from "../../examples/live_view/monitor.ts";
import { HANDSHAKE, RawClient } from "./http_client.ts";
import { endChild, FFI_GRANT, lines, RUN, within } from "./process.ts";

/** What a version of the server says, as it comes. */
export class Events implements AsyncDisposable {
  readonly #reader: ReadableStreamDefaultReader<string>;
  readonly #abort: AbortController;
  #text = "";

  private constructor(reader: ReadableStreamDefaultReader<string>, abort: AbortController) {
    this.#reader = reader;
    this.#abort = abort;
  }

  static async open(url: string): Promise<Events> {
    const abort = new AbortController();
    const { signal } = abort;
    const response = await within(20_000, fetch(`${url}/events`, { signal, headers: { connection: "close" } }));
    return new Events(response.body!.pipeThrough(new TextDecoderStream()).getReader(), abort);
  }

  /** The next snapshot of which this is true; `undefined` if the stream ends before. */
  async until(condition: (snapshot: Snapshot) => boolean): Promise<Snapshot | undefined> {
    for (const deadline = Date.now() + 20_000; Date.now() < deadline;) {
      const snapshot = await this.#next();
      if (snapshot === undefined || condition(snapshot)) return snapshot;
    }
    throw new Error(`Nothing of what came in 20 s is it: ${condition}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#reader.closed.catch(() => {});
  }

  async #next(): Promise<Snapshot | undefined> {
    for (;;) {
      const end = this.#text.indexOf("\n\n");
      const event = this.#text.slice(0, Math.max(end, 0));
      this.#text = this.#text.slice(end + (end < 0 ? 1 : 2));
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (data !== undefined) return JSON.parse(data);
      if (end >= 0) continue;
      const { done, value } = await within(20_000, this.#reader.read());
      if (done) return undefined;
      this.#text += value;
    }
  }
}

/** Starts the server. */
export async function startLiveView(distribute = "connections") {
  const grants = ["--allow-run", "--allow-env=WINSOCK_HANDOFF_PREDECESSOR", FFI_GRANT];
  const script = new URL("../../examples/live_view.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, ...grants, script, "0", "0", distribute],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const nextLine = lines(child as Deno.ChildProcess);
  const [url = "", page = ""] = (await nextLine())?.match(/http:[^\s,]+/g) ?? [];
  return {
    child,
    /** Where the server is. */
    url,
    /** Where it is shown. */
    page,
    nextLine,
    async [Symbol.asyncDispose]() {
      // The oldest first: one that loses its successor too soon would serve again.
      await endChild(child as Deno.ChildProcess);
      for (let version = await shownAt(page); version !== undefined; version = await shownAt(page)) {
        Deno.kill(version, "SIGKILL");
      }
    },
  };
}

/** The process that is shown; none if nobody answers. */
async function shownAt(page: string): Promise<number | undefined> {
  try {
    await using events = await Events.open(page);
    return (await events.until(() => true))?.processId;
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** Makes requests, each over a connection of its own. */
export async function request(url: string, count: number): Promise<string[]> {
  const headers = { connection: "close" };
  const one = async () => await (await fetch(url, { headers })).text();
  return await within(20_000, Promise.all(Array.from({ length: count }, one)));
}

/** Opens a WebSocket that does not go when it is asked to, so that a version has to wait for it. */
export async function lingering(url: string): Promise<RawClient> {
  const client = await RawClient.connect(Number(new URL(url).port));
  await client.get("/ws", ...HANDSHAKE);
  return client;
}
