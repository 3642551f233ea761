// Serves HTTP on the connections it is handed, by the engine that its argument names, until a request for /finish.
import { receive } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";

const server = serveHttp(receive(), (request) => {
  if (new URL(request.url).pathname === "/finish") setTimeout(() => server.shutdown(), 1);
  return new Response(`${Deno.pid}`, { headers: { connection: "close" } });
}, Deno.args[0] === "Deno.serve" ? { engine: Deno.args[0] } : {});
await server.finished;
