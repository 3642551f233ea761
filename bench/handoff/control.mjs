/**
 * How a contestant's source speaks with the benchmark: over a TCP connection, for Node for Windows cannot read a stdin it
 * is given through Wine. It says which port it listens on, then answers every line, and ends when the connection does.
 *
 * Runs unmodified under Node, Bun and Deno. None of these scripts imports `node:process`: that opens stdout, which Node for
 * Windows cannot do with what it is given through Wine.
 *
 * @module
 */
import net from "node:net";
import { createInterface } from "node:readline";
import { quantile } from "./quantile.mjs";

/**
 * @param {string | undefined} controlPort Where the benchmark listens.
 * @param {number} port Where this source does.
 * @param {(line: string) => unknown} answer What to answer a line with, as JSON.
 * @param {() => unknown} [end] What to do before the process ends.
 */
export function serveControl(controlPort, port, answer, end) {
  const control = net.connect(Number(controlPort), "127.0.0.1");
  const say = (value) => control.write(`${JSON.stringify(value)}\n`);
  control.setNoDelay(true);
  control.on("error", () => {});
  const finish = async () => {
    await end?.();
    globalThis.process.exit(0);
  };
  // Node for Windows does not close a connection its peer has ended.
  control.once("end", finish);
  control.once("close", finish);
  createInterface({ input: control }).on("line", async (line) => say(await answer(line)));
  say({ port, version: runtime() });
}

/** Which runtime this is, and its version. */
function runtime() {
  if (globalThis.Bun !== undefined) return `Bun ${globalThis.Bun.version}`;
  if (globalThis.Deno !== undefined) return `Deno ${globalThis.Deno.version.deno}`;
  return `Node ${globalThis.process.versions.node}`;
}

/** How long hand-offs took, since it was asked last. */
export class Latencies {
  /** @type {number[]} */
  #milliseconds = [];
  #failed = 0;
  #failure = "";

  /** @param {number} start When the hand-off began, as `performance.now()` said. */
  add(start) {
    this.#milliseconds.push(performance.now() - start);
  }

  /** @param {unknown} error Why there was none. */
  fail(error) {
    this.#failed++;
    this.#failure = String(error);
  }

  take() {
    const sorted = this.#milliseconds.sort((a, b) => a - b);
    const taken = {
      count: sorted.length,
      p50: quantile(sorted, 0.5),
      p99: quantile(sorted, 0.99),
      failed: this.#failed,
      failure: this.#failure,
    };
    this.#milliseconds = [];
    this.#failed = 0;
    return taken;
  }
}
