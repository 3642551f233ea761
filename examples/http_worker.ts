/**
 * The worker of `handoff_http.ts`: answers HTTP requests on connections that another process accepted.
 *
 * It only needs ffi access to the system's socket library, and no net permission.
 *
 * @module
 */
import http from "node:http";
import { serveNode } from "./serve_node.ts";
import { printStep, printSteps } from "./steps.ts";

printSteps("target");

const server = http.createServer((request, response) => {
  printStep("target", 9, `answers ${request.method} ${request.url} over the connection`);
  response.setHeader("content-type", "text/plain");
  response.end(`Hello ${request.url?.slice(1)} from process ${Deno.pid}\n`);
});
await serveNode(server);
