// Looking at what comes next, without reading it.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, listen } from "@winsock/handoff";
import process from "node:process";
import { connection, readText, writeText } from "../kit/connections.ts";
import { within } from "../kit/process.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("clients that have sent a part cost next to nothing, and the rest is seen when it comes", async () => {
  const most = 200;
  using listener = listen({ hostname: "127.0.0.1", tcpBacklog: most });
  using stack = new DisposableStack();
  const clients: Deno.TcpConn[] = [];
  const abort = new AbortController();
  const peeks: Promise<Uint8Array | Error>[] = [];
  for (let count = 0; count < most; count++) {
    const client = stack.use((await connect({ port: listener.addr.port })).toConn());
    const socket = stack.use(await listener.accept());
    await client.write(new Uint8Array(3));
    clients.push(client);
    peeks.push(socket.peek(5, { atLeast: 5, signal: abort.signal }).catch((error: Error) => error));
  }
  // Where the socket is polled, the intervals grow.
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const before = process.cpuUsage();
  const begin = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const { user, system } = process.cpuUsage(before);
  const share = (user + system) / 1_000 / (performance.now() - begin);
  // A timer of 5 ms for each cost more than a whole core.
  assert(share < 0.1, `${(share * 100).toFixed(1)} % of a core`);
  await clients[0]!.write(new Uint8Array(2));
  assertEquals((await within(20_000, peeks[0]!) as Uint8Array).byteLength, 5);
  abort.abort(new Error("enough"));
  for (const outcome of await Promise.all(peeks.slice(1))) assertEquals((outcome as Error).message, "enough");
});

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
    "Invalid `atLeast`: must be an integer from 1 to 1, got 2",
  );
  pair.server.close();
  await assertRejects(() => pair.server.peek(1), Deno.errors.BadResource, "peek");
});
