// What a version takes from the one before it, and what it does not.
import { assertEquals, assertRejects } from "@std/assert";
import {
  connect,
  type HandoffChild,
  HandoffError,
  HandoffSource,
  inherit,
  listen,
  type ServerVersion,
  UpgradeError,
} from "@winsock/handoff";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { injectingChild } from "../kit/handoffs.ts";
import { until, within } from "../kit/process.ts";

const VARIABLE = "WINSOCK_HANDOFF_PREDECESSOR";

Deno.test("the variable that tells of a predecessor is not passed on", async () => {
  Deno.env.set(VARIABLE, "0");
  using version = await inherit();
  assertEquals([version.predecessor, Deno.env.get(VARIABLE)], [undefined, undefined]);
});

/** Sends something to this process as if it were the next version of a server; returns how it does not become one. */
async function failWith(
  send: (source: HandoffSource, say: (bytes: Uint8Array<ArrayBuffer>) => void) => Promise<void>,
): Promise<Error> {
  const { child, input, exit, inject } = injectingChild();
  const source = new HandoffSource(child, { sendTimeout: 5_000 });
  const failed = assertRejects(() => inherit({ predecessor: 1, input }), Error);
  try {
    await send(source, inject);
    const error = await within(10_000, failed);
    assertEquals(await within(10_000, source.closed) instanceof HandoffError, true);
    return error;
  } finally {
    exit(0);
  }
}

Deno.test("what is no inheritance is refused and closed, and nothing more is read", async () => {
  for (const data of [undefined, "hello", { upgrade: 2 }, { upgrade: 1 }]) {
    using pair = await connection();
    using client = pair.client.toConn();
    const error = await failWith((source) => source.send(pair.server, { data }));
    assertEquals(error.constructor, TypeError, error.message);
    assertEquals(await within(10_000, readEnd(client)), true);
  }
});

Deno.test("of an inheritance that ends in an error nothing stays open", async () => {
  using conversation = await connection();
  using along = await connection();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const error = await failWith(async (source, say) => {
    await source.send(conversation.server, {
      data: { upgrade: 1, listeners: ["http"], datagrams: ["echo"], connections: 1 },
    });
    await source.send(listener);
    await source.send(along.server);
    say(new Uint8Array(64).fill(255));
  });
  assertEquals([error instanceof HandoffError && error.outcome], ["channel-broken"], error.message);
  for (const { client } of [conversation, along]) {
    using conn = client.toConn();
    assertEquals(await within(10_000, readEnd(conn)), true);
  }
  await until(() => connect({ port }).then((socket) => (socket.close(), false), () => true), "nobody listens any more");
});

/** Makes this process the next version of a server of which a test says what it says. */
async function withPredecessor(
  test: (version: ServerVersion, conversation: Deno.Conn, along: Deno.Conn) => Promise<void>,
): Promise<void> {
  using conversation = await connection();
  using along = await connection();
  const stdin = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
  const status = Promise.withResolvers<Deno.CommandStatus>();
  const child = { pid: Deno.pid, stdin: stdin.writable, status: status.promise } as HandoffChild;
  const source = new HandoffSource(child, { sendTimeout: 5_000 });
  const inheriting = inherit({ predecessor: 1, input: stdin.readable });
  await source.send(conversation.server, { data: { upgrade: 1, listeners: [], connections: 1 } });
  await source.send(along.server);
  using version = await within(10_000, inheriting);
  await source.close();
  using said = conversation.client.toConn();
  using client = along.client.toConn();
  await test(version, said, client);
}

/** Has it serve; returns whether its trial is over. */
async function beginTrial(version: ServerVersion, said: Deno.Conn): Promise<() => boolean> {
  let over = false;
  version.confirmed().then(() => over = true);
  const ready = version.markReady();
  assertEquals(await within(10_000, readText(said, 16)), '{"say":"ready"}\n');
  await writeText(said, '{"say":"go"}\n');
  await within(10_000, ready);
  assertEquals(await within(10_000, readText(said, 18)), '{"say":"serving"}\n');
  return () => over;
}

Deno.test("a version answers at the end of its trial, and knows when it is over", async () => {
  await withPredecessor(async (version, said) => {
    const over = await beginTrial(version, said);
    await writeText(said, '{"say":"check"}\n');
    assertEquals(await within(10_000, readText(said, 16)), '{"say":"alive"}\n');
    assertEquals(over(), false);
    await writeText(said, '{"say":"confirm"}\n');
    await within(10_000, version.confirmed());
    assertEquals(version.connections.length, 1);
    for (const { socket } of version.connections) socket.close();
  });
});

Deno.test("the trial of a version is over when its predecessor ends", async () => {
  await withPredecessor(async (version, said, client) => {
    await beginTrial(version, said);
    said.close();
    await within(10_000, version.confirmed());
    for (const { socket } of version.connections) {
      using conn = socket.toConn();
      await writeText(conn, "mine");
    }
    assertEquals(await within(10_000, readText(client, 4)), "mine");
  });
});

Deno.test("a version that refuses is told that its trial never ends", async () => {
  await withPredecessor(async (version, said, client) => {
    await within(10_000, version.refuse("not today"));
    assertEquals(await within(10_000, readText(said, 100)), '{"say":"refuse","reason":"not today"}\n');
    const { outcome } = await within(10_000, assertRejects(() => version.confirmed(), UpgradeError));
    assertEquals(outcome, "refused");
    assertEquals(await within(10_000, readEnd(client)), true, "nobody asked for the connection");
  });
});
