/**
 * This library: accepts connections and hands each to a child.
 *
 *     deno run … ours_source.ts CONTROL_PORT [--profile]
 *
 * @module
 */
import { HandoffSource, listen, type Socket } from "@winsock/handoff";
import { Latencies, serveControl } from "./control.mjs";
import { spawnTarget } from "./ours_child.ts";
import { profiler } from "./profiler.ts";

const latencies = new Latencies();
const child = spawnTarget("ours_target.ts", Deno.args.slice(1));
const source = new HandoffSource(child);
const listener = listen({ hostname: "127.0.0.1", port: 0 });
const profile = profiler("source");

async function send(socket: Socket): Promise<void> {
  const start = performance.now();
  try {
    await source.send(socket);
    latencies.add(start);
  } catch (error) {
    socket.close();
    latencies.fail(error);
  }
}

await source.ready;
serveControl(
  Deno.args[0],
  listener.addr.port,
  async () => {
    await profile.toggle();
    return latencies.take();
  },
  async () => {
    await source.close();
    await child.status;
  },
);
for await (const socket of listener) send(socket);
