// What serveHttp promises about requests and responses, over real connections of one process.
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { connect, listen, Socket } from "@winsock/handoff";
import { type HttpConnection, type HttpHandler, serveHttp, type ServeHttpOptions } from "@winsock/handoff/http";
import { connection } from "../kit/connections.ts";
import { RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";

Deno.test("node:http: one connection answers one request after the other", async () => {
  await using served = start((request) => new Response(new URL(request.url).pathname));
  using client = await RawClient.connect(served.port);
  for (const path of ["/1", "/2", "/3"]) {
    const { status, head, body } = await client.get(path);
    assertEquals({ status, body }, { status: 200, body: path });
    assertMatch(head, /^connection: keep-alive/im);
  }
  assertEquals(served.server.connectionCount, 1);
});

eachEngine("pipelined requests are answered in their order", async () => {
  await using served = start(async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 50));
    return new Response(pathname);
  });
  using client = await RawClient.connect(served.port);
  await client.write("GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /fast HTTP/1.1\r\nHost: a\r\n\r\n");
  assertEquals((await client.response()).body, "/slow");
  assertEquals((await client.response()).body, "/fast");
});

eachEngine("initial bytes begin the request, wherever they end", async (engine) => {
  const text = "POST /begun HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\nhello world";
  const handler: HttpHandler = async (request) => new Response(`${request.url} ${await request.text()}`);
  for (const length of [1, 4, 20, 58, text.length - 4, text.length]) {
    using pair = await connection();
    const client = pair.client.toConn();
    // What follows is there already when the server begins.
    if (length < text.length) await client.write(new TextEncoder().encode(text.slice(length)));
    const initialBytes = new TextEncoder().encode(text.slice(0, length));
    const socket = Socket.fromHandle(pair.server.detach(), { initialBytes });
    const server = serveHttp(once(socket), handler, { engine, shutdownTimeout: 2_000 });
    const answer = await within(20_000, new Response(client.readable).text());
    assertMatch(answer, /^HTTP\/1\.1 200 /);
    assertMatch(answer, /^connection: close/im);
    assertStringIncludes(answer, "http://test/begun hello world");
    await server.finished;
  }
});

