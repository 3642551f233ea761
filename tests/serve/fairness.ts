/**
 * How evenly short connections are spread over the workers: `deno task fairness [--connections 10000] [--distribute HOW]`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { taskArguments } from "../kit/run.ts";
import { ServeProcess } from "./serve_process.ts";

const APP = new URL("app.ts", import.meta.url).href;
const CLIENTS = 32;

/**
 * Sends requests, each over a connection of its own.
 *
 * @param how Who accepts.
 * @param workers How many workers there are.
 * @param connections How many connections.
 * @returns How many each worker got, in relation to the mean, the least first.
 */
export async function measureShares(how: string, workers: number, connections: number): Promise<number[]> {
  await using server = await ServeProcess.start(["--workers", String(workers), "--distribute", how, APP]);
  const counts = new Map<string, number>();
  let left = connections;
  const client = async () => {
    while (left-- > 0) {
      const worker = await ask(server.port);
      counts.set(worker, (counts.get(worker) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  const all = [...counts.values(), ...Array(workers).fill(0)].slice(0, workers);
  return all.map((count) => count / (connections / workers)).toSorted((a, b) => a - b);
}

/** One request on one connection. Returns the process that answered. */
async function ask(port: number): Promise<string> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new TextEncoder().encode("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"));
  let text = "";
  const buffer = new Uint8Array(1_024);
  for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
    text += new TextDecoder().decode(buffer.subarray(0, count));
  }
  return /\r\n\r\n(\d+)$/.exec(text)?.[1] ?? "";
}

if (import.meta.main) {
  const options = parseArgs(taskArguments(), {
    string: ["connections", "distribute"],
    default: { connections: "10000" },
  });
  let unfair = 0;
  for (const how of options.distribute === undefined ? ["listener", "connections"] : [options.distribute]) {
    console.log(`--distribute ${how}: ${options.connections} connections, shares of the mean`);
    for (const workers of [2, 4, 8]) {
      const shares = await measureShares(how, workers, Number(options.connections));
      if (shares[0]! < 1 / 3) unfair++;
      console.log(`  ${workers} workers: ${shares.map((share) => share.toFixed(2)).join(" ")}`);
    }
  }
  Deno.exit(unfair === 0 ? 0 : 1);
}
