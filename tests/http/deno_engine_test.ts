// serveHttp by the server of Deno.serve: what it promises, and what it leaves to node:http.
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { connect, listen, type Socket } from "@winsock/handoff";
import { type HttpConnection, type HttpHandler, serveHttp, type ServeHttpOptions } from "@winsock/handoff/http";
import { settledDescriptors } from "../kit/descriptors.ts";
import { HANDSHAKE, RawClient } from "../kit/http_client.ts";
import { eachEngine, start as startAny } from "../kit/http_server.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";
import { connect as connectHttp2 } from "node:http2";

const ENGINE = { engine: "Deno.serve" } as const;

function start(handler: HttpHandler, options?: ServeHttpOptions) {
  return startAny(handler, { ...ENGINE, ...options });
}

Deno.test("Deno.serve: one connection answers one request after the other, and those sent at once in their order", async () => {
  await using served = start(async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 50));
    return new Response(pathname);
  });
  using client = await RawClient.connect(served.port);
  for (const path of ["/1", "/2"]) assertEquals((await client.get(path)).body, path);
  await client.write("GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /fast HTTP/1.1\r\nHost: a\r\n\r\n");
  assertEquals((await client.response()).body, "/slow");
  assertEquals((await client.response()).body, "/fast");
  assertEquals(served.server.connectionCount, 1);
});

Deno.test("Deno.serve: a client that begins with HTTP/2 is answered in it", async () => {
  let asked = 0;
  await using served = start(async (request) => {
    if (++asked === 2) await new Promise((resolve) => setTimeout(resolve, 100));
    return new Response(`${request.url} ${await request.text()}`);
  }, { shutdownTimeout: 10_000 });
  const session = connectHttp2(served.url);
  const post = async () => {
    const request = session.request({ ":method": "POST", ":path": "/path" });
    request.end("hello");
    let text = "";
    for await (const chunk of request.setEncoding("utf8")) text += chunk;
    return text;
  };
  assertEquals(await post(), `${served.url}/path hello`);
  const last = post();
  await until(() => asked === 2, "it is asked again");
  const finished = served.server.shutdown();
  assertEquals(await within(20_000, last), `${served.url}/path hello`);
  await within(20_000, finished);
  session.close();
});

Deno.test("Deno.serve: a handler that throws answers 500, and onError hears of it", async () => {
  const errors: unknown[] = [];
  const used = new Response("used");
  await used.text();
  await using served = start((request) => {
    if (request.url.endsWith("/async")) return Promise.reject("later");
    if (request.url.endsWith("/nothing")) return undefined as unknown as Response;
    if (request.url.endsWith("/used")) return used;
    throw "at once";
  }, {
    onError: (error, request) => {
      errors.push(error);
      return request?.url.endsWith("/teapot") ? new Response("short and stout", { status: 418 }) : undefined;
    },
  });
  using client = await RawClient.connect(served.port);
  for (const path of ["/", "/async", "/nothing", "/used"]) assertEquals((await client.get(path)).status, 500, path);
  assertEquals((await client.get("/teapot")).body, "short and stout");
  assertEquals(errors.slice(0, 3).map(String), [
    "at once",
    "later",
    "TypeError: Cannot send a response: the handler did not return a Response",
  ]);
  assert(errors[3] instanceof TypeError);
  assertEquals(errors.length, 5);
});

