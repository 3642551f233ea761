// Clients that do not take what they are sent: what waits for them is bounded, and so is the time it waits.
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { connect, listen } from "@winsock/handoff";
import { type HttpHandler, serveHttp, type ServeHttpOptions } from "@winsock/handoff/http";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { HANDSHAKE, RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";

const CHUNK = 65_536;
/** How many chunks two systems and a server may keep for a client. */
const MAX_AHEAD = 16 * 1024 ** 2 / CHUNK;
const UPGRADE = ["GET / HTTP/1.1", "Host: a", ...HANDSHAKE, ""];

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A body without end, which counts what it was asked for. */
function endless() {
  const cancelled = Promise.withResolvers<void>();
  const counted = { pulls: 0, cancelled: cancelled.promise, body: new ReadableStream<Uint8Array>() };
  counted.body = new ReadableStream({
    pull(controller) {
      counted.pulls++;
      controller.enqueue(new Uint8Array(CHUNK));
    },
    cancel: () => cancelled.resolve(),
  }, { highWaterMark: 0 });
  return counted;
}

/** Waits until a number has not changed for a while. */
async function settled(number: () => number): Promise<number> {
  for (let last = -1; last !== number();) {
    last = number();
    await sleep(200);
  }
  return number();
}

/** A server and its client, between whom the systems keep little. */
async function narrow(handler: HttpHandler, options: ServeHttpOptions) {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  async function* connections() {
    for await (const socket of listener) {
      socket.setOption("SO_SNDBUF", 16_384);
      yield socket;
    }
  }
  const server = serveHttp(connections(), handler, { engine: "node:http", shutdownTimeout: 100, ...options });
  const socket = await connect({ port });
  socket.setOption("SO_RCVBUF", 16_384);
  const client = socket.toConn();
  return {
    server,
    client,
    async [Symbol.asyncDispose]() {
      client.close();
      listener.close();
      await within(20_000, server.shutdown());
    },
  };
}

const write = (conn: Deno.Conn, text: string) => within(20_000, conn.write(new TextEncoder().encode(text)));

eachEngine("a body is asked for as much as the client reads", async () => {
  const counted = endless();
  await using served = start(() => new Response(counted.body));
  using client = await RawClient.connect(served.port);
  await client.send("GET / HTTP/1.1", "Host: a", "");
  await until(() => counted.pulls > 0, "it is asked for");
  const ahead = await settled(() => counted.pulls);
  assert(ahead < MAX_AHEAD, `${ahead} chunks were asked for that nobody reads`);
  for (let step = 1; step <= 3; step++) {
    let read = 0;
    const buffer = new Uint8Array(CHUNK);
    while (read < ahead * CHUNK) read += (await within(20_000, client.conn.read(buffer)))!;
    await until(() => counted.pulls > ahead * (step + 0.3), "more is asked for");
    const pulls = await settled(() => counted.pulls);
    // The systems keep more for a client that reads fast.
    assert(pulls < ahead * step + MAX_AHEAD, `${pulls} chunks were asked for, and ${ahead * step} read`);
  }
});

for (const [scheme, options] of [["HTTP", {}], ["HTTPS", { tls: CERTIFICATE }]] as const) {
  Deno.test(`a client that reads nothing is cut off: ${scheme}`, async () => {
    const counted = endless();
    const completed = Promise.withResolvers<unknown>();
    const errors: unknown[] = [];
    await using served = start((_, info) => {
      info.completed.then(completed.resolve, completed.resolve);
      return new Response(counted.body);
    }, { ...options, sendTimeout: 300, onError: (error) => void errors.push(error) });
    const plain = await Deno.connect({ port: served.port });
    using client = scheme === "HTTP"
      ? plain
      : await Deno.startTls(plain, { hostname: "localhost", caCerts: [CERTIFICATE.cert] });
    await write(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assertInstanceOf(await within(20_000, completed.promise), Error);
    await within(20_000, counted.cancelled);
    await until(() => served.server.connectionCount === 0, "the connection is gone");
    assertEquals(errors, []);
    // Reset, so that the system does not go on offering what it had taken.
    await assertRejects(() => new Response(client.readable).arrayBuffer(), Deno.errors.ConnectionReset);
  });
}

eachEngine("a client that takes a few bytes at a time is cut off", async () => {
  const counted = endless();
  await using pair = await narrow(() => new Response(counted.body), { sendTimeout: 500, minSendRate: 1_000_000 });
  await write(pair.client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  const reading = (async () => {
    const buffer = new Uint8Array(4_096);
    while (await pair.client.read(buffer) !== null) await sleep(30);
  })();
  reading.catch(() => {});
  await within(20_000, counted.cancelled);
});

Deno.test("node:http: a client that is slow, and not too slow, gets all of it in more time than it may do nothing", async () => {
  const length = 16 * 1024 ** 2;
  const bodies: Record<string, () => BodyInit> = {
    "/bytes": () => new Uint8Array(length),
    "/text": () => "x".repeat(length),
    "/stream": () => new Response(new Uint8Array(length)).body!,
  };
  await using served = start((request) => new Response(bodies[new URL(request.url).pathname]!()), {
    sendTimeout: 2_000,
    minSendRate: 100_000,
  });
  await Promise.all(
    Object.keys(bodies).map(async (path) => {
      using client = await RawClient.connect(served.port);
      await client.send(`GET ${path} HTTP/1.1`, "Host: a", "Connection: close", "");
      const begun = performance.now();
      let read = 0;
      const buffer = new Uint8Array(CHUNK);
      for (let count; (count = await within(20_000, client.conn.read(buffer))) !== null; read += count) await sleep(10);
      assert(read > length, `${path}: ${read} bytes of ${length} came`);
      assert(performance.now() - begun > 2_100, `${path}: it took no longer than it may do nothing`);
    }),
  );
});

Deno.test("node:http: a response that has nothing to say for the moment may take any time", async () => {
  const ended = Promise.withResolvers<void>();
  async function* events() {
    for (let count = 0; count < 3; count++) {
      yield new TextEncoder().encode(`data: ${count}\n\n`);
      await sleep(500);
    }
    ended.resolve();
  }
  await using served = start(() => new Response(ReadableStream.from(events())), {
    sendTimeout: 100,
    minSendRate: 1_000_000,
  });
  using client = await RawClient.connect(served.port);
  const { body } = await client.get("/");
  await ended.promise;
  assertEquals(body, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
});

eachEngine("requests whose responses nobody reads are not answered without end", async () => {
  let answered = 0;
  await using pair = await narrow(() => {
    answered++;
    return new Response("x".repeat(1_000));
  }, { sendTimeout: 400 });
  const requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
  const writing = (async () => {
    for (let count = 0; count < 50; count++) await pair.client.write(new TextEncoder().encode(requests));
  })();
  writing.catch(() => {});
  await until(() => answered > 0, "the first is answered");
  await until(() => pair.server.connectionCount === 0, "the connection is gone");
  assert(answered < 5_000, `${answered} were answered`);
});

eachEngine("a WebSocket whose client does not read ends when too much waits for it", async () => {
  const limit = 300_000;
  let most = 0;
  const closed = Promise.withResolvers<number>();
  await using pair = await narrow((_, info) => {
    const { socket, response } = info.upgradeWebSocket();
    socket.onopen = async () => {
      while (socket.readyState === WebSocket.OPEN) {
        socket.send(new Uint8Array(CHUNK));
        most = Math.max(most, socket.bufferedAmount);
        await sleep(0);
      }
    };
    socket.onclose = ({ code }) => closed.resolve(code);
    return response;
  }, { sendTimeout: 0, maxBufferedAmount: limit });
  await write(pair.client, UPGRADE.map((line) => `${line}\r\n`).join(""));
  assertEquals(await within(20_000, closed.promise), 1006);
  assert(most > limit && most < limit + 2 * CHUNK, `${most} bytes waited`);
  await until(() => pair.server.connectionCount === 0, "the connection is gone");
});

eachEngine("a WebSocket whose client pings and does not read ends too", async () => {
  const closed = Promise.withResolvers<number>();
  await using pair = await narrow((_, info) => {
    const { socket, response } = info.upgradeWebSocket();
    socket.onclose = ({ code }) => closed.resolve(code);
    return response;
  }, { sendTimeout: 0, maxBufferedAmount: 10_000 });
  await write(pair.client, UPGRADE.map((line) => `${line}\r\n`).join(""));
  const ping = Uint8Array.from([0x89, 0x80 + 125, 0, 0, 0, 0, ...new Uint8Array(125)]);
  const pings = new Uint8Array(ping.length * 500);
  for (let at = 0; at < pings.length; at += ping.length) pings.set(ping, at);
  const writing = (async () => {
    for (let count = 0; count < 500; count++) await pair.client.write(pings);
  })();
  writing.catch(() => {});
  assertEquals(await within(20_000, closed.promise), 1006);
});

eachEngine("a WebSocket for which little waits, and long, ends as a response does", async () => {
  const closed = Promise.withResolvers<number>();
  await using pair = await narrow((_, info) => {
    const { socket, response } = info.upgradeWebSocket();
    socket.onopen = () => socket.send(new Uint8Array(1024 ** 2));
    socket.onclose = ({ code }) => closed.resolve(code);
    return response;
  }, { sendTimeout: 300 });
  await write(pair.client, UPGRADE.map((line) => `${line}\r\n`).join(""));
  assertEquals(await within(20_000, closed.promise), 1006);
});

eachEngine("a WebSocket whose client reads gets a message longer than may wait", async () => {
  await using served = start((_, info) => {
    const { socket, response } = info.upgradeWebSocket();
    socket.onopen = () => socket.send(new Uint8Array(3_000_000));
    return response;
  }, { maxBufferedAmount: 1_000 });
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  client.binaryType = "arraybuffer";
  const { data } = await within(20_000, new Promise<MessageEvent>((resolve) => client.onmessage = resolve));
  assertEquals(data.byteLength, 3_000_000);
  client.close();
  await until(() => served.server.connectionCount === 0, "it is gone");
});
