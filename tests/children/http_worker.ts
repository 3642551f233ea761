// Serves HTTP on the connections it is handed, with the app its first argument names, by the engine that the second names,
// or over TLS. Says what it has when it leaves.
import { receive } from "@winsock/handoff";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { type HttpHandler, serveHttp } from "@winsock/handoff/http";

const [name = "plain", how] = Deno.args;

/** What every app does: says who answers, hashes what it is sent, sends as much as is wanted, echoes WebSockets. */
const plain: HttpHandler = async (request, info) => {
  const { pathname, searchParams } = new URL(request.url);
  switch (pathname) {
    case "/hash":
      return new Response(await hash(request.body!));
    case "/bytes":
      return new Response(bytes(Number(searchParams.get("length"))));
    case "/slow":
      await new Promise((resolve) => setTimeout(resolve, 100));
      return new Response(`${Deno.pid}`);
    case "/pid":
      return new Response(`${Deno.pid}`);
    case "/ws": {
      const { socket, response } = info.upgradeWebSocket();
      socket.onmessage = ({ data }) => socket.send(data);
      return response;
    }
    default:
      return Response.json({ pid: Deno.pid, remoteAddr: info.remoteAddr, data: info.data ?? null });
  }
};

const server = serveHttp(receive(), await app(), {
  keepAliveTimeout: 500,
  headersTimeout: 2_000,
  ...how === "tls" ? { tls: CERTIFICATE } : { engine: (how ?? "auto") as "auto" },
});
await server.finished;
console.log(`worker ${Deno.pid} leaves with ${server.connectionCount} connections`);

async function app(): Promise<HttpHandler> {
  if (name === "hono") {
    const { Hono } = await import("npm:hono@4.13.19");
    const hono = new Hono<{ Bindings: Parameters<HttpHandler>[1] }>();
    hono.use(async (c, next) => {
      await next();
      c.header("x-app", "hono");
    });
    hono.post("/hash", async (c) => c.text(await hash(c.req.raw.body!)));
    hono.post("/json", async (c) => c.json(await c.req.json()));
    hono.get("/hello/:name", (c) => c.text(`Hello ${c.req.param("name")} from ${c.env.remoteAddr.hostname}`));
    hono.all("*", (c) => plain(c.req.raw, c.env));
    return hono.fetch;
  }
  if (name === "oak") {
    const { Application, Router } = await import("npm:@oakserver/oak@14.1.0");
    const router = new Router();
    router.post("/hash", async (context) => {
      context.response.body = await hash(context.request.body.stream!);
    });
    router.post("/json", async (context) => {
      context.response.body = await context.request.body.json();
    });
    router.get("/hello/:name", (context) => {
      context.response.body = `Hello ${context.params.name} from ${context.request.ip}`;
    });
    router.get("/bytes", (context) => {
      context.response.body = bytes(Number(context.request.url.searchParams.get("length")));
    });
    router.get("/pid", (context) => {
      context.response.body = `${Deno.pid}`;
    });
    const oak = new Application();
    oak.use(async (context, next) => {
      await next();
      context.response.headers.set("x-app", "oak");
    });
    oak.use(router.routes());
    // Its types are those of Node's fetch.
    const handle = oak.handle as unknown as (
      request: Request,
      remoteAddr: Deno.NetAddr,
    ) => Promise<Response | undefined>;
    return async (request, { remoteAddr }) => await handle(request, remoteAddr) ?? new Response(null, { status: 404 });
  }
  return plain;
}

/** SHA-256 of a stream, as it comes. */
async function hash(body: ReadableStream<Uint8Array>): Promise<string> {
  const { createHash } = await import("node:crypto");
  const sum = createHash("sha256");
  for await (const chunk of body) sum.update(chunk);
  return sum.digest("hex");
}

function bytes(length: number): ReadableStream<Uint8Array> {
  let left = length;
  return new ReadableStream({
    pull(controller) {
      const chunk = new Uint8Array(Math.min(left, 65_536));
      for (let index = 0; index < chunk.length; index++) chunk[index] = (left + index) % 251;
      left -= chunk.length;
      if (chunk.length > 0) controller.enqueue(chunk);
      if (left === 0) controller.close();
    },
  });
}
