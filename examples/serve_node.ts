/**
 * Serves the connections that this process receives with a server of `node:http`, such as that of Express or Fastify.
 *
 * @module
 */
import { receive } from "@winsock/handoff";
import type { Server } from "node:http";

/**
 * Serves connections until the source of this process is closed, and they have closed. Use it instead of
 * `server.listen`.
 */
export async function serveNode(server: Server): Promise<void> {
  // The server does not listen, and Deno would close each connection after one response.
  Object.defineProperty(server, "listening", { value: true });
  const open = new Set<Promise<void>>();
  for await (const { socket } of receive()) {
    const connection = socket.toNodeSocket();
    const closed = new Promise<void>((resolve) => connection.once("close", () => resolve()));
    open.add(closed);
    closed.then(() => open.delete(closed));
    server.emit("connection", connection);
  }
  await Promise.all(open);
}
