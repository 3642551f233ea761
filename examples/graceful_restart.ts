/**
 * An HTTP server that replaces itself by its next version without refusing a connection.
 *
 *     deno run --allow-run --allow-env=WINSOCK_HANDOFF_PREDECESSOR \
 *       --allow-read=server.control --allow-write=server.control --allow-ffi=… examples/graceful_restart.ts
 *     deno run --allow-read --allow-ffi=… cli/mod.ts upgrade server.control       # or: kill -HUP PID
 *
 * The next version runs this file as it is on disk then: change the greeting, and upgrade.
 *
 * @module
 */
import { inherit, onUpgradeRequest, upgrade } from "@winsock/handoff";
import http from "node:http";

const GREETING = "Hello";
const CONTROL_FILE = "server.control";
const DRAIN_MS = 5_000;

const [port = "8080"] = Deno.args;
const version = await inherit();
const listener = version.listen("http", { hostname: "127.0.0.1", port: Number(port) });

let retired = false;
const server = http.createServer((_request, response) => {
  // A client with a kept connection connects again, to the next version.
  if (retired) response.setHeader("connection", "close");
  response.end(`${GREETING} from process ${Deno.pid}\n`);
});
// The server does not listen, and Deno would close each connection after one response.
Object.defineProperty(server, "listening", { value: true });

version.retired.then(() => retired = true);
await version.markReady();
const { addr } = listener;
onUpgradeRequest(() => {
  return upgrade(version, {
    script: import.meta.url,
    args: [String(addr.port)],
    drainTimeout: DRAIN_MS,
  });
}, {
  controlFile: CONTROL_FILE,
  ...Deno.build.os === "windows" ? {} : { osSignal: "SIGHUP" },
  onUpgraded: () => Deno.exit(),
});

console.log(`Process ${Deno.pid} serves http://${addr.hostname}:${addr.port}`);

for await (const socket of listener) server.emit("connection", socket.toNodeSocket());
