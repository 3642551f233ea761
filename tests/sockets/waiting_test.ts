// What waits for a socket: together with many others, for a part of what is to come, and for a socket that goes away.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, DatagramSocket, listen, listenDatagram, Socket } from "@winsock/handoff";
import { duplicateFrom, setBlocking } from "../../ffi/unix/descriptors.ts";
import { type Connection, connection, readText, writeText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";
import { isWine } from "../kit/wine.ts";

const text = (bytes: Uint8Array | null) => new TextDecoder().decode(bytes ?? undefined);
const onLinux = Deno.build.os === "linux";

/** Many times over, for what happens only sometimes. */
const TIMES = 100;

/** The ways in which a socket goes away while somebody waits for it. */
const WAYS: readonly (readonly [name: string, give: (socket: Socket) => Disposable])[] = [
  ["closed", (socket) => (socket.close(), { [Symbol.dispose]() {} })],
  ["detached", (socket) => Socket.fromHandle(socket.detach())],
  ["made a connection", (socket) => socket.toConn()],
  ["made a connection of foreign functions", (socket) => socket.toConn({ native: false })],
];

/** Ways to wait for bytes of a socket. */
const WAITS: readonly (readonly [name: string, wait: (socket: Socket, signal?: AbortSignal) => Promise<unknown>])[] = [
  ["peek", (socket, signal) => socket.peek(5, signal === undefined ? {} : { signal })],
  ["peek for all", (socket, signal) => socket.peek(5, { atLeast: 5, ...signal === undefined ? {} : { signal } })],
  ["read", (socket, signal) => socket.read(5, signal === undefined ? {} : { signal })],
];

async function connections(count: number): Promise<Connection[]> {
  const made: Connection[] = [];
  for (let index = 0; index < count; index++) made.push(await connection());
  return made;
}

/** Threads of this process. */
function threads(): number {
  return [...Deno.readDirSync("/proc/self/task")].length;
}

Deno.test("idle clients hold no thread each: others are answered, and files read", async () => {
  const idle = await connections(onLinux ? 400 : 150);
  const before = onLinux ? threads() : 0;
  const waiting = idle.map(({ server }) => server.peek(1));
  const reading = idle.map(({ client }) => client.read(1));
  await Deno.stat(import.meta.url.startsWith("file:") ? new URL(import.meta.url) : ".");
  const begun = performance.now();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  for (let time = 0; time < 20; time++) {
    const [honest, server] = await Promise.all([connect({ port: listener.addr.port }), listener.accept()]);
    using conn = honest.toConn();
    await writeText(conn, "hello");
    assertEquals(text(await within(20_000, server.peek(5, { atLeast: 5 }))), "hello");
    server.close();
  }
  // With 32 threads that take turns of 50 ms it takes ten times as long, and more.
  assert(performance.now() - begun < 5_000, `${performance.now() - begun} ms`);
  if (onLinux) assert(threads() - before <= 4, `${threads() - before} more threads`);
  for (const pair of idle) pair[Symbol.dispose]();
  for (const wait of [...waiting, ...reading]) await within(20_000, assertRejects(() => wait, Deno.errors.Interrupted));
});

for (const [waiter, wait] of WAITS) {
  for (const [way, give] of WAYS) {
    Deno.test(`${waiter} of a socket that is ${way} ends at once, and takes nothing of another's`, async () => {
      let reused = 0;
      for (let time = 0; time < TIMES; time++) {
        using pair = await connection();
        const { handle } = pair.server;
        const waiting = wait(pair.server);
        // In some rounds it waits already, in some it does not.
        if (time % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
        const rejected = assertRejects(() => waiting, Deno.errors.Interrupted, "WSAENOTSOCK");
        using _given = give(pair.server);
        using other = await connection();
        if ([other.client.handle, other.server.handle].includes(handle)) reused++;
        using client = other.client.toConn();
        await writeText(client, "other");
        await within(20_000, rejected);
        assertEquals(text(await within(20_000, other.server.read(10))), "other");
      }
      if (way === "closed" && onLinux) assert(reused > TIMES / 2, `the number was used again ${reused} times`);
    });
  }

  Deno.test(`${waiter} that is aborted reads nothing, even of what comes in the same moment`, async () => {
    for (let time = 0; time < TIMES; time++) {
      using pair = await connection();
      using client = pair.client.toConn();
      const reason = new Error("enough");
      const abort = new AbortController();
      const waiting = wait(pair.server, abort.signal);
      if (time % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
      abort.abort(reason);
      const writing = writeText(client, "hello");
      assertEquals(await within(20_000, waiting.catch((error) => error)), reason);
      await writing;
      assertEquals(text(await within(20_000, pair.server.peek(10, { atLeast: 5 }))), "hello");
    }
  });
}

Deno.test("a read that ends loses nothing, whether it was aborted before or after it had read", async () => {
  for (let time = 0; time < TIMES; time++) {
    using pair = await connection();
    using client = pair.client.toConn();
    const abort = new AbortController();
    const reading = pair.server.read(5, { signal: abort.signal }).catch(() => undefined);
    const writing = writeText(client, "hello");
    if (time % 3 === 1) await writing;
    if (time % 3 === 2) await new Promise((resolve) => setTimeout(resolve, 0));
    abort.abort();
    const bytes = await within(20_000, reading) ?? await within(20_000, pair.server.read(5));
    assertEquals(text(bytes), "hello");
  }
});

Deno.test("a socket that was aborted on is still there, and whoever else waits for it goes on", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const abort = new AbortController();
  const aborted = assertRejects(() => pair.server.peek(1, { signal: abort.signal }), DOMException);
  const others = [
    pair.server.peek(5, { atLeast: 5 }),
    pair.server.peek(2, { atLeast: 2 }),
    pair.server.peek(1),
  ];
  await new Promise((resolve) => setTimeout(resolve, 10));
  abort.abort();
  await aborted;
  await writeText(client, "he");
  assertEquals((await within(20_000, Promise.all(others.slice(1)))).map(text), ["he", "h"]);
  const reading = pair.server.read(5);
  assertEquals(text(await within(20_000, reading)), "he");
  await writeText(client, "hello");
  assertEquals(text(await within(20_000, others[0]!)), "hello");
});

Deno.test("a datagram socket that goes away ends what receives, and nothing of another's is received", async () => {
  for (const end of ["close", "detach"] as const) {
    for (let time = 0; time < 20; time++) {
      const socket = listenDatagram({ hostname: "127.0.0.1", port: 0 });
      const receiving = assertRejects(() => socket.receive(), Deno.errors.Interrupted);
      if (time % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
      const handle = end === "close" ? (socket.close(), undefined) : socket.detach();
      using other = listenDatagram({ hostname: "127.0.0.1", port: 0 });
      using sender = listenDatagram({ hostname: "127.0.0.1", port: 0 });
      await sender.send(new Uint8Array([1]), other.addr);
      await within(20_000, receiving);
      assertEquals((await within(20_000, other.receive()))[0], new Uint8Array([1]));
      if (handle !== undefined) DatagramSocket.fromHandle(handle).close();
    }
  }
});

Deno.test("what was closed leaves what has its number now alone", { ignore: !onLinux }, async () => {
  const CLOSED: readonly (() => Promise<[handle: bigint, again: () => unknown]>)[] = [
    async () => {
      const listener = listen({ hostname: "127.0.0.1", port: 0 });
      const accepting = listener.accept();
      (await connect({ port: listener.addr.port })).close();
      (await accepting).close();
      const { handle } = listener;
      const pending = assertRejects(() => listener.accept(), Deno.errors.BadResource);
      listener.close();
      await pending;
      return [handle, () => listener.pause()];
    },
    async () => {
      const socket = listenDatagram({ hostname: "127.0.0.1", port: 0 });
      const { handle } = socket;
      const pending = assertRejects(() => socket.receive(), Deno.errors.Interrupted);
      socket.close();
      await pending;
      return [handle, () => socket.pause()];
    },
    async () => {
      using pair = await connection();
      const { handle } = pair.server;
      const conn = pair.server.toConn({ native: false });
      const reading = conn.read(new Uint8Array(1)).catch(() => {});
      conn.close();
      await reading;
      return [handle, () => conn.close()];
    },
  ];
  for (const closed of CLOSED) {
    // Made before, so that it does not take the number itself.
    using pair = await connection();
    const [handle, again] = await closed();
    const copy = duplicateFrom(pair.server.handle, Number(handle));
    assertEquals(copy, handle);
    using socket = Socket.fromHandle(copy) as Socket;
    const peeking = socket.peek(1);
    await again();
    await writeText(pair.client.toConn(), "x");
    assertEquals(text(await within(20_000, peeking)), "x");
  }
});

// Wine tells of the end only once everything before it was read.
Deno.test("a peer that sends fewer bytes than peek waits for, and ends its side: they are what there is", {
  ignore: Deno.build.os === "windows" && isWine(),
}, async () => {
  for (const delays of [[0, 0], [20, 0], [0, 20], [20, 20]]) {
    using pair = await connection();
    using client = pair.client.toConn();
    const peeking = delays[0] === 0 ? undefined : pair.server.peek(10, { atLeast: 5 });
    await new Promise((resolve) => setTimeout(resolve, delays[0]));
    await writeText(client, "hel");
    await new Promise((resolve) => setTimeout(resolve, delays[1]));
    await client.closeWrite();
    if (peeking === undefined) await until(async () => (await pair.server.peek(10)).byteLength === 3, "all has come");
    assertEquals(text(await within(20_000, peeking ?? pair.server.peek(10, { atLeast: 5 }))), "hel");
    // It is all still there, and this side can answer.
    assertEquals(text(await pair.server.read(10)), "hel");
    assertEquals((await within(20_000, pair.server.peek(10, { atLeast: 5 }))).byteLength, 0);
    using server = pair.server.toConn({ native: false });
    await writeText(server, "well");
    assertEquals(await readText(client, 4), "well");
  }
});

Deno.test("a local peer that sends too few bytes and closes is told of, too", needs("abstract names"), async () => {
  using listener = listen({ path: `\0waiting-${Deno.pid}` });
  const client = (await connect({ path: `\0waiting-${Deno.pid}` })).toConn();
  using server = await listener.accept();
  const peeking = server.peek(10, { atLeast: 5 });
  await writeText(client, "hel");
  await new Promise((resolve) => setTimeout(resolve, 10));
  await writeText(client, "p");
  client.close();
  assertEquals(text(await within(20_000, peeking)), "help");
});

Deno.test("what peek and read are asked for is checked", async () => {
  using pair = await connection();
  for (const size of [0, -1, NaN, 1.5, Infinity]) {
    await assertRejects(() => pair.server.peek(size), RangeError, "Invalid `size`: must be an integer from 1");
    await assertRejects(() => pair.server.read(size), RangeError, "Invalid `size`: must be an integer from 1");
    await assertRejects(() => pair.server.peek(5, { atLeast: size }), RangeError, "Invalid `atLeast`");
  }
});

Deno.test(
  "connects that wait hold no thread each, and are aborted at once",
  needs("waiting for a local listener"),
  async () => {
    // A listener whose backlog is full lets TCP connects wait.
    using listener = listen({ hostname: "127.0.0.1", port: 0, tcpBacklog: 0 });
    const abort = new AbortController();
    const before = [threads(), countDescriptors()];
    const connecting = Array.from({ length: 100 }, () => connect({ port: listener.addr.port, signal: abort.signal }));
    const outcomes = connecting.map((one) => one.then((socket) => socket.close(), (error) => error));
    await until(() => threads() - before[0]! <= 4, "no thread for each");
    abort.abort(new Error("no longer"));
    const errors = (await within(20_000, Promise.all(outcomes))).filter((error) => error !== undefined);
    assert(errors.length > 50 && errors.every((error) => (error as Error).message === "no longer"), `${errors[0]}`);
    assert(countDescriptors() - before[1]! < 5, "the sockets of aborted connects are closed");
  },
);

Deno.test("a peek does not wait on a descriptor that others made blocking", { ignore: !onLinux }, async () => {
  using pair = await connection();
  setBlocking(pair.server.handle);
  using client = pair.client.toConn();
  const peeking = pair.server.peek(5);
  await writeText(client, "hello");
  assertEquals(text(await within(20_000, peeking)), "hello");
});
