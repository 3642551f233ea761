// What becomes of WebSockets whose client says nothing.
import { assert, assertEquals } from "@std/assert";
import type { HttpHandler, WebSocketUpgradeOptions } from "@winsock/handoff/http";
import { HANDSHAKE, RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { within } from "../kit/process.ts";

/** The frame, byte by byte. */
const PING = "\x89\x00";

/** A server of WebSockets, and what the first of them is closed with. */
function serving(options: WebSocketUpgradeOptions) {
  const closed = Promise.withResolvers<CloseEvent>();
  const handler: HttpHandler = (_, info) => {
    const { socket, response } = info.upgradeWebSocket(options);
    socket.onmessage = ({ data }) => socket.send(data);
    socket.onclose = closed.resolve;
    return response;
  };
  return { closed: closed.promise, ...start(handler) };
}

const pause = (duration: number) => new Promise((resolve) => setTimeout(resolve, duration));

eachEngine("a client that has vanished is asked once, and its WebSocket is ended", async () => {
  await using served = serving({ idleTimeout: 0.4 });
  using client = await RawClient.connect(served.port);
  // The server counts from a later moment.
  const begun = performance.now();
  assertEquals((await client.get("/", ...HANDSHAKE)).status, 101);
  assertEquals(await client.rest(), PING);
  const took = performance.now() - begun;
  assert(took > 350 && took < 5_000, `${took} ms`);
  assertEquals((await within(5_000, served.closed)).code, 1006);
});

eachEngine("a client that is there and says nothing keeps its WebSocket", async () => {
  await using served = serving({ idleTimeout: 0.2 });
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  await within(5_000, new Promise((resolve) => client.onopen = resolve));
  await pause(1_000);
  client.send("still there");
  const { data } = await within(5_000, new Promise<MessageEvent>((resolve) => client.onmessage = resolve));
  assertEquals(data, "still there");
  client.close();
  assertEquals((await within(5_000, served.closed)).wasClean, true);
});

eachEngine(
  "a message that comes bit by bit is a sign of life, and a handler that takes its time is none of death",
  async () => {
    await using served = start(async (_, info) => {
      const { socket, response } = info.upgradeWebSocket({ idleTimeout: 0.4 });
      socket.onmessage = ({ data }) => socket.send(data);
      await pause(1_000);
      return response;
    });
    using client = await RawClient.connect(served.port);
    assertEquals((await client.get("/", ...HANDSHAKE)).status, 101);
    // A text of eight characters, with a mask of zeros.
    await client.write(new Uint8Array([0x81, 0x88, 0, 0, 0, 0]));
    for (const character of "12345678") {
      await pause(100);
      await client.write(character);
    }
    assertEquals((await client.rest()).slice(0, 12), `\x81\x0812345678${PING}`);
  },
);

eachEngine("without an idleTimeout nobody is asked, and one that is out of its range is an error", async () => {
  {
    await using served = serving({ idleTimeout: 0 });
    using client = await RawClient.connect(served.port);
    assertEquals((await client.get("/", ...HANDSHAKE)).status, 101);
    const nothing = await Promise.race([client.conn.read(new Uint8Array(10)).catch(() => null), pause(300)]);
    assertEquals(nothing, undefined);
  }
  for (const idleTimeout of [-1, NaN, Infinity, 2_147_484]) {
    const errors: unknown[] = [];
    await using served = start((_, info) => info.upgradeWebSocket({ idleTimeout }).response, {
      onError: (error) => void errors.push(error),
    });
    using client = await RawClient.connect(served.port);
    assertEquals((await client.get("/", ...HANDSHAKE)).status, 500);
    assert(errors[0] instanceof RangeError, String(errors[0]));
    assertEquals(errors[0].message, `Invalid \`idleTimeout\`: must be from 0 to 2147483 seconds, got ${idleTimeout}`);
  }
});