Deno.test("Deno.serve: local connections are served all the same", needs("local sockets"), async () => {
  const directory = await Deno.makeTempDir();
  try {
    const path = `${directory}/http`;
    const server = serveHttp(listen({ path }), (_, { localAddr }) => new Response(localAddr.path), ENGINE);
    const client = (await connect({ path })).toConn();
    await client.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
    assertStringIncludes(await within(20_000, new Response(client.readable).text()), path);
    await within(20_000, server.shutdown());
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("Deno.serve: a WebSocket of Deno.upgradeWebSocket ends, and onError is told why", async () => {
  const told = Promise.withResolvers<unknown>();
  await using served = start((request) => Deno.upgradeWebSocket(request).response, { onError: told.resolve });
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  await within(20_000, new Promise((resolve) => client.onclose = resolve));
  assertMatch(String(await within(20_000, told.promise)), /^NotSupported: .*info\.upgradeWebSocket/);
});

Deno.test("Deno.serve: a WebSocket after other requests, and when its client has gone", async () => {
  const errors: unknown[] = [];
  const asked = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  const refused = Promise.withResolvers<void>();
  await using served = start(async (request, info) => {
    if (request.url.endsWith("/plain")) return new Response("plain");
    if (request.url.endsWith("/late")) {
      asked.resolve();
      await gone.promise;
    }
    try {
      const { socket, response } = info.upgradeWebSocket();
      socket.onmessage = ({ data }) => socket.send(`${data} yourself`);
      return response;
    } catch (error) {
      refused.resolve();
      throw error;
    }
  }, { onError: (error) => void errors.push(error) });
  {
    using client = await RawClient.connect(served.port);
    assertEquals((await client.get("/plain")).body, "plain");
    assertEquals((await client.get("/", ...HANDSHAKE)).status, 101);
    // A text of five bytes, masked with zeros; the answer is not masked.
    await client.write(new Uint8Array([0x81, 0x85, 0, 0, 0, 0, ...new TextEncoder().encode("hello")]));
    const answer = new Uint8Array(100);
    const length = await within(20_000, client.conn.read(answer));
    assertEquals(new TextDecoder().decode(answer.subarray(2, length!)), "hello yourself");
  }
  {
    using client = await RawClient.connect(served.port);
    await client.send("GET /late HTTP/1.1", "Host: a", ...HANDSHAKE, "");
    await within(20_000, asked.promise);
  }
  await until(() => served.server.connectionCount === 0, "both are gone");
  gone.resolve();
  await within(20_000, refused.promise);
  assertEquals(errors, []);
});

Deno.test("Deno.serve: connections that ask for nothing, or for nothing more, are closed", async () => {
  await using served = start(() => new Response("once"), { headersTimeout: 200, keepAliveTimeout: 100 });
  using silent = await RawClient.connect(served.port);
  using slow = await RawClient.connect(served.port);
  await slow.write("GET / HTTP/1.1\r\nHost: a\r\n");
  using idle = await RawClient.connect(served.port);
  assertEquals((await idle.get("/")).body, "once");
  assertEquals([await idle.rest(), await silent.rest(), await slow.rest()], ["", "", ""]);
  await until(() => served.server.connectionCount === 0, "all are gone");
});

Deno.test("Deno.serve: a shutdown lets requests be answered, and connections go", async () => {
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<Response>();
  const served = start((request) => {
    if (request.url.endsWith("/idle")) return new Response("idle");
    asked.resolve();
    return answer.promise;
  }, { shutdownTimeout: 10_000, keepAliveTimeout: 500 });
  using busy = await RawClient.connect(served.port);
  using idle = await RawClient.connect(served.port);
  using used = await RawClient.connect(served.port);
  assertEquals((await idle.get("/idle")).body, "idle");
  assertEquals((await used.get("/idle")).body, "idle");
  await busy.send("GET / HTTP/1.1", "Host: a", "");
  await within(20_000, asked.promise);
  const finished = served.server.shutdown();
  // One that was on its way is answered, and the connection closes then.
  const { head, body } = await used.get("/idle");
  assertMatch(head, /^connection: close/im);
  assertEquals([body, await used.rest()], ["idle", ""]);
  answer.resolve(new Response("answered"));
  assertEquals((await busy.response()).body, "answered");
  assertEquals([await busy.rest(), await idle.rest()], ["", ""]);
  await within(20_000, finished);
  assertEquals(served.server.connectionCount, 0);
  await assertRejects(() => connect({ port: served.port }), Error, "WSAECONNREFUSED");
});

Deno.test("Deno.serve: a shutdown waits no longer than it was told, whatever handler and client do", async () => {
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536)) });
  await using served = start((request) => {
    return request.url.endsWith("/endless") ? new Response(endless) : new Promise<Response>(() => {});
  }, { shutdownTimeout: 200 });
  using waiting = await RawClient.connect(served.port);
  await waiting.send("GET / HTTP/1.1", "Host: a", "");
  using reading = await RawClient.connect(served.port);
  await reading.send("GET /endless HTTP/1.1", "Host: a", "");
  await reading.conn.read(new Uint8Array(10));
  await until(() => served.server.connectionCount === 2, "both are taken");
  await within(4_000, served.server.shutdown());
  assertEquals(await waiting.rest(), "");
  assertEquals(served.server.connectionCount, 0);
});

Deno.test("Deno.serve: a slow client gets all of a response, however long it waits for no other", async () => {
  const body = new Uint8Array(20_000_000).fill(65);
  await using served = start(() => new Response(body), { keepAliveTimeout: 50 });
  using client = await RawClient.connect(served.port);
  await client.send("GET / HTTP/1.1", "Host: a", "");
  await new Promise((resolve) => setTimeout(resolve, 500));
  assertEquals((await client.response()).body.length, body.length);
  assertEquals(await client.rest(), "");
});

