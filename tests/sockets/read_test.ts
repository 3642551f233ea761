// Reading a socket that remains one, and giving back what was read too far.
import { assertEquals, assertRejects } from "@std/assert";
import { HandoffSource } from "@winsock/handoff";
import { connection, readText, writeText } from "../kit/connections.ts";
import { endChild, spawnChild, within } from "../kit/process.ts";

const text = (bytes: Uint8Array | null) => new TextDecoder().decode(bytes ?? undefined);
const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("read takes what has come, no more than is asked for, and leaves the rest to the next", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const reading = pair.server.read(4);
  await writeText(client, "hello there");
  assertEquals(text(await within(20_000, reading)), "hell");
  assertEquals(text(await pair.server.read(1)), "o");
  assertEquals(await readText(pair.server.toConn(), 6), " there");
});

Deno.test("initial bytes are read first, and what is given back before them", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  await writeText(client, "d");
  pair.server.unread(bytes("bc"));
  pair.server.unread(bytes("a"));
  assertEquals(text(pair.server.initialBytes), "abc");
  assertEquals([text(await pair.server.read(2)), text(await pair.server.read(2))], ["ab", "c"]);
  assertEquals(text(await within(20_000, pair.server.read(2))), "d");
});

Deno.test("reads that are pending together are answered in turn", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const readings = [pair.server.read(2), pair.server.read(2), pair.server.read(2)];
  await writeText(client, "aabbcc");
  assertEquals((await within(20_000, Promise.all(readings))).map(text), ["aa", "bb", "cc"]);
});

Deno.test("read ends with the peer, its signal and its socket, and nothing is lost then", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const late = await pair.server.read(1, { signal: AbortSignal.timeout(50) }).catch((error) => error);
  assertEquals(late.name, "TimeoutError");
  await assertRejects(() => pair.server.read(0), RangeError, "Invalid `size`");
  await writeText(client, "a");
  assertEquals(text(await within(20_000, pair.server.read(10))), "a");
  await client.closeWrite();
  assertEquals(await within(20_000, pair.server.read(1)), null);
  assertEquals(await pair.server.read(1), null);
  pair.server.close();
  await assertRejects(() => pair.server.read(1), Deno.errors.BadResource, "WSAENOTSOCK");
});

Deno.test("what was given back goes along with the socket, and stays if it comes back", async () => {
  const child = spawnChild("echo.ts");
  try {
    await using source = new HandoffSource(child);
    using pair = await connection();
    using client = pair.client.toConn();
    await writeText(client, "LINE\nrest");
    assertEquals(text(await within(20_000, pair.server.read(100))), "LINE\nrest");
    pair.server.unread(bytes("rest"));
    const refused = await source.send(pair.server, { signal: AbortSignal.abort() }).catch((error) => error);
    assertEquals(refused.name, "AbortError");
    assertEquals(text(pair.server.initialBytes), "rest");
    await source.send(pair.server);
    assertEquals(await readText(client, 4), "rest");
  } finally {
    await endChild(child);
  }
});
