/**
 * A worker of `http_pool.ts`: a Hono app on the connections that it receives, including WebSockets.
 *
 * @module
 */
import { receive } from "@winsock/handoff";
import { type HttpInfo, serveHttp } from "@winsock/handoff/http";
import { Hono } from "npm:hono@4.13.19";

const app = new Hono<{ Bindings: HttpInfo }>();
app.get("/", (c) => c.text(`Hello ${c.env.remoteAddr.hostname} from process ${Deno.pid}\n`));
app.post("/echo", (c) => new Response(c.req.raw.body));
app.get("/ws", (c) => {
  const { socket, response } = c.env.upgradeWebSocket();
  socket.onmessage = ({ data }) => socket.send(data);
  return response;
});

await serveHttp(receive(), app.fetch).finished;