Deno.test("Deno.serve: a response may take any time", async () => {
  let sent = 0;
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    controller.enqueue(new TextEncoder().encode("event "));
    if (++sent === 8) controller.close();
  };
  await using served = start(() => new Response(new ReadableStream({ pull })), {
    keepAliveTimeout: 50,
    // Shorter than the response, and long for the request, also on a busy machine.
    headersTimeout: 1_000,
  });
  using client = await RawClient.connect(served.port);
  assertEquals((await client.get("/")).body, "event ".repeat(8));
});

Deno.test("Deno.serve: a response made of the request's body may take any time, and a shutdown lets it", async () => {
  await using served = start((request) => new Response(request.body), {
    keepAliveTimeout: 50,
    shutdownTimeout: 10_000,
  });
  using client = await RawClient.connect(served.port);
  await client.send("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "");
  let finished: Promise<void> | undefined;
  for (let count = 0; count < 10; count++) {
    await client.write("5\r\nhello\r\n");
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (count === 5) finished = served.server.shutdown();
  }
  await client.write("0\r\n\r\n");
  assertEquals((await client.response()).body, "hello".repeat(10));
  await within(4_000, finished!);
});

Deno.test("Deno.serve: nothing holds up the end: no quiet response, no body that does not come, no request", async () => {
  const quiet = new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(10)) });
  await using served = start((request) => {
    if (request.url.endsWith("/quiet")) return new Response(quiet);
    return request.url.endsWith("/hang") ? new Promise<Response>(() => {}) : new Response("answered");
  }, { keepAliveTimeout: 50, shutdownTimeout: 300 });
  const clients = await Promise.all(Array.from({ length: 4 }, () => RawClient.connect(served.port)));
  const [reading, sending, hanging, upgrading] = clients as [RawClient, RawClient, RawClient, RawClient];
  await reading.send("GET /quiet HTTP/1.1", "Host: a", "");
  await reading.conn.read(new Uint8Array(10));
  await sending.send("POST / HTTP/1.1", "Host: a", "Content-Length: 1000", "", "begun");
  assertEquals((await sending.response()).body, "answered");
  await hanging.send("POST /hang HTTP/1.1", "Host: a", "Content-Length: 1000", "", "begun");
  await upgrading.send("GET /hang HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket", "");
  const session = connectHttp2(served.url);
  for (const path of ["/", "/hang"]) session.request({ ":path": path }).on("error", () => {}).resume();
  await new Promise((resolve) => setTimeout(resolve, 200));
  await within(4_000, served.server.shutdown());
  assertEquals(served.server.connectionCount, 0);
  for (const client of clients) {
    await client.rest();
    client[Symbol.dispose]();
  }
  session.destroy();
});

Deno.test("Deno.serve: a connection that is new when the shutdown begins has time for its request", async () => {
  const served = start(() => new Response("answered"), { keepAliveTimeout: 500, shutdownTimeout: 10_000 });
  using client = await RawClient.connect(served.port);
  await until(() => served.server.connectionCount === 1, "it is connected");
  const finished = served.server.shutdown();
  await new Promise((resolve) => setTimeout(resolve, 100));
  assertEquals((await client.get("/")).body, "answered");
  await within(4_000, finished);
});

Deno.test("Deno.serve: a request that was answered becomes no WebSocket", async () => {
  const told = Promise.withResolvers<unknown>();
  await using served = start((_, info) => {
    setTimeout(() => {
      try {
        told.resolve(info.upgradeWebSocket());
      } catch (error) {
        told.resolve(error);
      }
    }, 0);
    return new Response("answered");
  });
  using client = await RawClient.connect(served.port);
  const { body } = await client.get("/", ...HANDSHAKE);
  assertEquals(body, "answered");
  assertMatch(String(await told.promise), /^TypeError: .*already answered/);
});

// On Windows the system itself takes any amount at once.
const notWindows = { ignore: Deno.build.os === "windows" };

Deno.test("Deno.serve: a client that takes nothing does not hold up the end", notWindows, async () => {
  const body = new Uint8Array(20_000_000);
  await using served = start(() => new Response(body), { keepAliveTimeout: 50, shutdownTimeout: 200 });
  using client = await RawClient.connect(served.port);
  await client.send("GET / HTTP/1.1", "Host: a", "");
  await client.conn.read(new Uint8Array(10));
  await new Promise((resolve) => setTimeout(resolve, 200));
  assertEquals(served.server.connectionCount, 1);
  await within(4_000, served.server.shutdown());
  assertEquals(served.server.connectionCount, 0);
  assert((await client.rest()).length < body.length, "it is cut off");
});