Deno.test("local connections are served, and the handler is told their path", needs("local sockets"), async () => {
  const directory = await Deno.makeTempDir();
  try {
    const path = `${directory}/http`;
    const listener = listen({ path });
    const server = serveHttp(listener, (request, { localAddr, remoteAddr }) => {
      return new Response(`${new URL(request.url).host} ${localAddr.path} ${remoteAddr.transport}`);
    }, { shutdownTimeout: 100 });
    const client = (await connect({ path })).toConn();
    await client.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
    assertStringIncludes(await within(20_000, new Response(client.readable).text()), `test ${path} unix`);
    await within(20_000, server.shutdown());
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

eachEngine("the handler is told the addresses, the data and the end", async (engine) => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const told = Promise.withResolvers<unknown>();
  const completed = Promise.withResolvers<void>();
  async function* connections(): AsyncGenerator<HttpConnection> {
    yield { socket: await listener.accept(), data: { tenant: 7 } };
  }
  const server = serveHttp(connections(), (_, info) => {
    told.resolve({ remote: info.remoteAddr, local: info.localAddr, data: info.data });
    info.completed.then(completed.resolve, completed.reject);
    return new Response();
  }, { engine });
  const client = await connect({ port: listener.addr.port });
  const expected = { remote: client.localAddr, local: listener.addr, data: { tenant: 7 } };
  using conn = client.toConn();
  await conn.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
  assertEquals(await within(20_000, told.promise), expected);
  await within(20_000, completed.promise);
  await within(20_000, server.finished);
});

Deno.test("node:http: completed rejects when the client goes, and the request is aborted", async () => {
  const gone = Promise.withResolvers<{ completed: unknown; aborted: boolean }>();
  await using served = start(async (request, info) => {
    const completed = await info.completed.catch((error) => error);
    gone.resolve({ completed, aborted: request.signal.aborted });
    return new Response();
  }, { keepAliveTimeout: 200 });
  {
    using client = await RawClient.connect(served.port);
    await client.send("GET / HTTP/1.1", "Host: a", "");
    await until(() => served.server.connectionCount === 1, "it is connected");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { completed } = await within(20_000, gone.promise);
  assert(completed instanceof Error, String(completed));
});

eachEngine("what Deno's own functions do with a request works with this one", async () => {
  const handlers: Record<string, HttpHandler> = {
    "new Request(request)": (request) => new Request(request).text().then((text) => new Response(text)),
    "new Request(request, init)": async (request) => {
      const changed = new Request(request, { headers: { "x-new": "hello" } });
      await changed.text();
      return new Response(changed.headers.get("x-new"));
    },
    "new Request(url, request)": (request) =>
      new Request("http://x", request).text().then((text) => new Response(text)),
    clone: async (request) => new Response((await request.clone().text()) && await request.text()),
    bytes: async (request) => new Response(await request.bytes()),
    "bytes of the class": async (request) => new Response(await Request.prototype.bytes.call(request)),
    blob: async (request) => new Response(await request.blob()),
    "the body as it comes": (request) => new Response(request.body),
    formData: async (request) => {
      const body = new URLSearchParams({ text: await request.text() });
      return new Response(String((await new Response(body).formData()).get("text")));
    },
    instanceof: async (request) => new Response(request instanceof Request ? await request.text() : "no Request"),
  };
  await using served = start((request, info) => handlers[new URL(request.url).searchParams.get("do")!]!(request, info));
  for (const name of Object.keys(handlers)) {
    const response = await fetch(`${served.url}/?do=${encodeURIComponent(name)}`, { method: "POST", body: "hello" });
    assertEquals(await response.text(), "hello", name);
  }
});

Deno.test("node:http: a response says how long it is where that is known, and all its headers are sent", async () => {
  const cookies = new Headers([["set-cookie", "a=b"], ["set-cookie", "c=d"], ["x-text", "ä"]]);
  const long = "ä".repeat(100_000);
  const responses: Record<string, () => Response> = {
    "/text": () => new Response("hellö", { headers: cookies }),
    "/bytes": () => new Response(new Uint8Array(5), { status: 203, statusText: "As told" }),
    "/buffer": () => new Response(new Uint8Array(5).buffer),
    "/json": () => Response.json({ a: 1 }),
    "/long": () => new Response(long),
    "/nothing": () => new Response(null),
    "/204": () => new Response(null, { status: 204 }),
    "/304": () => new Response(null, { status: 304, headers: { etag: "x" } }),
    "/stream": () => new Response(new Blob(["hello"]).stream()),
    "/form": () => new Response(new URLSearchParams({ a: "b" })),
  };
  await using served = start((request) => responses[new URL(request.url).pathname]!());
  using client = await RawClient.connect(served.port);
  const length = async (path: string) => /^content-length: (\d+)/im.exec((await client.get(path)).head)?.[1];
  const lengths: Record<string, string | undefined> = {};
  for (const path of Object.keys(responses)) lengths[path] = await length(path);
  assertEquals(lengths, {
    "/text": "6",
    "/bytes": "5",
    "/buffer": "5",
    "/json": "7",
    "/long": "200000",
    "/nothing": "0",
    "/204": undefined,
    "/304": undefined,
    "/stream": undefined,
    "/form": "3",
  });
  assertMatch((await client.get("/text")).head, /^set-cookie: a=b\r\nset-cookie: c=d\r\nx-text: \xe4\r$/im);
  assertMatch((await client.get("/bytes")).head, /^HTTP\/1.1 203 As told\r\n/);
  assertEquals(await (await fetch(`${served.url}/long`)).text(), long);
  await client.send("HEAD /long HTTP/1.1", "Host: a", "Connection: close", "");
  assertMatch(await client.rest(), /^content-length: 200000\r\n(.+\r\n)*\r\n$/im);
});

eachEngine("a response that was sent already is answered as an error", async () => {
  const errors: unknown[] = [];
  const response = new Response("once");
  await using served = start(() => response, { onError: (error) => void errors.push(error) });
  using client = await RawClient.connect(served.port);
  assertEquals((await client.get("/")).body, "once");
  assertEquals((await client.get("/")).status, 500);
  assert(errors[0] instanceof TypeError);
});

eachEngine("a handler that throws answers 500, and onError hears of it", async () => {
  const errors: unknown[] = [];
  const onError = (error: unknown, request?: Request) => {
    errors.push(error);
    return request?.url.endsWith("/teapot") ? new Response("short and stout", { status: 418 }) : undefined;
  };
  await using served = start((request) => {
    if (request.url.endsWith("/async")) return Promise.reject("later");
    if (request.url.endsWith("/nothing")) return undefined as unknown as Response;
    throw "at once";
  }, { onError });
  using client = await RawClient.connect(served.port);
  assertEquals((await client.get("/")).status, 500);
  assertEquals((await client.get("/async")).status, 500);
  assertEquals((await client.get("/nothing")).status, 500);
  assertEquals((await client.get("/teapot")).body, "short and stout");
  assertEquals(errors.map(String), [
    "at once",
    "later",
    "TypeError: Cannot send a response: the handler did not return a Response",
    "at once",
  ]);
});

eachEngine("a response that breaks off ends the connection, and onError hears of it once", async (engine) => {
  const errors: unknown[] = [];
  let count = 0;
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
    if (count++ === 3) throw new Error("the disk is gone");
    await new Promise((resolve) => setTimeout(resolve, 20));
    controller.enqueue(new Uint8Array(10).fill(65));
  };
  await using served = start(() => new Response(new ReadableStream({ pull })), {
    engine,
    onError: (error) => void errors.push(error),
  });
  using client = await RawClient.connect(served.port);
  await client.send("GET / HTTP/1.1", "Host: a", "");
  assert(!(await client.rest()).endsWith("0\r\n\r\n"), "the client can tell that something is missing");
  await until(() => errors.length > 0, "it is told");
  assertEquals(errors.map(String), ["Error: the disk is gone"]);
});

eachEngine("a client that leaves cancels the response", async () => {
  const cancelled = Promise.withResolvers<void>();
  const body = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(65_536)),
    cancel: () => cancelled.resolve(),
  }, { highWaterMark: 0 });
  const errors: unknown[] = [];
  await using served = start(() => new Response(body), { onError: (error) => void errors.push(error) });
  const client = await RawClient.connect(served.port);
  await client.send("GET / HTTP/1.1", "Host: a", "");
  await client.conn.read(new Uint8Array(10));
  client[Symbol.dispose]();
  await within(20_000, cancelled.promise);
  assertEquals(errors, []);
});

