/**
 * Starting a worker process.
 *
 * @module
 */
import { LIBRARY_PATHS } from "../../ffi/system.ts";
import type { PoolSettings } from "./options.ts";
import { PrefixLines } from "./prefix_lines.ts";

/** Spawns a worker for a place in the pool. */
export function spawnWorker(settings: PoolSettings, index: number): Deno.ChildProcess {
  const { prefix } = settings;
  const output = prefix === undefined ? "inherit" : "piped";
  const options: Deno.CommandOptions = {
    args: workerArguments(settings),
    stdin: "piped",
    stdout: output,
    stderr: output,
  };
  if (settings.env !== undefined) options.env = settings.env;
  if (settings.cwd !== undefined) options.cwd = settings.cwd;
  const child = new Deno.Command(settings.command ?? Deno.execPath(), options).spawn();
  if (prefix !== undefined) {
    const text = typeof prefix === "string" ? prefix : prefix({ index, processId: child.pid });
    passOn(child.stdout, text, stdout);
    passOn(child.stderr, text, stderr);
  }
  return child;
}

function workerArguments({ script, permissions, args }: PoolSettings): string[] {
  if (script === undefined) return [...args ?? []];
  const grants = [`--allow-ffi=${LIBRARY_PATHS.join(",")}`, ...permissions ?? []];
  return ["run", "--quiet", "--no-prompt", ...grants, String(script), ...args ?? []];
}

/** One of this process's outputs, that several workers write whole lines to. */
class SharedOutput {
  readonly #output: { write(bytes: Uint8Array): Promise<number> };
  #last: Promise<void> = Promise.resolve();

  constructor(output: { write(bytes: Uint8Array): Promise<number> }) {
    this.#output = output;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#last = this.#last.then(async () => {
      for (let offset = 0; offset < bytes.byteLength;) offset += await this.#output.write(bytes.subarray(offset));
    }).catch(() => {});
  }
}

const stdout = new SharedOutput(Deno.stdout);
const stderr = new SharedOutput(Deno.stderr);

function passOn(from: ReadableStream<Uint8Array<ArrayBuffer>>, prefix: string, to: SharedOutput): void {
  from.pipeThrough(new PrefixLines(prefix)).pipeTo(new WritableStream({ write: (lines) => to.write(lines) }))
    .catch(() => {});
}
