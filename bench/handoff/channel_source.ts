/**
 * The channel alone, with this library: one connection again and again, 64 hand-offs in a batch.
 *
 *     deno run … channel_source.ts CONTROL_PORT
 *
 * A hand-off consumes its socket, so each batch needs 64 descriptors of the connection. They are made off the clock, by
 * duplicating it to this process itself; `c_source.c` does the same. On the clock is what is the channel's: duplicating
 * for the target, offering, taking, answering, and closing at both ends.
 *
 * @module
 */
import { connect, duplicateSocket, HandoffSource, listen, openSocket } from "@winsock/handoff";
import { serveControl } from "./control.mjs";
import { spawnTarget } from "./ours_child.ts";

const BATCH = 64;

const child = spawnTarget("channel_target.ts");
const source = new HandoffSource(child);
const listener = listen({ hostname: "127.0.0.1", port: 0 });
const client = await connect({ port: listener.addr.port });
const connection = await listener.accept();

/** Hands off so many batches; a line of the benchmark's asks for them. */
async function run(batches: number): Promise<{ count: number; seconds: number }> {
  let milliseconds = 0;
  for (let batch = 0; batch < batches; batch++) {
    const copies = Array.from({ length: BATCH }, () => openSocket(duplicateSocket(connection, Deno.pid)));
    const sockets = await Promise.all(copies);
    const start = performance.now();
    await Promise.all(sockets.map((socket) => source.send(socket)));
    milliseconds += performance.now() - start;
  }
  return { count: batches * BATCH, seconds: milliseconds / 1000 };
}

await source.ready;
serveControl(Deno.args[0], listener.addr.port, (line: string) => run(Number(line)), async () => {
  client.close();
  await source.close();
  await child.status;
});
