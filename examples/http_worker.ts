/**
 * The worker of `handoff_http.ts`: answers HTTP requests on connections that another process accepted.
 *
 * It only needs ffi access to the system's socket library, and no net permission.
 *
 * @module
 */
import { receive } from "@winsock/handoff";
import http from "node:http";
import { printStep, printSteps } from "./steps.ts";

printSteps("target");

const server = http.createServer((request, response) => {
  printStep("target", 9, `answers ${request.method} ${request.url} over the connection`);
  response.setHeader("content-type", "text/plain");
  response.end(`Hello ${request.url?.slice(1)} from process ${Deno.pid}\n`);
});
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
