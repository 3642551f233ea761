// How serveHttp ends, what it does when the system lets it accept no more, and connections that are accepted by hand.
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { connect, HandoffError, HandoffSource, listen, type Socket } from "@winsock/handoff";
import { type HttpConnection, serveHttp } from "@winsock/handoff/http";
import { settledDescriptors } from "../kit/descriptors.ts";
import { INVALID_SOCKET } from "@winsock/handoff/ffi";
import { RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { endChild, lines, spawnChild, spawnCrowded, until, within } from "../kit/process.ts";

eachEngine("a signal that is aborted already: nothing is taken, and the listener is closed", async () => {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  let asked = 0;
  const server = serveHttp(listener, () => {
    asked++;
    return new Response();
  }, { signal: AbortSignal.abort() });
  await within(20_000, server.finished);
  await assertRejects(() => connect({ port }), Error, "WSAECONNREFUSED");
  assertEquals([asked, server.connectionCount, listener.handle], [0, 0, INVALID_SOCKET]);
});

eachEngine("a port can be listened on again as soon as its server has shut down", async (engine) => {
  let port = 0;
  for (let round = 0; round < 100; round++) {
    const listener = listen({ hostname: "127.0.0.1", port });
    port = listener.addr.port;
    const server = serveHttp(listener, () => new Response(`round ${round}`), { engine });
    {
      using client = await RawClient.connect(port);
      assertEquals((await client.get("/")).body, `round ${round}`);
    }
    // A connection that its client has ended leaves nothing behind here that would keep the port.
    await until(() => server.connectionCount === 0, "the connection is closed");
    await within(20_000, server.shutdown());
  }
  await assertRejects(() => connect({ port }), Error, "WSAECONNREFUSED");
});

eachEngine("a signal before the first connection ends the server at once", async () => {
  const controller = new AbortController();
  const served = start(() => new Response(), { signal: controller.signal });
  controller.abort();
  await within(20_000, served.server.finished);
  await assertRejects(() => connect({ port: served.port }), Error, "WSAECONNREFUSED");
});

eachEngine("a signal ends an iterable that yields nothing", async () => {
  const controller = new AbortController();
  let returned = false;
  const never = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise<IteratorResult<never>>(() => {}),
      return: () => {
        returned = true;
        return Promise.resolve({ done: true as const, value: undefined });
      },
    }),
  };
  const server = serveHttp(never, () => new Response(), { signal: controller.signal });
  controller.abort();
  await within(20_000, server.finished);
  assert(returned);
});

eachEngine("a signal ends responses, requests that wait, idle connections and WebSockets at once", async (engine) => {
  const controller = new AbortController();
  const cancelled = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<void>();
  const socketClosed = Promise.withResolvers<number>();
  const errors: unknown[] = [];
  const served = start(async (request, info) => {
    switch (new URL(request.url).pathname) {
      case "/stream": {
        const body = new ReadableStream({
          start: (controller) => controller.enqueue(new Uint8Array(1_000)),
          cancel: () => cancelled.resolve(),
        });
        return new Response(body);
      }
      case "/slow":
        await new Promise<void>((resolve) => request.signal.addEventListener("abort", () => resolve()));
        aborted.resolve();
        return new Response();
      case "/ws": {
        const { socket, response } = info.upgradeWebSocket();
        socket.onclose = ({ code }) => socketClosed.resolve(code);
        return response;
      }
      default:
        return new Response("idle");
    }
  }, { engine, signal: controller.signal, shutdownTimeout: 60_000, onError: (error) => void errors.push(error) });
  const clients = await Promise.all(Array.from({ length: 4 }, () => RawClient.connect(served.port)));
  const [streaming, slow, idle, silent] = clients as [RawClient, RawClient, RawClient, RawClient];
  await streaming.send("GET /stream HTTP/1.1", "Host: a", "");
  await streaming.conn.read(new Uint8Array(10));
  await slow.send("GET /slow HTTP/1.1", "Host: a", "");
  assertEquals((await idle.get("/")).body, "idle");
  const webSocket = new WebSocket(`ws://127.0.0.1:${served.port}/ws`);
  const clientClosed = new Promise((resolve) => webSocket.onclose = resolve);
  await within(20_000, new Promise((resolve) => webSocket.onopen = resolve));
  await until(() => served.server.connectionCount === 5, "all are connected");
  await new Promise((resolve) => setTimeout(resolve, 50));

  const begun = performance.now();
  controller.abort();
  await within(20_000, served.server.finished);
  assertEquals(served.server.connectionCount, 0);
  for (const client of [streaming, slow, idle, silent]) {
    assert(!(await client.rest()).endsWith("0\r\n\r\n"), "the client can tell that it is not all");
    client[Symbol.dispose]();
  }
  await within(20_000, Promise.all([cancelled.promise, aborted.promise, socketClosed.promise, clientClosed]));
  assert(performance.now() - begun < 2_000, "it is at once");
  assertEquals(errors, []);
});

