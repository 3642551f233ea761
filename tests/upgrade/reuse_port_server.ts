// The same server with SO_REUSEPORT: each version listens anew, the old one stops when it is told.
import type { Server } from "node:net";
import http from "node:http";

const [port = "0"] = Deno.args;
const server = http.createServer((_request, response) => {
  if (stopping) response.setHeader("connection", "close");
  response.end(`${Deno.pid} ${"x".repeat(2_000)}`);
});
let stopping = false;
const options = { host: "127.0.0.1", port: Number(port), backlog: 511, reusePort: true };
(server as unknown as Server).listen(options as never, () => {
  console.log(JSON.stringify({ pid: Deno.pid, port: (server.address() as { port: number }).port }));
});
await Deno.stdin.read(new Uint8Array(1));
stopping = true;
server.close();
setTimeout(() => Deno.exit(0), 5_000);
