// A server whose handlers leave the bodies of requests in every way there is. Says its port, and answers /state with what
// it has and what onError was told. Arguments: the engine, and "tls".
import { listen } from "@winsock/handoff";
import { type HttpHandler, serveHttp } from "@winsock/handoff/http";
import { CERTIFICATE } from "../../examples/certificate.ts";

const [engine, tls] = Deno.args;
const errors: string[] = [];

/** What the program does with a body. Those whose name ends in "fault" fail in a way that is the program's own. */
const HANDLERS: Record<string, (request: Request) => Response | Promise<Response>> = {
  "/limit": async ({ body }) => {
    let length = 0;
    for await (const bytes of body!) {
      length += bytes.length;
      if (length > 100_000) return new Response("too much", { status: 413 });
    }
    return new Response(`${length}`);
  },
  "/cancel": async ({ body }) => {
    const reader = body!.getReader();
    await reader.read();
    await reader.cancel("enough");
    return new Response("cancelled");
  },
  "/cancel-unread": async ({ body }) => {
    await body!.cancel();
    return new Response("cancelled");
  },
  "/cancel-later": ({ body }) => {
    const reader = body!.getReader();
    reader.read().catch(() => {});
    setTimeout(() => reader.cancel().catch(() => {}), 1);
    return new Response("accepted", { status: 202 });
  },
  "/byob": async ({ body }) => {
    const reader = body!.getReader({ mode: "byob" });
    const { value } = await reader.read(new Uint8Array(1_000));
    await reader.cancel();
    return new Response(`${value!.length}`);
  },
  "/release": async ({ body }) => {
    const reader = body!.getReader();
    await reader.read();
    reader.releaseLock();
    return new Response("released");
  },
  "/abandon": async ({ body }) => {
    await body!.getReader().read();
    return new Response("left");
  },
  "/tee": async ({ body }) => {
    const [one, other] = body!.tee();
    await one.getReader().read();
    one.cancel().catch(() => {});
    other.cancel().catch(() => {});
    return new Response("teed");
  },
  "/clone": async (request) => {
    const clone = request.clone();
    await clone.body!.getReader().read();
    return new Response("cloned");
  },
  "/pipe-fault": async ({ body }) => {
    const sink = new WritableStream({ write: () => Promise.reject(new Error("the disk is full")) });
    await body!.pipeTo(sink);
    return new Response("piped");
  },
  "/transform-fault": async ({ body }) => {
    const transform = new TransformStream({
      transform: () => {
        throw new Error("this is no gzip");
      },
    });
    return new Response(await new Response(body!.pipeThrough(transform)).text());
  },
  "/loop-fault": async ({ body }) => {
    for await (const bytes of body!) if (bytes.length > 0) throw new Error("I do not like it");
    return new Response("nothing");
  },
  "/echo": ({ body }) => new Response(body),
  "/text": async (request) => new Response(`${(await request.text()).length}`),
  "/unread": () => new Response("unread", { status: 413 }),
  "/decompress-fault": async ({ body }) =>
    new Response(await new Response(body!.pipeThrough(new DecompressionStream("gzip"))).text()),
};

const handler: HttpHandler = (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === "/state") return Response.json({ connections: server.connectionCount, errors });
  return HANDLERS[pathname]!(request);
};

const listener = listen({ hostname: "127.0.0.1", port: 0 });
const server = serveHttp(listener, handler, {
  engine: engine as "node:http",
  onError: (error) => void errors.push(String(error)),
  ...tls === "tls" ? { tls: CERTIFICATE } : {},
});
console.log(listener.addr.port);
await server.finished;