eachEngine(
  "connections that are accepted by hand are served, and stay their source's during the shutdown",
  async () => {
    const child = spawnChild("manual_http_worker.ts");
    const nextLine = lines(child);
    const source = new HandoffSource(child);
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    try {
      using first = await RawClient.connect(port);
      await source.send(await listener.accept(), { data: 1 });
      assertEquals(JSON.parse((await first.get("/a")).body), { pathname: "/a", data: 1, text: "" });
      using slow = await RawClient.connect(port);
      await source.send(await listener.accept(), { data: 2 });
      await slow.send("POST /slow HTTP/1.1", "Host: a", "Content-Length: 5", "", "he");
      await first.get("/leave", "Connection: close");

      using late = await RawClient.connect(port);
      using socket = await listener.accept();
      const [before] = await settledDescriptors(Deno.pid);
      // The loop over what is received ends with it, so that the worker refuses in one way or the other.
      const error = await assertRejects(() => source.send(socket), HandoffError);
      assertMatch(error.outcome, /^(rejected|closed|target-exited)$/);
      const [after] = await settledDescriptors(Deno.pid);
      assert(after! <= before!, `${after} descriptors, ${before} before`);
      // It is still the source's, and as good as before.
      const conn = socket.toConn();
      await conn.write(new TextEncoder().encode("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"));
      assertEquals((await late.response()).status, 503);
      conn.close();

      await slow.write("l");
      const { head, body } = await slow.response();
      assertEquals(JSON.parse(body).text, "he\r\nl");
      assertMatch(head, /^connection: close/im);
      assertEquals(await nextLine(), "left with 0 connections");
    } finally {
      await endChild(child);
    }
  },
);

/** A connection that is accepted when the test says so, and its client. */
async function unaccepted() {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const client = await RawClient.connect(listener.addr.port);
  const accepted = Promise.withResolvers<void>();
  const socket = await listener.accept();
  async function* connections(): AsyncGenerator<HttpConnection> {
    yield { socket, accept: () => accepted.promise };
  }
  return { client, accepted, socket, connections: connections() };
}

eachEngine("a connection that is being accepted when the shutdown begins is served", async () => {
  const { client, accepted, connections } = await unaccepted();
  const server = serveHttp(connections, () => new Response("served"));
  await until(() => server.connectionCount === 1, "it is being accepted");
  const finished = server.shutdown();
  await client.send("GET / HTTP/1.1", "Host: a", "");
  accepted.resolve();
  assertEquals((await client.response()).body, "served");
  await within(20_000, finished);
  client[Symbol.dispose]();
});

eachEngine("a connection that is still being accepted at the end is closed, and not waited for", async () => {
  const { client, accepted, socket, connections } = await unaccepted();
  const server = serveHttp(connections, () => new Response("served"), { shutdownTimeout: 100 });
  await until(() => server.connectionCount === 1, "it is being accepted");
  await within(20_000, server.shutdown());
  accepted.resolve();
  assertEquals(await client.rest(), "");
  assertEquals(socket.handle, INVALID_SOCKET);
  client[Symbol.dispose]();
});

eachEngine("what an iterable yields during the shutdown is given back", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const calls: string[] = [];
  const late = Promise.withResolvers<HttpConnection>();
  const first = await RawClient.connect(port);
  const accepted = (name: string, socket: Socket): HttpConnection => ({
    socket,
    accept: () => Promise.resolve(void calls.push(`accept ${name}`)),
    reject: (reason) => void calls.push(`reject ${name}: ${reason}`),
  });
  const sockets = [accepted("first", await listener.accept()), late.promise];
  // Like receive(): it can return only when it has yielded.
  const connections = {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        const value = await sockets.shift();
        return value === undefined ? { done: true as const, value } : { done: false, value };
      },
    }),
  };
  const server = serveHttp(connections, () => new Response("served"), { keepAliveTimeout: 100 });
  assertEquals((await first.get("/")).body, "served");
  const finished = server.shutdown();
  const second = await RawClient.connect(port);
  using given = await listener.accept();
  late.resolve(accepted("late", given));
  await within(20_000, finished);
  assertEquals(calls, ["accept first", "reject late: the server is shutting down"]);
  assertEquals(given.remoteAddr, second.conn.localAddr);
  first[Symbol.dispose]();
  second[Symbol.dispose]();
});

Deno.test({
  name: "a system that lets it accept no more: onError is told, who is connected is served, and then the others",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const child = spawnCrowded("crowded_http_server.ts");
    const nextLine = lines(child);
    const clients: RawClient[] = [];
    try {
      const port = Number(await nextLine());
      for (let count = 0; count < 60; count++) clients.push(await RawClient.connect(port));
      for (let told = 0; told < 2; told++) {
        assertStringIncludes((await nextLine())!, "accept4 failed with WSAEMFILE (10024)");
      }
      assertEquals((await clients[0]!.get("/")).body, "served");
      for (const client of clients.splice(0, 30)) client[Symbol.dispose]();
      // The last could not be taken before.
      assertEquals((await clients.at(-1)!.get("/")).body, "served");
      await clients.at(-1)!.get("/leave");
      let line = await nextLine();
      while (line?.includes("WSAEMFILE")) line = await nextLine();
      assertEquals(line, "left with 0 connections");
      assertEquals((await child.status).code, 0);
    } finally {
      for (const client of clients) client[Symbol.dispose]();
      await endChild(child);
    }
  },
});
