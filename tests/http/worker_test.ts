// Worker processes that answer HTTP on the connections they are handed, with ffi access and no other permission.
import { assertEquals, assertMatch } from "@std/assert";
import { HandoffSource, listen } from "@winsock/handoff";
import { createHash } from "node:crypto";
import { WebSocket as WsClient } from "ws";
import { observe } from "../../handoff/source.ts";
import { settledDescriptors } from "../kit/descriptors.ts";
import { RawClient } from "../kit/http_client.ts";
import { eachEngine } from "../kit/http_server.ts";
import { endChild, lines, spawnChild, until, within } from "../kit/process.ts";

const LENGTH = 100 * 1024 ** 2;

/** A worker with an app, and a listener whose connections it is handed. */
function worker(app: string, engine: string) {
  // Oak's npm package looks into the environment and for files of its own while it loads.
  const child = spawnChild("http_worker.ts", [app, engine], app === "oak" ? ["--allow-env", "--allow-read"] : []);
  const nextLine = lines(child);
  const source = new HandoffSource(child);
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const sending = (async () => {
    for await (const socket of listener) await source.send(socket, { data: { from: Deno.pid } });
  })();
  sending.catch(() => {});
  return {
    child,
    source,
    listener,
    port,
    url: `http://127.0.0.1:${port}`,
    /** Closes the source and waits for what the worker says at the end. */
    async leave(): Promise<string | undefined> {
      listener.close();
      await within(20_000, sending);
      await within(20_000, source.close());
      return await nextLine();
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      await sending;
      await endChild(child);
    },
  };
}

// Oak's npm package answers with Responses of its own.
for (
  const [app, engine] of [
    ["hono", "node:http"],
    ["hono", "Deno.serve"],
    ["oak", "node:http"],
    ["oak", "Deno.serve"],
    ["hono", "auto"],
  ] as const
) {
  Deno.test(`${engine}: ${app} answers in a worker: routes, bodies, keep-alive`, async () => {
    await using served = worker(app, engine);
    const hello = await fetch(`${served.url}/hello/world`);
    assertEquals(await hello.text(), "Hello world from 127.0.0.1");
    assertEquals(hello.headers.get("x-app"), app);
    const json = await fetch(`${served.url}/json`, { method: "POST", body: JSON.stringify({ a: [1] }) });
    assertEquals(await json.json(), { a: [1] });
    const hash = await fetch(`${served.url}/hash`, { method: "POST", body: "hello" });
    assertEquals(await hash.text(), createHash("sha256").update("hello").digest("hex"));
    using client = await RawClient.connect(served.port);
    for (const name of ["a", "b", "c"]) {
      assertMatch((await client.get(`/hello/${name}`)).body, new RegExp(`Hello ${name} `));
    }
  });
}

eachEngine("100 MB go to a worker and come from it, byte for byte", async (engine) => {
  await using served = worker("plain", engine);
  const down = await fetch(`${served.url}/bytes?length=${LENGTH}`);
  const sum = createHash("sha256");
  let length = 0;
  const [one, other] = down.body!.tee();
  const echoed = fetch(`${served.url}/hash`, { method: "POST", body: one });
  for await (const chunk of other) {
    sum.update(chunk);
    length += chunk.length;
  }
  assertEquals(length, LENGTH);
  assertEquals(await (await within(60_000, echoed)).text(), sum.digest("hex"));
});

eachEngine("a worker echoes the WebSocket of npm's ws", async (engine) => {
  await using served = worker("plain", engine);
  const client = new WsClient(`ws://127.0.0.1:${served.port}/ws`);
  const received: string[] = [];
  client.on("message", (data: Uint8Array) => received.push(data.toString()));
  client.on("open", () => client.send("hello"));
  await until(() => received.length === 1, "it is echoed");
  assertEquals(received, ["hello"]);
  client.terminate();
});

eachEngine("a worker knows who asks, and what the source said", async (engine) => {
  await using served = worker("plain", engine);
  using client = await RawClient.connect(served.port);
  const { pid, remoteAddr, data } = JSON.parse((await client.get("/")).body);
  assertEquals({ pid, remoteAddr, data }, {
    pid: served.child.pid,
    remoteAddr: client.conn.localAddr,
    data: { from: Deno.pid },
  });
});

eachEngine("a worker whose source closes under load answers every request that was sent", async (engine) => {
  await using served = worker("plain", engine);
  let leaving = false;
  let answered = 0;
  const client = async () => {
    using connection = await RawClient.connect(served.port);
    for (;;) {
      const { status, head } = await connection.get(answered % 3 === 0 ? "/slow" : "/");
      assertEquals(status, 200);
      answered++;
      if (/^connection: close/im.test(head)) return assertEquals([await connection.rest(), leaving], ["", true]);
    }
  };
  const clients = Array.from({ length: 20 }, client);
  await until(() => answered > 200, "there is load");
  leaving = true;
  const farewell = served.leave();
  await within(20_000, Promise.all(clients));
  assertEquals(await farewell, `worker ${served.child.pid} leaves with 0 connections`);
});

eachEngine("neither side keeps descriptors of connections that have ended", async (engine) => {
  await using served = worker("plain", engine);
  const round = async (count: number) => {
    for (let index = 0; index < count; index++) {
      using client = await RawClient.connect(served.port);
      await client.send("GET /bytes?length=1000000 HTTP/1.1", "Host: a", "");
      if (index % 2 === 0) await client.response();
    }
    await until(() => observe(served.source).held === 0, "the worker has no connection");
  };
  // On Windows both sides keep what each of the channel's 64 slots needs, from its first use on.
  await round(70);
  const before = await settledDescriptors(Deno.pid, served.child.pid);
  await round(40);
  const after = await settledDescriptors(Deno.pid, served.child.pid);
  const more = after.map((count, index) => count - before[index]!);
  assertEquals(more.map((count) => count < 20), [true, true], `${more} descriptors more`);
});
