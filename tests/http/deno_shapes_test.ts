// What is as with Deno.serve: what a handler is given, the server, and what becomes of Deno.upgradeWebSocket.
import { assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { Hono } from "npm:hono@4.13.19";
import { Listener } from "@winsock/handoff";
import { type HttpInfo, serveHttp } from "@winsock/handoff/http";
import { HANDSHAKE, RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { FFI_GRANT, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

/** All names an object has, but for those that every object has. */
function namesOf(object: object): string[] {
  const names: PropertyKey[] = [];
  for (let at: object | null = object; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    names.push(...Reflect.ownKeys(at));
  }
  return names.map(String).sort();
}

const DOCUMENTED = ["completed", "data", "localAddr", "remoteAddr", "upgradeWebSocket"];

eachEngine("a handler is given what is documented, and nothing else, a framework's as well", async () => {
  const infos: HttpInfo[] = [];
  const app = new Hono<{ Bindings: HttpInfo }>();
  app.get("/hono", (context) => {
    infos.push(context.env);
    return context.text("hono");
  });
  await using served = start((request, info) => {
    if (request.url.endsWith("/hono")) return app.fetch(request, info);
    infos.push(info);
    return new Response("plain");
  });
  for (const path of ["hono", "plain"]) {
    const response = await fetch(`${served.url}/${path}`, { headers: { connection: "close" } });
    assertEquals(await response.text(), path);
  }
  for (const info of infos) {
    assertEquals(namesOf(info), DOCUMENTED);
    assertEquals(info.constructor, Object, "it makes no other");
    assertEquals([info.localAddr.port, info.remoteAddr.hostname, info.data], [served.port, "127.0.0.1", undefined]);
    await within(5_000, info.completed);
    for (const name of DOCUMENTED) assertThrows(() => Object.assign(info, { [name]: 1 }), TypeError);
  }
  assertEquals(infos.length, 2);
});

eachEngine("upgradeWebSocket can be taken out of what the handler is given", async () => {
  await using served = start((_, { upgradeWebSocket }) => {
    const { socket, response } = upgradeWebSocket();
    socket.onmessage = ({ data }) => socket.send(`${data}!`);
    return response;
  });
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  client.onopen = () => client.send("hello");
  const { data } = await within(5_000, new Promise<MessageEvent>((resolve) => client.onmessage = resolve));
  assertEquals(data, "hello!");
  client.close();
});

eachEngine("Deno.upgradeWebSocket throws in the handler, and says what to use", async () => {
  const thrown: unknown[] = [];
  await using served = start((request, info) => {
    try {
      return Deno.upgradeWebSocket(request).response;
    } catch (error) {
      thrown.push(error);
    }
    // It has cost nothing: the right way is open.
    const { socket, response } = info.upgradeWebSocket();
    socket.onopen = () => socket.close();
    return response;
  });
  using client = await RawClient.connect(served.port);
  assertEquals((await client.get("/", ...HANDSHAKE)).status, 101);
  assertInstanceOf(thrown[0], Deno.errors.NotSupported);
  assertEquals(
    thrown[0].message,
    "Cannot upgrade to a WebSocket with Deno.upgradeWebSocket: it knows only the requests of Deno.serve. " +
      "Use info.upgradeWebSocket(), of the handler's second argument",
  );
});

eachEngine("the engine and the address can be seen", async (engine) => {
  await using served = start(() => new Response());
  const { addr, engine: chosen } = served.server;
  assertEquals([chosen, addr], [engine, { transport: "tcp", hostname: "127.0.0.1", port: served.port }]);
  const elsewhere = serveHttp((async function* () {})(), () => new Response());
  assertEquals(elsewhere.addr, undefined);
  await within(5_000, elsewhere.finished);
});

/** A process that serves a kept connection of its own, whose client is a process that outlives it; says when it ends. */
const serving = (what: string, engine: string) => `
  import { connect, listen } from ${moduleUrl("mod.ts")};
  import { serveHttp } from ${moduleUrl("http/mod.ts")};
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const client = await connect(listener.addr);
  const accepted = await listener.accept();
  const calls = [];
  const waiting = Promise.withResolvers();
  const connections = {
    ref: () => calls.push("ref"),
    unref: () => calls.push("unref"),
    async *[Symbol.asyncIterator]() {
      yield accepted;
      await waiting.promise;
    },
  };
  const answered = Promise.withResolvers();
  const server = serveHttp(connections, () => new Response("kept"), {
    engine: "${engine}", keepAliveTimeout: 60_000, headersTimeout: 60_000,
  });
  const conn = client.toConn({ native: false });
  await conn.write(new TextEncoder().encode("GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"));
  await conn.read(new Uint8Array(1_000));
  listener.close();
  ${what}
  addEventListener("unload", () => console.log(server.connectionCount, calls.join()));
  const timer = setTimeout(() => { console.log("kept"); Deno.exit(); }, 3_000);
  Deno.unrefTimer(timer);
`;

eachEngine("an unref'd server does not keep its process running, and a ref'd one does", async (engine) => {
  const run = (what: string) => within(30_000, runCode(serving(what, engine), FFI_GRANT));
  assertEquals(await run("server.unref();"), "1 unref");
  assertEquals(await run(""), "kept\n1");
  assertEquals(await run("server.unref(); server.ref();"), "kept\n1 unref,ref");
});

Deno.test({
  name: "an unref'd server does not keep its process running by its listener",
  ignore: !("unref" in Listener.prototype),
  async fn() {
    const code = `
      import { listen } from ${moduleUrl("mod.ts")};
      import { serveHttp } from ${moduleUrl("http/mod.ts")};
      serveHttp(listen({ hostname: "127.0.0.1", port: 0 }), () => new Response()).unref();
      console.log("ends");
    `;
    assertEquals(await within(30_000, runCode(code, FFI_GRANT)), "ends");
  },
});
