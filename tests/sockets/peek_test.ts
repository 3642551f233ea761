// Looking at what comes next, without reading it.
import { assertEquals, assertRejects } from "@std/assert";
import { connection, readText, writeText } from "../kit/connections.ts";
import { within } from "../kit/process.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("what was peeked at is still read", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const peeking = pair.server.peek(100);
  await writeText(client, "hello");
  assertEquals(text(await within(20_000, peeking)), "hello");
  assertEquals(text(await pair.server.peek(2)), "he");
  assertEquals(await readText(pair.server.toConn(), 5), "hello");
});

Deno.test("peek waits for as much as is asked for", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  await writeText(client, "hel");
  const peeking = pair.server.peek(100, { atLeast: 5 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  await writeText(client, "lo");
  assertEquals(text(await within(20_000, peeking)), "hello");
});

Deno.test("peek ends with the peer, its signal and its socket", async () => {
  using pair = await connection();
  const reason = new Error("enough");
  const aborted = AbortSignal.abort(reason);
  assertEquals(await pair.server.peek(1, { signal: aborted }).catch((error) => error), reason);
  const late = await pair.server.peek(1, { signal: AbortSignal.timeout(50) }).catch((error) => error);
  assertEquals(late.name, "TimeoutError");
  pair.client.close();
  assertEquals((await within(20_000, pair.server.peek(1))).byteLength, 0);
  await assertRejects(
    () => pair.server.peek(1, { atLeast: 2 }),
    RangeError,
    "Invalid `atLeast`: must be at most 1, got 2",
  );
  pair.server.close();
  await assertRejects(() => pair.server.peek(1), Deno.errors.BadResource, "peek");
});
