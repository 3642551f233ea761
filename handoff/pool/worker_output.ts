/**
 * The output of a worker: its lines are passed on with a prefix. Loaded when a pool prefixes the output of its workers.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { printable } from "../../internal/options.ts";
import { settleWithin } from "../../internal/runtime.ts";

const NEWLINE = 10;
/**
 * The length of the longest line that is kept in one piece, in bytes. A longer line is passed on in pieces of this
 * size.
 */
const MAX_LINE = 64 * 1024;

/** The part of standard error that is kept to say why a worker has ended, in characters. */
const MAX_ERRORS = 4_096;
/** The time that the output of a worker which has ended may take to arrive, in milliseconds. */
const LAST_OUTPUT_MS = 500;
/** The colors of a terminal. */
// deno-lint-ignore no-control-regex
const STYLE = /\x1b\[[\d;]*m/g;

/**
 * Returns a stream that passes on whole lines, each with the prefix.
 *
 * @param trusted Whether the bytes are passed on as they are. Otherwise they are text, and control characters in it are
 * replaced, so that a terminal does not act on them and no line looks like another worker's.
 */
export function prefixLines(
  prefix: string,
  trusted: boolean = true,
): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  const shown = (line: Uint8Array) => trusted ? [line] : [printableLine(line), Uint8Array.of(NEWLINE)];
  const start = new TextEncoder().encode(prefix);
  let rest = new Uint8Array(0);
  return new TransformStream({
    transform(chunk, controller) {
      rest = concat([rest, chunk]);
      const lines: Uint8Array[] = [];
      for (let end = lineEnd(rest); end > 0; end = lineEnd(rest)) {
        lines.push(start, ...shown(rest.subarray(0, end)));
        rest = rest.subarray(end);
      }
      if (lines.length > 0) controller.enqueue(concat(lines));
    },
    flush(controller) {
      if (rest.byteLength === 0) return;
      controller.enqueue(concat([start, ...(trusted ? [rest, Uint8Array.of(NEWLINE)] : shown(rest))]));
    },
  });
}

/** Returns a line without its end, and without what a terminal acts on. */
function printableLine(line: Uint8Array): Uint8Array {
  return new TextEncoder().encode(printable(new TextDecoder().decode(line).trimEnd()));
}

/** Returns the position after the first newline; 0 if there is no newline yet. */
function lineEnd(bytes: Uint8Array): number {
  const end = bytes.indexOf(NEWLINE) + 1;
  return end === 0 && bytes.byteLength >= MAX_LINE ? MAX_LINE : end;
}

/** An output of this process to which several workers write whole lines. */
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

/** The output of one worker. */
export class WorkerOutput {
  readonly #passed: Promise<unknown>;
  #errors = "";

  /**
   * Begins to pass the output on.
   *
   * @param child The worker. Its output is piped.
   * @param prefix The text before each line.
   * @param trusted Whether the bytes are passed on as they are.
   */
  constructor({ stdout: output, stderr: errors }: Deno.ChildProcess, prefix: string, trusted: boolean) {
    const kept = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform: (chunk, controller) => {
        this.#errors = (this.#errors + new TextDecoder().decode(chunk)).slice(-MAX_ERRORS);
        controller.enqueue(chunk);
      },
    });
    this.#passed = Promise.allSettled([
      passOn(output, prefix, trusted, stdout),
      passOn(errors.pipeThrough(kept), prefix, trusted, stderr),
    ]);
  }

  /**
   * Waits until the output of a worker that has ended was passed on. Another process may have inherited the output, and
   * keep it open.
   */
  async end(): Promise<void> {
    await settleWithin(this.#passed, LAST_OUTPUT_MS);
  }

  /**
   * The line of standard error that says best why the worker has ended: Deno's last message about an error, or the last
   * line. Empty if the worker has printed none.
   */
  get lastError(): string {
    const lines = this.#errors.replaceAll(STYLE, "").split("\n").map((line) => line.trimEnd()).filter(Boolean);
    // The reason of an event may be printed.
    return printable(lines.findLast((line) => line.startsWith("error: ")) ?? lines.at(-1) ?? "");
  }
}

function passOn(
  from: ReadableStream<Uint8Array<ArrayBuffer>>,
  prefix: string,
  trusted: boolean,
  to: SharedOutput,
): Promise<void> {
  return from.pipeThrough(prefixLines(prefix, trusted)).pipeTo(
    new WritableStream({ write: (lines) => to.write(lines) }),
  );
}
