// HTTPS on connections that were handed to serveHttp.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { connect, listen, Socket } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";
import https from "node:https";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { connection } from "../kit/connections.ts";
import { start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";

function get(port: number, agent: https.Agent): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const options = { port, host: "127.0.0.1", servername: "localhost", ca: CERTIFICATE.cert, agent };
  https.get(options, (response) => {
    let text = `${response.statusCode} `;
    response.on("data", (chunk) => text += chunk).on("end", () => resolve(text));
  }).on("error", reject);
  return within(20_000, promise);
}

Deno.test("TLS ends in the server, and the connection answers the next request too", async () => {
  await using served = start((request, { remoteAddr }) => new Response(`${request.url} ${remoteAddr.hostname}`), {
    tls: CERTIFICATE,
  });
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
  for (let count = 0; count < 3; count++) {
    assertEquals(await get(served.port, agent), `200 https://127.0.0.1:${served.port}/ 127.0.0.1`);
    assertEquals(served.server.connectionCount, 1);
  }
  agent.destroy();
  await until(() => served.server.connectionCount === 0, "the connection is gone");
});

Deno.test("what is no TLS handshake, or ends in the middle of one, leaves nothing behind", async () => {
  const errors: unknown[] = [];
  await using served = start(() => new Response(), {
    tls: CERTIFICATE,
    headersTimeout: 300,
    onError: (error) => void errors.push(error),
  });
  const hello = Uint8Array.from([22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]);
  const opening = [
    new Uint8Array(300).fill(7),
    new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
    hello,
    new Uint8Array(),
  ];
  for (const bytes of opening) {
    for (const leave of [true, false]) {
      const client = (await connect({ port: served.port })).toConn();
      if (bytes.length > 0) await client.write(bytes);
      if (leave) client.close();
      else await within(20_000, new Response(client.readable).text().catch(() => {}));
    }
  }
  await until(() => served.server.connectionCount === 0, "all are gone");
  assertEquals(errors, []);
  const agent = new https.Agent();
  assert((await get(served.port, agent)).startsWith("200"));
  agent.destroy();
});

Deno.test("a key and a certificate that do not fit are refused at once", () => {
  const serve = (tls: { key: string; cert: string }) => () => serveHttp(none(), () => new Response(), { tls });
  assertThrows(serve({ key: "no key", cert: "no certificate" }), Error);
  assertThrows(serve({ ...CERTIFICATE, key: "no key" }), Error);
});

async function* none() {}

Deno.test("initial bytes begin the handshake, wherever they end", async () => {
  for (const length of [1, 5, 50, 200, 100_000]) {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const agent = new https.Agent();
    const answer = get(listener.addr.port, agent);
    using client = (await listener.accept()).toConn();
    const hello = new Uint8Array(16_384);
    const begun = hello.subarray(0, await within(20_000, client.read(hello)) ?? 0);
    // What was read goes in front; the rest, and what comes later, is in the connection.
    using pair = await connection();
    const socket = Socket.fromHandle(pair.server.detach(), { initialBytes: begun.subarray(0, length) });
    const conn = pair.client.toConn();
    if (length < begun.length) await conn.write(begun.subarray(length));
    const relaying = [client.readable.pipeTo(conn.writable), conn.readable.pipeTo(client.writable)];
    const server = serveHttp(one(socket), () => new Response("hello"), { tls: CERTIFICATE, shutdownTimeout: 5_000 });
    assertEquals(await answer, "200 hello", `${length} bytes`);
    await within(20_000, server.finished);
    agent.destroy();
    await within(20_000, Promise.allSettled(relaying));
    conn.close();
  }
});

async function* one(socket: Socket) {
  yield socket;
}
