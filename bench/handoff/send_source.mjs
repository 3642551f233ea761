/**
 * `subprocess.send` of Node, Bun and Deno: accepts connections and sends each to a child.
 *
 *     node send_source.mjs CONTROL_PORT
 *
 * The callback of `send` is not the child's acknowledgement but the message's leaving; there is nothing later to time.
 *
 * @module
 */
import { fork } from "node:child_process";
import net from "node:net";
import { fileURLToPath } from "node:url";
import { Latencies, serveControl } from "./control.mjs";

const latencies = new Latencies();
const child = fork(fileURLToPath(new URL("send_target.mjs", import.meta.url)));

const server = net.createServer({ pauseOnConnect: true }, (socket) => {
  const start = performance.now();
  socket.on("error", (error) => latencies.fail(error));
  child.send("socket", socket, (error) => {
    if (error) latencies.fail(error);
    else latencies.add(start);
  });
});
child.once("message", () => {
  server.listen({ host: "127.0.0.1", port: 0, backlog: 511 }, () => {
    serveControl(globalThis.process.argv[2], server.address().port, () => latencies.take(), () => child.kill());
  });
});
