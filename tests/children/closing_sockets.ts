// Prints by how many bytes the heap grows for each socket that was closed, before a full collection of garbage.
import { Socket } from "@winsock/handoff";

const SOCKETS = 2_000;
const gc = (globalThis as unknown as { gc(options?: { type: "minor" }): void }).gc;

function closeSockets(): void {
  for (let count = 0; count < SOCKETS; count += 2) for (const socket of Socket.pair()) socket.close();
}

closeSockets();
gc();
const before = Deno.memoryUsage().heapUsed;
closeSockets();
// What has survived two of them is among the old objects.
for (let time = 0; time < 2; time++) gc({ type: "minor" });
console.log((Deno.memoryUsage().heapUsed - before) / SOCKETS);
