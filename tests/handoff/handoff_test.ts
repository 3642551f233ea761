// Hand-offs between real processes.
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  connect,
  HandoffError,
  HandoffSource,
  LIBRARY_PATHS,
  listen,
  type Socket,
  WinsockError,
} from "@winsock/handoff";
import { ADDRESSES, connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { settledDescriptors } from "../kit/descriptors.ts";
import { killed } from "../kit/handoffs.ts";
import { endChild, lines, RUN, spawnChild, until, within } from "../kit/process.ts";

/** Runs a test with a source that speaks to a child, and ends both. */
async function withChild(
  script: string,
  test: (source: HandoffSource, child: Deno.ChildProcess) => Promise<void>,
  startTimeout = 20_000,
): Promise<void> {
  const child = spawnChild(script);
  const source = new HandoffSource(child, { startTimeout, sendTimeout: 20_000 });
  try {
    await test(source, child);
  } finally {
    await endChild(child);
    await within(20_000, source.closed);
  }
}

async function rejection(promise: Promise<unknown>): Promise<HandoffError> {
  return await within(20_000, assertRejects(() => promise, HandoffError));
}

/** Whether a socket still carries bytes. */
async function assertUsable(socket: Socket, peer: Socket): Promise<void> {
  using conn = socket.toConn();
  using other = peer.toConn();
  await writeText(conn, "alive");
  assertEquals(await readText(other, 5), "alive");
}

for (const hostname of ADDRESSES) {
  Deno.test(`${hostname}: a connection is handed over with data and initial bytes`, async () => {
    await withChild("echo.ts", async (source, child) => {
      const line = lines(child);
      using pair = await connection(hostname);
      using client = pair.client.toConn();
      await writeText(client, " and more");
      await source.send(pair.server, { data: { n: [1, "ü"] }, initialBytes: new TextEncoder().encode("read") });
      assertEquals(JSON.parse(await line() ?? ""), {
        pid: child.pid,
        data: { n: [1, "ü"] },
        initialBytes: [...new TextEncoder().encode("read")],
      });
      assertEquals(await readText(client, 13), "read and more");
      await writeText(client, "later");
      assertEquals(await readText(client, 5), "later");
      await client.closeWrite();
      assert(await readEnd(client));
    });
  });
}

Deno.test("a sent socket is closed here, and the child's copy is the last", async () => {
  await withChild("echo.ts", async (source, child) => {
    using pair = await connection();
    using client = pair.client.toConn();
    await source.send(pair.server);
    assertEquals(await refusal(source, pair.server), ["WSAENOTSOCK", true]);
    using closed = await connection();
    closed.server.close();
    assertEquals(await refusal(source, closed.server), ["WSAENOTSOCK", true]);
    const ended = readEnd(client);
    await endChild(child);
    assert(await ended);
  });
});

/** How a socket that has no descriptor any more is refused, and whether the error says so. */
async function refusal(source: HandoffSource, socket: Socket): Promise<[string, boolean]> {
  const { codeName, message } = await assertRejects(() => source.send(socket), WinsockError);
  return [codeName, message.includes("Cannot share a socket") && message.includes("closed, handed off or released")];
}

Deno.test("many sockets are on their way at a time", async () => {
  await withChild("echo.ts", async (source) => {
    const pairs = await Promise.all(Array.from({ length: 64 }, () => connection()));
    await within(20_000, Promise.all(pairs.map(({ server }, index) => source.send(server, { data: index }))));
    for (const [index, { client }] of pairs.entries()) {
      using conn = client.toConn();
      await writeText(conn, `number ${index}`);
      assertEquals(await readText(conn, `number ${index}`.length), `number ${index}`);
    }
  });
});

Deno.test("a listener is handed over, and its waiting connections with it", async () => {
  await withChild("listener.ts", async (source, child) => {
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    using client = (await connect({ port: listener.addr.port })).toConn();
    await source.send(listener);
    assertEquals(await lines(child)(), "listening");
    assertEquals(await readText(client, 100), `from ${child.pid}`);
  });
});

Deno.test("a child that takes no listeners rejects one, and it still listens here", async () => {
  await withChild("echo.ts", async (source) => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const error = await rejection(source.send(listener));
    assertEquals([error.outcome, error.reason.includes("takes no listeners")], ["rejected", true]);
    using _client = await connect({ port: listener.addr.port });
    (await within(10_000, listener.accept())).close();
  });
});

Deno.test("a rejected socket comes back open, with the reason; accepting by hand works", async () => {
  await withChild("reject.ts", async (source) => {
    using first = await connection();
    const error = await rejection(source.send(first.server));
    assertEquals([error.outcome, error.reason], ["rejected", "not today"]);
    await assertUsable(first.server, first.client);
    using second = await connection();
    await source.send(second.server);
    using client = second.client.toConn();
    assertEquals(await readText(client, 5), "hello");
    assert(await readEnd(client));
  });
});

