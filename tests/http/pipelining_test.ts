// Requests a client sends without waiting for responses.
import { assertEquals } from "@std/assert";
import type { HttpHandler } from "@winsock/handoff/http";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { HANDSHAKE, RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Numbered requests, each with a body or none. */
function requests(count: number, body = ""): string {
  const head = body === "" ? "GET" : "POST";
  return Array.from(
    { length: count },
    (_, index) => `${head} /${index} HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  ).join("");
}

const HANDLERS: Record<string, HttpHandler> = {
  "at once, without a body": () => new Response(null),
  "at once": (request) => new Response(request.url),
  "later": (request) => Promise.resolve(new Response(request.url)),
  "with what they sent": async (request) => new Response(await request.text()),
};

for (const [name, handler] of Object.entries(HANDLERS)) {
  eachEngine(`thousands of requests sent at once are all answered: ${name}`, async () => {
    const count = 4_000;
    let answered = 0;
    await using served = start((request, info) => {
      answered++;
      return handler(request, info);
    });
    const client = await Deno.connect({ port: served.port });
    const text = requests(count, name.endsWith("body") ? "" : "hello").replace(
      `/${count - 1} HTTP/1.1\r\n`,
      `/${count - 1} HTTP/1.1\r\nConnection: close\r\n`,
    );
    const writing = new Blob([text]).stream().pipeTo(client.writable, { preventClose: true });
    const received = await within(20_000, new Response(client.readable).text());
    await writing;
    assertEquals([received.split("HTTP/1.1 200 ").length - 1, answered], [count, count]);
  });
}

Deno.test("node:http: requests of one connection are answered one at a time, over TLS too", async () => {
  let [now, most, answered] = [0, 0, 0];
  await using served = start(async () => {
    most = Math.max(most, ++now);
    await sleep(1);
    now--;
    answered++;
    return new Response("x".repeat(1_000));
  }, { tls: CERTIFICATE });
  const plain = await Deno.connect({ port: served.port });
  const client = await Deno.startTls(plain, { hostname: "localhost", caCerts: [CERTIFICATE.cert] });
  await client.write(new TextEncoder().encode(requests(200)));
  let text = "";
  for await (const chunk of client.readable.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    if (text.split("HTTP/1.1 200 ").length > 200) break;
  }
  assertEquals([most, answered], [1, 200]);
});

Deno.test("node:http: requests that wait when their client leaves are not answered", async () => {
  const begun = Promise.withResolvers<void>();
  const paths: string[] = [];
  await using served = start(async (request, info) => {
    paths.push(new URL(request.url).pathname);
    begun.resolve();
    await info.completed.catch(() => {});
    return new Response();
  }, { keepAliveTimeout: 200 });
  const client = await RawClient.connect(served.port);
  await client.write(requests(10));
  await within(20_000, begun.promise);
  client[Symbol.dispose]();
  await until(() => served.server.connectionCount === 0, "the connection is gone");
  await sleep(50);
  assertEquals(paths, ["/0"]);
});

Deno.test("node:http: a request for a WebSocket that does not wait for its turn is answered as any other", async () => {
  await using served = start(async (request, info) => {
    if (request.url.endsWith("/0")) {
      await sleep(50);
      return new Response("first");
    }
    return info.upgradeWebSocket().response;
  });
  using client = await RawClient.connect(served.port);
  await client.write(requests(1));
  await client.send("GET /1 HTTP/1.1", "Host: a", ...HANDSHAKE, "");
  assertEquals((await client.response()).body, "first");
  assertEquals((await client.response()).status, 400);
});
