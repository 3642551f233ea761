/**
 * A process that runs `handoff serve`.
 *
 * @module
 */
import http from "node:http";
import { endChild, FFI_GRANT, RUN, until, within } from "../kit/process.ts";
import { TextLines } from "../kit/text_lines.ts";

/** The command line, and where it is run; by default this project's, here. */
export interface Handoff {
  readonly cli: string;
  /** A program that runs the command line, and is told by its stdin what to do. */
  readonly wrapper?: string;
  readonly cwd?: URL;
  readonly env?: Record<string, string>;
}

const HERE: Handoff = { cli: new URL("../../cli/mod.ts", import.meta.url).href };
const WRAPPER = new URL("service_wrapper.ts", import.meta.url).href;
const WORKER_FLAGS = ["--", "--no-check", "--cached-only"];

/** How long a server may take to start: each of its workers takes seconds under Wine. */
const START_MS = 60_000;

/** How a command ended. */
export interface Ended {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

export class ServeProcess implements AsyncDisposable {
  readonly pid: number;
  /** The exit code. */
  readonly code: Promise<number>;
  /** The lines of standard output, and of standard error. */
  readonly output: string[] = [];
  readonly errors: string[] = [];
  port = 0;
  /** The ids of the processes that have answered. */
  readonly answered = new Set<string>();
  readonly #child: Deno.ChildProcess;
  readonly #others: number[] = [];
  readonly #read: Promise<unknown>;

  private constructor(command: Deno.Command) {
    this.#child = command.spawn();
    this.pid = this.#child.pid;
    this.code = this.#child.status.then(({ code }) => code);
    this.#read = Promise.all([keep(this.#child.stdout, this.output), keep(this.#child.stderr, this.errors)]);
  }

  /**
   * Starts one, and waits until it listens.
   *
   * @param grants What the process may do besides what every one needs.
   * @param workerGrants What its workers may do.
   */
  static async start(
    args: string[],
    grants: string[] = [],
    workerGrants: string[] = [],
    handoff: Handoff = HERE,
  ): Promise<ServeProcess> {
    return await ServeProcess.startCommand(serveCommand(args, grants, workerGrants, handoff));
  }

  /** Starts one in a console of its own, and waits until it listens. Windows only. */
  static async startInConsole(args: string[]): Promise<ServeProcess> {
    return await ServeProcess.start(args, [], [], { ...HERE, wrapper: WRAPPER });
  }

  /** Starts a program that says where it listens, as `handoff serve` does, and waits until it does. */
  static async startCommand(command: Deno.Command): Promise<ServeProcess> {
    const server = new ServeProcess(command);
    const listening = () => {
      const line = server.output.find((line) => line.startsWith("Listening on "));
      server.port = Number(/:(\d+)\//.exec(line ?? "")?.[1] ?? 0);
      return server.port !== 0;
    };
    try {
      await Promise.race([
        until(listening, "it listens", START_MS),
        server.code.then((code) => Promise.reject(new Error(`It ended with ${code}: ${server.errors.join("\n")}`))),
      ]);
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  /** Runs one that ends by itself. */
  static async run(args: string[], handoff: Handoff = HERE): Promise<Ended> {
    const separator = args.length === 0 ? [] : WORKER_FLAGS;
    const all = ["--hostname", "127.0.0.1", ...portOf(args), ...args, ...separator];
    return await finish(command("serve", all, [], handoff));
  }

  /** Runs `handoff upgrade`. */
  static async upgrade(controlFile: string, grants: string[], handoff: Handoff = HERE): Promise<Ended> {
    return await finish(command("upgrade", [controlFile], grants, handoff));
  }

  signal(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Sends an event of the console to all processes in it. */
  async press(event: "Ctrl-C" | "Ctrl-Break"): Promise<void> {
    const writer = this.#child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(`${event}\n`));
    writer.releaseLock();
  }

  /** Another process that goes with this one at the end. */
  alsoEnds(processId: number): void {
    this.#others.push(processId);
  }

  /** Asks until so many processes have answered: their ids. */
  async untilAnswered(count: number): Promise<Set<string>> {
    const answered = new Set<string>();
    await until(async () => {
      const answer = await get(this.port, "/").catch(() => undefined);
      if (answer === undefined) return false;
      answered.add(answer.text);
      this.answered.add(answer.text);
      return answered.size >= count;
    }, `${count} processes answer`);
    return answered;
  }

  /** Clients that ask without pause, half of them over one connection each. */
  load(clients: number): { end(): Promise<{ requests: number; failures: string[] }> } {
    let stop = false;
    let requests = 0;
    const failures: string[] = [];
    const client = async (keepAlive: boolean) => {
      const agent = new http.Agent({ keepAlive, maxSockets: 1 });
      while (!stop) {
        try {
          const { status } = await get(this.port, "/", agent);
          if (status !== 200) failures.push(`status ${status}`);
        } catch (error) {
          failures.push(String(error));
        }
        requests++;
      }
      agent.destroy();
    };
    const running = Promise.all(Array.from({ length: clients }, (_, index) => client(index % 2 === 0)));
    return {
      async end() {
        stop = true;
        await running;
        return { requests, failures };
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const processId of this.#others) {
      try {
        Deno.kill(processId, "SIGKILL");
      } catch {
        // it has ended
      }
    }
    await endChild(this.#child);
    await within(20_000, this.#read, () => "its workers end");
  }
}

/** One request, over a connection of its own unless an agent is given. */
export function get(port: number, path: string, agent?: http.Agent): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = http.get({ host: "127.0.0.1", port, path, agent: agent ?? false, timeout: 20_000 }, (response) => {
      let text = "";
      response.on("data", (chunk) => text += String(chunk));
      response.on("end", () => {
        if (response.complete) resolve({ status: response.statusCode ?? 0, text });
        else reject(new Error("The response was cut off"));
      });
      response.on("error", reject);
    });
    sent.on("timeout", () => sent.destroy(new Error("No answer in 20 s")));
    sent.on("error", reject);
  });
}

/** The command that serves with these arguments, on any port. */
export function serveCommand(
  args: string[],
  grants: string[] = [],
  workerGrants: string[] = [],
  handoff: Handoff = HERE,
): Deno.Command {
  const all = ["--port", "0", "--hostname", "127.0.0.1", ...args, ...WORKER_FLAGS, ...workerGrants];
  return command("serve", all, grants, handoff);
}

function portOf(args: string[]): string[] {
  return args.includes("--port") ? [] : ["--port", "0"];
}

function command(name: string, args: string[], grants: string[], { cli, wrapper, ...where }: Handoff): Deno.Command {
  const program = [...RUN, "--allow-run", FFI_GRANT, ...grants, cli, name, ...args];
  return new Deno.Command(Deno.execPath(), {
    ...where,
    args: wrapper === undefined ? program : [...RUN, "--allow-all", wrapper, ...program],
    stdin: wrapper === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  });
}

/** Runs a command that ends by itself. */
export async function finish(command: Deno.Command): Promise<Ended> {
  const { code, stdout, stderr } = await within(60_000, command.output());
  const [output, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)) as [string, string];
  return { code, output, errors };
}

async function keep(stream: ReadableStream<Uint8Array>, into: string[]): Promise<void> {
  for await (const line of stream.pipeThrough(new TextLines())) into.push(line);
}
