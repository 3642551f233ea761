/**
 * Starting a worker process.
 *
 * @module
 */
import { endProcess, spawnProgram } from "../spawn.ts";
import type { PoolSettings } from "./options.ts";
import { prefixLines } from "./prefix_lines.ts";

/** Spawns a worker for a place in the pool. */
export async function spawnWorker(settings: PoolSettings, index: number): Promise<Deno.ChildProcess> {
  const { prefix } = settings;
  const child = await spawnProgram(settings, { output: prefix === undefined ? "inherit" : "piped" });
  if (prefix !== undefined) {
    const text = prefixOf(prefix, child, index);
    passOn(child.stdout, text, stdout);
    passOn(child.stderr, text, stderr);
  }
  return child;
}

function prefixOf(prefix: NonNullable<PoolSettings["prefix"]>, child: Deno.ChildProcess, index: number): string {
  try {
    return typeof prefix === "string" ? prefix : prefix({ index, processId: child.pid });
  } catch (error) {
    endProcess(child);
    throw error;
  }
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
  from.pipeThrough(prefixLines(prefix)).pipeTo(new WritableStream({ write: (lines) => to.write(lines) }))
    .catch(() => {});
}
