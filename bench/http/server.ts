// One server of the benchmark: prints its port, and serves until it is ended.
import { listen } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";
import http from "node:http";
import type { AddressInfo } from "node:net";

const handler = () => new Response("hello world");
const listener: http.RequestListener = (_, response) => {
  response.setHeader("content-type", "text/plain");
  response.end("hello world");
};

switch (Deno.args[0]) {
  case "serveHttp":
  case "serveHttp by node:http": {
    const adopted = listen({ hostname: "127.0.0.1", port: 0 });
    console.log(adopted.addr.port);
    serveHttp(adopted, handler, { engine: Deno.args[0] === "serveHttp" ? "auto" : "node:http" });
    break;
  }
  case "node:http by plain calls":
  case "adopted node:http": {
    const adopted = listen({ hostname: "127.0.0.1", port: 0 });
    console.log(adopted.addr.port);
    const server = http.createServer(listener);
    Object.defineProperty(server, "listening", { value: true });
    const native = Deno.args[0] === "adopted node:http";
    for await (const socket of adopted) {
      const stream = socket.toNodeSocket({ native });
      stream.setNoDelay(true);
      server.emit("connection", stream);
    }
    break;
  }
  case "Deno's node:http":
    serve(listener);
    break;
  case "Deno.serve":
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, handler);
    break;
}

function serve(listener: http.RequestListener): void {
  const server = http.createServer(listener);
  server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
}
