// The same application with four frameworks, each by its own means where it has some.
import type { HttpHandler } from "@winsock/handoff/http";
import { Application, Router } from "npm:@oakserver/oak@14.1.0";
import { createEventStream, getCookie, H3, setCookie } from "npm:h3@2.0.8";
import { type Context, Hono } from "npm:hono@4.13.19";
import { bodyLimit } from "npm:hono@4.13.19/body-limit";
import { getCookie as cookieOf, setCookie as setCookieOf } from "npm:hono@4.13.19/cookie";
import { streamSSE, streamText } from "npm:hono@4.13.19/streaming";

/** The longest body that `/limited` takes. */
export const LIMIT = 1_000;
/** How long `/upload` reads nothing, in milliseconds. */
export const PAUSE = 150;

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const encode = (text: string) => new TextEncoder().encode(text);

/** Three parts of a response, some time apart. */
async function* parts(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (const part of ["one", "two", "three"]) {
    yield encode(part);
    await sleep(30);
  }
}

async function* events(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (let id = 0; id < 3; id++) yield encode(`id: ${id}\ndata: event ${id}\n\n`);
}

/** Takes its time before it reads, and counts what comes. */
async function count(body: ReadableStream<Uint8Array>): Promise<string> {
  await sleep(PAUSE);
  let length = 0;
  for await (const bytes of body) length += bytes.length;
  return `${length}`;
}

const FILE = "0123456789";

/** A part of a file, as a static server sends it. */
function rangeOf(range: string | null | undefined): Response {
  const [, from = "", to = ""] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  if (from === "") return new Response(FILE, { headers: { "accept-ranges": "bytes" } });
  const last = to === "" ? FILE.length - 1 : Number(to);
  const headers = { "content-range": `bytes ${from}-${last}/${FILE.length}`, "accept-ranges": "bytes" };
  return new Response(FILE.slice(Number(from), last + 1), { status: 206, headers });
}

const both = async (request: Request) => `${await request.clone().text()} ${await request.text()}`;
const upstreamOf = (request: Request) => new URL(request.url).searchParams.get("upstream")!;

const plain: HttpHandler = async (request) => {
  switch (new URL(request.url).pathname) {
    case "/limited":
      return new Response(await request.text());
    case "/stream":
      return new Response(ReadableStream.from(parts()));
    case "/events":
      return new Response(ReadableStream.from(events()), { headers: { "content-type": "text/event-stream" } });
    case "/clone":
      return new Response(await both(request));
    case "/proxy":
      return await fetch(upstreamOf(request), request);
    case "/cookies": {
      const visits = Number(/visits=(\d+)/.exec(request.headers.get("cookie") ?? "")?.[1] ?? 0) + 1;
      return new Response(`${visits}`, { headers: [["set-cookie", `visits=${visits}`], ["set-cookie", "theme=dark"]] });
    }
    case "/file":
      return rangeOf(request.headers.get("range"));
    case "/upload":
      return new Response(await count(request.body!));
    default:
      return new Response(null, { status: 404 });
  }
};

function hono(): HttpHandler {
  const app = new Hono();
  app.post("/limited", bodyLimit({ maxSize: LIMIT }), async (c) => c.text(await c.req.text()));
  app.get("/stream", (c) =>
    streamText(c, async (stream) => {
      for await (const part of parts()) await stream.write(part);
    }));
  app.get("/events", (c) =>
    streamSSE(c, async (stream) => {
      for (let id = 0; id < 3; id++) await stream.writeSSE({ id: `${id}`, data: `event ${id}` });
    }));
  app.post("/clone", async (c) => c.text(await both(c.req.raw)));
  app.post("/proxy", (c) => fetch(upstreamOf(c.req.raw), c.req.raw));
  app.get("/cookies", (c: Context) => {
    const visits = Number(cookieOf(c, "visits") ?? 0) + 1;
    setCookieOf(c, "visits", `${visits}`);
    setCookieOf(c, "theme", "dark");
    return c.text(`${visits}`);
  });
  app.get("/file", (c) => rangeOf(c.req.header("range")));
  app.post("/upload", async (c) => c.text(await count(c.req.raw.body!)));
  return app.fetch;
}

function h3(): HttpHandler {
  const app = new H3();
  app.post("/limited", (event) => event.req.text());
  app.get("/stream", () => ReadableStream.from(parts()));
  app.get("/events", (event) => {
    const stream = createEventStream(event);
    (async () => {
      for (let id = 0; id < 3; id++) await stream.push({ id: `${id}`, data: `event ${id}` });
      await stream.close();
    })();
    return stream.send();
  });
  app.post("/clone", (event) => both(event.req as Request));
  app.post("/proxy", (event) => fetch(upstreamOf(event.req as Request), event.req as Request));
  app.get("/cookies", (event) => {
    const visits = Number(getCookie(event, "visits") ?? 0) + 1;
    setCookie(event, "visits", `${visits}`);
    setCookie(event, "theme", "dark");
    return `${visits}`;
  });
  app.get("/file", (event) => rangeOf(event.req.headers.get("range")));
  app.post("/upload", (event) => count(event.req.body!));
  return (request) => app.fetch(request);
}

function oak(): HttpHandler {
  const router = new Router();
  router.post("/limited", async (context) => {
    context.response.body = await context.request.body.text();
  });
  router.get("/stream", (context) => {
    context.response.body = ReadableStream.from(parts());
  });
  // `context.sendEvents` answers past `app.handle`, with any server.
  router.get("/events", (context) => {
    context.response.type = "text/event-stream";
    context.response.body = ReadableStream.from(events());
  });
  router.post("/clone", async (context) => {
    context.response.body = await both(context.request.source as unknown as Request);
  });
  router.post("/proxy", async (context) => {
    const request = context.request.source as unknown as Request;
    const { body, status, headers } = await fetch(upstreamOf(request), request);
    Object.assign(context.response, { body, status });
    context.response.headers.set("x-upstream", headers.get("x-upstream")!);
  });
  router.get("/cookies", async (context) => {
    const visits = Number(await context.cookies.get("visits") ?? 0) + 1;
    await context.cookies.set("visits", `${visits}`);
    await context.cookies.set("theme", "dark");
    context.response.body = `${visits}`;
  });
  router.get("/file", async (context) => {
    const { status, headers, body } = rangeOf(context.request.headers.get("range"));
    Object.assign(context.response, { status, body: await new Response(body).text() });
    headers.forEach((value, name) => context.response.headers.set(name, value));
  });
  router.post("/upload", async (context) => {
    context.response.body = await count(context.request.body.stream!);
  });
  const app = new Application();
  app.use(router.routes());
  // Its types are those of Node's fetch.
  const handle = app.handle as unknown as (request: Request, address: Deno.NetAddr) => Promise<Response | undefined>;
  return async (request, { remoteAddr }) => await handle(request, remoteAddr) ?? new Response(null, { status: 404 });
}

/** The handlers of the application, by framework. */
export const APPS: Record<string, HttpHandler> = { plain, Hono: hono(), h3: h3(), Oak: oak() };
