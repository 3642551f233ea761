// What handlers get of a request, where that is told by more than its first lines.
import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { connect, listen } from "@winsock/handoff";
import { type HttpHandler, serveHttp } from "@winsock/handoff/http";
import { RawClient } from "../kit/http_client.ts";
import { start } from "../kit/http_server.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";

Deno.test("Expect: a response made of the request's body begins when the client may send it", async () => {
  const handlers: Record<string, HttpHandler> = {
    "/body": (request) => new Response(request.body),
    "/through": (request) => new Response(request.body!.pipeThrough(new TransformStream())),
    "/length": (request) => new Response(request.body, { headers: { "content-length": "5" } }),
  };
  await using served = start((request, info) => handlers[new URL(request.url).pathname]!(request, info));
  for (const path of Object.keys(handlers)) {
    using client = await RawClient.connect(served.port);
    await client.send(`POST ${path} HTTP/1.1`, "Host: a", "Content-Length: 5", "Expect: 100-continue", "");
    assertEquals((await client.response()).status, 100, path);
    await client.write("hello");
    const { status, body } = await client.response();
    assertEquals([status, body], [200, "hello"], path);
  }
});

Deno.test("Expect: nobody is told to go on when the response has begun", async () => {
  const begun = Promise.withResolvers<void>();
  await using served = start((request) => {
    const body = new ReadableStream<Uint8Array>({
      async start(controller) {
        controller.enqueue(new TextEncoder().encode("begun"));
        await begun.promise;
        request.text().catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 50));
        controller.close();
      },
    });
    return new Response(body as ReadableStream<Uint8Array<ArrayBuffer>>);
  });
  using client = await RawClient.connect(served.port);
  await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Expect: 100-continue", "");
  const response = client.response();
  setTimeout(begun.resolve, 100);
  const { status, body } = await response;
  assertEquals([status, body], [200, "begun"]);
  assertEquals(await client.rest(), "");
});

Deno.test("the signal is aborted with an AbortError, whatever is read of the request", async () => {
  for (const read of [false, true]) {
    const aborted = Promise.withResolvers<unknown>();
    await using served = start(async (request) => {
      request.signal.addEventListener("abort", () => aborted.resolve(request.signal.reason));
      if (read) await request.text().catch(() => {});
      return await new Promise<Response>(() => {});
    });
    {
      using client = await RawClient.connect(served.port);
      await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 10", "", "begun");
      await until(() => served.server.connectionCount === 1, "it is connected");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const reason = await within(5_000, aborted.promise);
    assertInstanceOf(reason, DOMException);
    assertEquals(reason.name, "AbortError");
  }
});

Deno.test("the signal of a request that was answered is not aborted, also if it is asked for late", async () => {
  const requests: Request[] = [];
  await using served = start((request) => {
    if (requests.push(request) === 1) void request.signal;
    return new Response("x");
  });
  {
    using client = await RawClient.connect(served.port);
    for (const path of ["/1", "/2"]) assertEquals((await client.get(path)).body, "x");
  }
  await until(() => served.server.connectionCount === 0, "the connection is gone");
  assertEquals(requests.map(({ signal }) => signal.aborted), [false, false]);
});

Deno.test("the signal that is first asked for when the client has gone is aborted", async () => {
  const told = Promise.withResolvers<unknown>();
  await using served = start(async (request, info) => {
    await info.completed.catch(() => {});
    told.resolve(request.signal.reason);
    return new Response();
  }, { keepAliveTimeout: 200 });
  {
    using client = await RawClient.connect(served.port);
    await client.send("GET / HTTP/1.1", "Host: a", "");
    await until(() => served.server.connectionCount === 1, "it is connected");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assertEquals((await within(5_000, told.promise) as DOMException).name, "AbortError");
});

Deno.test("several Cookie lines are one, however the headers are looked at", async () => {
  const looks: Record<string, (request: Request) => string | null | undefined> = {
    "/get": ({ headers }) => headers.get("cookie"),
    "/iterate": ({ headers }) => [...headers].find(([name]) => name === "cookie")?.[1],
    "/headers": ({ headers }) => new Headers(headers).get("cookie"),
    "/request": (request) => new Request(request).headers.get("cookie"),
    "/clone": (request) => request.clone().headers.get("cookie"),
    "/after": (request) => {
      const headers = new Headers(request.headers);
      headers.set("x-new", "1");
      return headers.get("cookie");
    },
  };
  await using served = start((request) => new Response(String(looks[new URL(request.url).pathname]!(request))));
  using client = await RawClient.connect(served.port);
  for (const path of Object.keys(looks)) {
    const { body } = await client.get(path, "Cookie: a=b", "X-Other: 1", "cookie: c=d", "COOKIE: e=f");
    assertEquals(body, "a=b; c=d; e=f", path);
  }
  assertEquals((await client.get("/iterate", "Cookie: a=b")).body, "a=b");
  assertEquals((await client.get("/iterate")).body, "undefined");
});

Deno.test("several Host lines are answered 400, and the connection is closed", async () => {
  await using served = start(() => new Response("reached"));
  for (const more of [["host: b"], ["Host: test"], ["HOST: b", "Connection: Upgrade", "Upgrade: websocket"]]) {
    using client = await RawClient.connect(served.port);
    const { status, head } = await client.get("/", ...more);
    assertEquals(status, 400);
    assert(/^connection: close/im.test(head), head);
    assertEquals(await client.rest(), "");
  }
});

Deno.test("a request without Host on a local connection has a URL of localhost", needs("local sockets"), async () => {
  const directory = await Deno.makeTempDir();
  try {
    const path = `${directory}/http`;
    const handler = (request: Request) => new Response(`${request.url} ${[...request.headers]}`);
    const server = serveHttp(listen({ path }), handler, { shutdownTimeout: 100 });
    const client = (await connect({ path })).toConn();
    await client.write(new TextEncoder().encode("GET /x HTTP/1.0\r\n\r\n"));
    const answer = await within(20_000, new Response(client.readable).text());
    assertEquals(answer.split("\r\n\r\n")[1], "http://localhost/x ");
    await within(20_000, server.shutdown());
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