Deno.test("Deno.serve: no more connections are taken than allowed, and the listener knows which there are", async () => {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const server = serveHttp(listener, () => new Response(), { ...ENGINE, maxConnections: 2, shutdownTimeout: 0 });
  const { port } = listener.addr;
  const clients = [await RawClient.connect(port), await RawClient.connect(port), await RawClient.connect(port)];
  await until(() => server.connectionCount === 2, "two are taken");
  assertEquals(listener.connectionCount, 2);
  const third = clients[2]!.get("/");
  assertEquals((await clients[0]!.get("/", "Connection: close")).status, 200);
  assertEquals((await third).status, 200);
  await within(20_000, server.shutdown());
  await within(20_000, listener.drained());
  assertEquals(listener.connectionCount, 0);
  for (const client of clients) client[Symbol.dispose]();
});

eachEngine("no more connections are taken than allowed, nor while they are accepted by hand", async (engine) => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  let most = 0;
  async function* connections(): AsyncGenerator<HttpConnection> {
    for await (const socket of listener) {
      yield { socket, accept: () => new Promise((resolve) => setTimeout(resolve, 20)) };
      most = Math.max(most, server.connectionCount);
    }
  }
  const server = serveHttp(connections(), () => new Response(), { engine, maxConnections: 3, shutdownTimeout: 0 });
  const clients: RawClient[] = [];
  for (let count = 0; count < 8; count++) clients.push(await RawClient.connect(listener.addr.port));
  await until(() => server.connectionCount === 3, "three are taken");
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert(most <= 3, `${most}`);
  assertEquals(server.connectionCount, 3);
  listener.close();
  await within(4_000, server.shutdown());
  for (const client of clients) client[Symbol.dispose]();
});

Deno.test("Deno.serve: clients of all kinds leave no descriptor behind", async () => {
  await using served = start(async (request) => new Response(await request.text()), { onError: () => {} });
  const round = async () => {
    for (let count = 0; count < 20; count++) {
      using asking = await RawClient.connect(served.port);
      await asking.get("/");
      using _silent = await RawClient.connect(served.port);
      using garbage = await RawClient.connect(served.port);
      await garbage.write(new Uint8Array(100).fill(0xff));
      using halfway = await RawClient.connect(served.port);
      await halfway.send("POST / HTTP/1.1", "Host: a", "Content-Length: 1000", "", "begun");
    }
    await until(() => served.server.connectionCount === 0, "all are gone");
  };
  await round();
  const [before] = await settledDescriptors(Deno.pid);
  await round();
  const [after] = await settledDescriptors(Deno.pid);
  assert(after! <= before! + 5, `${after} descriptors, ${before} before`);
});

Deno.test("Deno.serve: options it does not know are refused", () => {
  const serve = (options: ServeHttpOptions) => () => serveHttp(once(), () => new Response(), { ...ENGINE, ...options });
  assertThrows(serve({ requestTimeout: 1_000 }), TypeError, "Invalid `requestTimeout`: must not be set");
  assertThrows(serve({ tls: { key: "", cert: "" } }), TypeError, "Invalid `tls`: must not be set");
  assertThrows(serve({ native: false }), TypeError, "Invalid `native`: must not be set");
  assertThrows(serve({ maxConnections: 0 }), RangeError, "Invalid `maxConnections`: must be an integer from 1 ");
  assertThrows(serve({ engine: "deno" as "node:http" }), TypeError, 'got "deno"');
  serve({ headersTimeout: 400_000 })();
});

Deno.test("Deno.serve: where this Deno has no such server for others, that is told at once", async () => {
  const output = await runCode(
    `import { serveHttp } from ${moduleUrl("http/mod.ts")};
     try {
       serveHttp((async function* () {})(), () => new Response(), { engine: "Deno.serve" });
     } catch (error) {
       console.log(error instanceof Deno.errors.NotSupported, error.message);
     }`,
    `--preload=${new URL("../kit/without_adoption.ts", import.meta.url).href}`,
  );
  assertMatch(output, /^true Cannot serve: Deno \S+ only serves its own connections/);
});

async function* once(...sockets: Socket[]): AsyncGenerator<Socket> {
  yield* sockets;
}