Deno.test("node:http: a client that leaves in the middle of a body ends the reading, and is no error", async () => {
  const ended = Promise.withResolvers<unknown>();
  const errors: unknown[] = [];
  await using served = start(async (request) => {
    try {
      await request.text();
    } catch (error) {
      ended.resolve(error);
      throw error;
    }
    ended.resolve("it came whole");
    return new Response();
  }, { onError: (error) => void errors.push(error) });
  {
    using client = await RawClient.connect(served.port);
    await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 1000", "", "begun");
    await until(() => served.server.connectionCount === 1, "it is connected");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert(await within(20_000, ended.promise) instanceof Error);
  await until(() => served.server.connectionCount === 0, "the connection is gone");
  assertEquals(errors, []);
});

Deno.test("node:http: Expect: the client is told to go on when the body is read, and not when it is refused", async () => {
  await using served = start(async (request) => {
    if (request.url.endsWith("/refused")) return new Response("no", { status: 413 });
    return new Response(await request.text());
  });
  const head = (path: string) => [`POST ${path} HTTP/1.1`, "Host: a", "Content-Length: 5", "Expect: 100-continue", ""];
  using client = await RawClient.connect(served.port);
  await client.send(...head("/read"));
  assertEquals((await client.response()).status, 100);
  await client.write("hello");
  assertEquals((await client.response()).body, "hello");

  await client.send(...head("/refused"));
  const { status, head: answer } = await client.response();
  assertEquals(status, 413);
  assertMatch(answer, /^connection: close/im);
});

Deno.test("node:http: headers that are too long or too slow, and requests that are too slow, are answered", async () => {
  await using served = start(async (request) => new Response(await request.text()), {
    headersTimeout: 200,
    requestTimeout: 400,
    maxHeaderSize: 2_000,
    onError: () => {},
  });
  using long = await RawClient.connect(served.port);
  assertEquals((await long.get("/", `X-Long: ${"x".repeat(3_000)}`)).status, 431);
  using slow = await RawClient.connect(served.port);
  await slow.write("GET / HTTP/1.1\r\nHost: a\r\n");
  assertEquals((await slow.response()).status, 408);
  using silent = await RawClient.connect(served.port);
  assertEquals((await silent.response()).status, 408);
  using stalled = await RawClient.connect(served.port);
  await stalled.send("POST / HTTP/1.1", "Host: a", "Content-Length: 1000", "", "begun");
  assertEquals((await stalled.response()).status, 408);
  using noHost = await RawClient.connect(served.port);
  await noHost.send("GET / HTTP/1.1", "");
  assertEquals((await noHost.response()).status, 400);
});

eachEngine("a connection is closed when it has waited for its next request", async () => {
  await using served = start(() => new Response("once"), { keepAliveTimeout: 50 });
  using client = await RawClient.connect(served.port);
  assertEquals((await client.get("/")).body, "once");
  assertEquals(await client.rest(), "");
});

eachEngine("no more connections are taken than allowed; the rest wait", async () => {
  let taken = 0;
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  async function* connections() {
    for await (const socket of listener) {
      taken++;
      yield socket;
    }
  }
  const server = serveHttp(connections(), () => new Response(), { maxConnections: 2, shutdownTimeout: 0 });
  const clients: RawClient[] = [];
  for (let count = 0; count < 4; count++) clients.push(await RawClient.connect(listener.addr.port));
  await until(() => server.connectionCount === 2, "two are taken");
  assertEquals((await clients[0]!.get("/", "Connection: close")).status, 200);
  await until(() => taken === 3, "a third takes the place of the first");
  await new Promise((resolve) => setTimeout(resolve, 100));
  assertEquals([taken, server.connectionCount], [3, 2]);
  listener.close();
  await within(20_000, server.shutdown());
  for (const client of clients) client[Symbol.dispose]();
});

eachEngine("a shutdown waits no longer than it was told, whatever the handler does", async () => {
  await using served = start(() => new Promise<Response>(() => {}), { shutdownTimeout: 200 });
  using client = await RawClient.connect(served.port);
  await client.send("GET / HTTP/1.1", "Host: a", "");
  await until(() => served.server.connectionCount === 1, "the connection is taken");
  await within(4_000, served.server.shutdown());
  assertEquals(await client.rest(), "");
});

eachEngine("connections that fail end the server, which says why", async () => {
  async function* connections(): AsyncGenerator<Socket> {
    yield* once();
    throw new Error("the source is gone");
  }
  const errors: unknown[] = [];
  const server = serveHttp(connections(), () => new Response(), { onError: (error) => void errors.push(error) });
  await assertRejects(() => server.finished, Error, "the source is gone");
  assertEquals(errors.map(String), ["Error: the source is gone"]);
});

Deno.test("options out of their range are refused", () => {
  const serve = (options: ServeHttpOptions) => () => serveHttp(once(), () => new Response(), options);
  assertThrows(serve({ maxConnections: 0 }), RangeError, "Invalid `maxConnections`: must be an integer from 1 ");
  assertThrows(serve({ headersTimeout: 1.5 }), RangeError, "Invalid `headersTimeout`: must be an integer from 1 ");
  assertThrows(serve({ sendTimeout: -1 }), RangeError, "Invalid `sendTimeout`: must be an integer from 0 ");
  assertThrows(serve({ minSendRate: NaN }), RangeError, "Invalid `minSendRate`: must be an integer from 0 ");
  assertThrows(serve({ maxBufferedAmount: 0 }), RangeError, "Invalid `maxBufferedAmount`: must be an integer from 1 ");
  assertThrows(serve({ headersTimeout: 500, requestTimeout: 100 }), RangeError, "must be at most 100 (requestTimeout)");
});

async function* once(...sockets: Socket[]): AsyncGenerator<Socket> {
  yield* sockets;
}
