/**
 * Threads of one process do not need a hand-off, because a descriptor is valid in all of them. One thread accepts
 * connections. Each of the other threads answers the connections whose descriptors it receives. A Worker can only load
 * files from disk that the process may read.
 *
 *     deno run --allow-read=. --allow-ffi=… examples/threads.ts [PORT]
 *
 * @module
 */
import { listen } from "@winsock/handoff";

const threads = Array.from({ length: 2 }, () => {
  return new Worker(new URL("./thread.ts", import.meta.url), { type: "module" });
});
using listener = listen({ hostname: "127.0.0.1", port: Number(Deno.args[0] ?? 8080) });
console.log(`${threads.length} threads of process ${Deno.pid} answer at http://127.0.0.1:${listener.addr.port}`);

let turn = 0;
for await (const socket of listener) {
  // From here on the other thread owns the descriptor, and this thread must not close it.
  threads[turn++ % threads.length]!.postMessage(socket.detach());
}
