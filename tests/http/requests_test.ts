// What handlers get of a request, where that is told by more than its first lines.
import { assert, assertEquals, assertInstanceOf, assertMatch } from "@std/assert";
import type { HttpHandler } from "@winsock/handoff/http";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";

eachEngine("Expect: a response made of the request's body begins when the client may send it", async () => {
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

Deno.test("node:http: Expect: nobody is told to go on when the response has begun", async () => {
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

Deno.test("node:http: the signal is aborted with an AbortError, whatever is read of the request", async () => {
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

Deno.test("node:http: the signal of a request that was answered is not aborted, also if it is asked for late", async () => {
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

Deno.test("node:http: the signal that is first asked for when the client has gone is aborted", async () => {
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

eachEngine("several Cookie lines are one, however the headers are looked at", async () => {
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

eachEngine("several Host lines are answered 400, and the connection is closed", async () => {
  await using served = start(() => new Response("reached"));
  for (const more of [["host: b"], ["Host: test"], ["HOST: b", "Connection: Upgrade", "Upgrade: websocket"]]) {
    using client = await RawClient.connect(served.port);
    const { status, head } = await client.get("/", ...more);
    assertEquals(status, 400);
    assert(/^connection: close/im.test(head), head);
    assertEquals(await client.rest(), "");
  }
});

eachEngine("a request that was used stays used", async (engine) => {
  const uses: Record<string, (request: Request) => Promise<unknown>> = {
    text: (request) => request.text(),
    drain: async ({ body }) => {
      for await (const _ of body!);
    },
    cancel: ({ body }) => body!.cancel(),
    tee: (request) => Promise.resolve(request.body!.tee()),
  };
  await using served = start(async (request) => {
    await uses[new URL(request.url).pathname.slice(1)]!(request);
    const said: unknown[] = [];
    for (
      const again of [
        () => request.text(),
        () => request.clone().text(),
        () => new Request(request).text(),
        () => fetch("http://127.0.0.1:1/", request),
      ]
    ) {
      try {
        said.push(await again());
      } catch (error) {
        said.push((error as Error).name);
      }
    }
    return Response.json([request.bodyUsed || request.body!.locked, ...said]);
  }, { engine });
  for (const use of Object.keys(uses)) {
    const response = await fetch(`${served.url}/${use}`, { method: "POST", body: "hello" });
    assertEquals(await response.json(), [true, "TypeError", "TypeError", "TypeError", "TypeError"], use);
  }
});

eachEngine(
  "a request is Deno's own: a proxy, a copy in JSON, its headers",
  async (engine) => {
    await using upstream = start(async (request) => new Response(`${request.method} ${await request.text()}`), {
      engine,
    });
    const handlers: Record<string, HttpHandler> = {
      "/proxy": (request) => fetch(upstream.url, request),
      "/proxy-url": async (request) => await fetch(new Request(upstream.url, request)),
      "/json": (request) => new Response(JSON.stringify(request)),
      "/tag": (request) => new Response(Object.prototype.toString.call(request)),
      "/own": (request) => new Response(String(Object.getPrototypeOf(request) === Request.prototype)),
      "/set": (request) => {
        try {
          request.headers.set("x", "y");
          return new Response("changed");
        } catch (error) {
          return new Response((error as Error).name);
        }
      },
    };
    await using served = start((request, info) => handlers[new URL(request.url).pathname]!(request, info), { engine });
    const said: Record<string, string> = {};
    for (const path of Object.keys(handlers)) {
      const response = await fetch(served.url + path, { method: "POST", body: "hello" });
      said[path] = await response.text();
    }
    assertEquals(said, {
      "/proxy": "POST hello",
      "/proxy-url": "POST hello",
      "/json": "{}",
      "/tag": "[object Request]",
      "/own": "true",
      "/set": "TypeError",
    });
  },
);

Deno.test("node:http: a body is read into buffers of the reader's own", async () => {
  await using served = start(async ({ body }) => {
    const reader = body!.getReader({ mode: "byob" });
    let text = "";
    for (let buffer = new Uint8Array(2);;) {
      const { done, value } = await reader.read(buffer);
      if (done) return new Response(text);
      text += new TextDecoder().decode(value);
      buffer = new Uint8Array(value.buffer);
    }
  });
  assertEquals(await (await fetch(served.url, { method: "POST", body: "hello" })).text(), "hello");
});

Deno.test({
  name: "Deno.serve: looking at all headers takes a time in proportion to them, with a body of any length too",
  ignore: !canAdoptResource(),
  async fn() {
    await using served = start(async (request) => {
      const begun = performance.now();
      for (let count = 0; count < 100; count++) Object.fromEntries(request.headers);
      const took = performance.now() - begun;
      return Response.json({ length: [...request.headers].length, took, body: await request.text() });
    }, { engine: "Deno.serve" });
    using client = await RawClient.connect(served.port);
    const body = ["Transfer-Encoding: chunked", "", "1", "x", "0", ""];
    const least = async (count: number) => {
      const times: number[] = [];
      const headers = Array.from({ length: count }, (_, index) => `h${index}: v`);
      for (let turn = 0; turn < 5; turn++) {
        await client.send("POST / HTTP/1.1", "Host: a", ...headers, ...body);
        const answer = JSON.parse((await client.response()).body);
        assertEquals([answer.length, answer.body], [count + 2, "x"]);
        times.push(answer.took);
      }
      return Math.min(...times);
    };
    const [few, many] = [await least(10), await least(120)];
    // Sorting at each step takes more than a hundred times as long.
    assert(many < 60 * few, `${few} and ${many} ms`);
  },
});

eachEngine("a Host line that is no host is the client's fault, with a body too", async (engine) => {
  const errors: unknown[] = [];
  await using served = start(async (request) => new Response(`${request.url} ${await request.text()}`), {
    engine,
    onError: (error) => void errors.push(error),
  });
  for (const host of ["[::1", "a:b", "]", "a b", "ontent-Length: 5"]) {
    using client = await RawClient.connect(served.port);
    await client.send("POST /p HTTP/1.1", `Host: ${host}`, "Transfer-Encoding: chunked", "", "1", "x", "0", "");
    const { status, body } = await client.response();
    // Deno's server passes on what was sent.
    assertEquals([status, body], engine === "node:http" ? [400, "Bad Request"] : [200, `http://${host}/p x`]);
  }
  assertEquals(errors, []);
});

Deno.test("node:http: looking at all headers takes a time in proportion to them, and there are at most 1000", async () => {
  await using served = start((request) => {
    const begun = performance.now();
    const { length } = Object.keys(Object.fromEntries(request.headers));
    return Response.json({ length, took: performance.now() - begun });
  });
  using client = await RawClient.connect(served.port);
  const headers = (count: number) => Array.from({ length: count }, (_, index) => `h${index}: v`);
  let least = Infinity;
  for (let count = 0; count < 5; count++) {
    const { length, took } = JSON.parse((await client.get("/", ...headers(980))).body);
    assertEquals(length, 981);
    least = Math.min(least, took);
  }
  assert(least < 50, `${least} ms`);
  assertEquals(JSON.parse((await client.get("/", ...headers(999))).body).length, 1_000);
  const { status, head } = await client.get("/", ...headers(1_000));
  assertEquals(status, 431);
  assertMatch(head, /^connection: close\r$/im);
  assertEquals(await client.rest(), "");
});

Deno.test("node:http: the URL of a request is what was asked for, and what is none is answered 400", async () => {
  await using served = start((request) => new Response(request.url));
  const urls: [line: string, host: string, url: string | undefined][] = [
    ["GET /a?b#c", "example.org", "http://example.org/a?b#c"],
    ["GET /", "example.org.", "http://example.org./"],
    ["GET /", "[::1]:80", "http://[::1]/"],
    ["GET /", "a:8080", "http://a:8080/"],
    ["GET //a//b", "c", "http://c//a//b"],
    ["GET https://x/p", "a", "https://x/p"],
    ["GET http://x/p", "a", "http://x/p"],
    ["OPTIONS *", "a", "http://a/*"],
    ["GET *", "a", undefined],
    ["GET a/b", "a", undefined],
    ["GET ftp://a/b", "a", undefined],
    ["GET /", "a/b", undefined],
    ["GET /", "a?b", undefined],
    ["GET /", "a#b", undefined],
    ["GET /", "a\\b", undefined],
    ["GET /", "a b", undefined],
    ["GET /", "a:b", undefined],
    ["GET /", "[::1", undefined],
    ["GET http://[::1", "a", undefined],
  ];
  for (const [line, host, url] of urls) {
    using client = await RawClient.connect(served.port);
    await client.send(`${line} HTTP/1.1`, `Host: ${host}`, "");
    const { status, body } = await client.response();
    assertEquals([status, status === 200 ? body : undefined], [url === undefined ? 400 : 200, url], `${line} ${host}`);
  }
  using client = await RawClient.connect(served.port);
  await client.send("GET /a HTTP/1.0", "");
  assertEquals((await client.response()).body, `http://localhost:${served.port}/a`);
});

eachEngine("an expectation that is none is not looked at", async () => {
  await using served = start(async (request) => new Response(await request.text()));
  using client = await RawClient.connect(served.port);
  await client.send("POST / HTTP/1.1", "Host: a", "Expect: miracles", "Content-Length: 7", "", "hello");
  assertEquals((await client.response()).body, "hello\r\n");
});