Deno.test("a child that dies first leaves the socket usable here", async () => {
  for (const script of ["silent.ts", "echo.ts"]) {
    await withChild(script, async (source, child) => {
      using pair = await connection();
      const sending = rejection(source.send(pair.server));
      child.kill("SIGKILL");
      const { outcome, reason } = await sending;
      assertEquals([outcome, reason], ["target-exited", killed(child)]);
      await assertUsable(pair.server, pair.client);
      using other = await connection();
      assertEquals((await rejection(source.send(other.server))).outcome, "target-exited");
      await assertUsable(other.server, other.client);
    });
  }
});

Deno.test("a child that dies with a socket on its way leaves it usable here", async () => {
  await withChild("reject.ts", async (source, child) => {
    await source.ready;
    child.kill("SIGKILL");
    using pair = await connection();
    const { outcome, reason } = await rejection(source.send(pair.server));
    assertEquals([outcome, reason], ["target-exited", killed(child)]);
    await assertUsable(pair.server, pair.client);
  });
});

Deno.test("a child that does not answer in time leaves the socket usable here", async () => {
  await withChild("silent.ts", async (source) => {
    using pair = await connection();
    const error = await rejection(source.send(pair.server));
    assertEquals([error.outcome, error.reason.includes("not ready after 300 ms")], ["timeout", true]);
    await assertUsable(pair.server, pair.client);
  }, 300);
});

Deno.test("an aborted hand-off leaves the socket usable here", async () => {
  await withChild("silent.ts", async (source) => {
    using pair = await connection();
    const abort = new AbortController();
    const sending = source.send(pair.server, { signal: abort.signal });
    abort.abort(new Error("never mind"));
    await assertRejects(() => sending, Error, "never mind");
    await assertRejects(() => source.send(pair.server, { signal: abort.signal }), Error, "never mind");
    await assertUsable(pair.server, pair.client);
  });
});

Deno.test("what cannot be sent is refused before anything happens", async () => {
  await withChild("echo.ts", async (source) => {
    using pair = await connection();
    await assertRejects(() => source.send(pair.server, { data: 1n }), TypeError);
    await assertRejects(
      () => source.send(pair.server, { data: "x".repeat(1 << 20) }),
      RangeError,
      "Invalid `data`: must have at most",
    );
    const tooLong = new Uint8Array((1 << 20) + 1);
    await assertRejects(
      () => source.send(pair.server, { initialBytes: tooLong }),
      RangeError,
      "Invalid `initialBytes`: must have at most",
    );
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const initialBytes = new Uint8Array(1);
    await assertRejects(
      () => source.send(listener, { initialBytes }),
      TypeError,
      "must be unset for a socket that is not a connection",
    );
    const sending = source.send(pair.server);
    await assertRejects(() => source.send(pair.server), TypeError, "it is being handed off");
    await sending;
  });
});

Deno.test("a closed source waits for what is on its way, ends the child's loop, and takes no more", async () => {
  await withChild("echo.ts", async (source, child) => {
    const line = lines(child);
    using pair = await connection();
    const sending = source.send(pair.server);
    await within(20_000, Promise.all([sending, source.close()]));
    await within(20_000, source.closed);
    assert((await line())?.includes("initialBytes"));
    assertEquals(await line(), "end");
    using client = pair.client.toConn();
    await writeText(client, "still served");
    assertEquals(await readText(client, 12), "still served");
    using other = await connection();
    assertEquals((await rejection(source.send(other.server))).outcome, "closed");
    await client.closeWrite();
    assert(await readEnd(client));
    assertEquals((await within(20_000, child.status)).code, 0);
    assertEquals(await source.closed, undefined, "it has not failed");
  });
});

Deno.test("1 000 hand-offs leave both processes with the descriptors they had", async () => {
  await withChild("echo.ts", async (source, child) => {
    const output = child.stdout.pipeTo(new WritableStream());
    const handOff = async () => {
      using pair = await connection();
      using client = pair.client.toConn();
      await source.send(pair.server);
      await writeText(client, "x");
      assertEquals(await readText(client, 1), "x");
      await client.closeWrite();
      assert(await readEnd(client));
    };
    const many = async (count: number) => {
      for (let done = 0; done < count; done += 20) await Promise.all(Array.from({ length: 20 }, handOff));
    };
    await many(100);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const before = await settledDescriptors(Deno.pid, child.pid);
    await many(1_000);
    await until(async () => {
      const after = await settledDescriptors(Deno.pid, child.pid);
      return after.every((count, index) => count <= before[index]!);
    }, `there are ${before} descriptors in the two processes again`);
    await endChild(child);
    await output;
  });
});

Deno.test("a child without ffi access is told which file it may not open, and the source that it is gone", async () => {
  const url = new URL("../children/ungranted.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), { args: [...RUN, url], stdin: "piped", stdout: "piped" }).spawn();
  const source = new HandoffSource(child as Deno.ChildProcess, { sendTimeout: 20_000 });
  const refused = rejection(source.ready);
  const line = await lines(child as Deno.ChildProcess)();
  assert(line?.startsWith("NotCapable ") && line.includes(LIBRARY_PATHS[0]!), line);
  assertEquals((await refused).outcome, "target-exited");
  await endChild(child as Deno.ChildProcess);
  await within(20_000, source.closed);
});
