// systemfd's protocol, our server: children that fetch their sockets, and clients that misbehave.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { connect, listen, type Socket, WinsockError } from "@winsock/handoff";
import {
  receiveSystemfd,
  serveSystemfd,
  type ServeSystemfdOptions,
  type SystemfdServer,
} from "@winsock/handoff/interop";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { openStreams } from "../kit/descriptors.ts";
import { endChild, FFI_GRANT, lines, RUN, spawnChild, until, within } from "../kit/process.ts";
import { EXAMPLE, EXAMPLE_ENV_GRANT } from "../kit/programs.ts";

const ENV_GRANT = "--allow-env=SYSTEMFD_SOCKET_SERVER,SYSTEMFD_SOCKET_SECRET";
const GREET = new URL("../children/greet_systemfd.ts", import.meta.url).href;

function variables(env: Readonly<Record<string, string>>): Map<string, string> {
  return new Map(Object.entries(env));
}

/** The port of a server. */
function serverPort({ env }: { env: SystemfdServer["env"] }): number {
  return Number(env.SYSTEMFD_SOCKET_SERVER.split(":")[1]);
}

/** Connects to a server as somebody who does not know the protocol. */
async function dial(server: { env: SystemfdServer["env"] }): Promise<Deno.TcpConn> {
  return (await connect({ port: serverPort(server) })).toConn();
}

/** Says something to a server, ends this side, and returns how many bytes it answers. */
async function say(server: { env: SystemfdServer["env"] }, request: string): Promise<number> {
  using conn = await dial(server);
  await writeText(conn, request);
  await conn.closeWrite();
  return (await readText(conn, 10_000)).length;
}

/** A server of one listener, and what it reported. */
async function withServer(
  options: ServeSystemfdOptions,
  test: (server: SystemfdServer, errors: Error[], port: number) => Promise<void>,
): Promise<void> {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const errors: Error[] = [];
  await using server = serveSystemfd([listener], { ...options, onError: (error) => errors.push(error as Error) });
  await test(server, errors, listener.addr.port);
}

/** What a client that knows the protocol gets. */
async function assertServed(server: SystemfdServer, port: number): Promise<void> {
  const env = variables(server.env);
  using passed = await receiveSystemfd({ env });
  assertEquals([passed.length, env.size, passed.takeListener(0)?.addr.port], [1, 0, port]);
}

Deno.test("a child fetches a listener and a connection, twice if it is started twice", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using pair = await connection();
  using client = pair.client.toConn();
  await using server = serveSystemfd([listener, pair.server]);
  for (let start = 0; start < 2; start++) {
    const child = new Deno.Command(Deno.execPath(), {
      args: [...RUN, ENV_GRANT, FFI_GRANT, GREET],
      env: { ...server.env },
      stdout: "piped",
    }).spawn();
    try {
      const line = lines(child);
      assertEquals(await line(), "Listener");
      using conn = (await connect({ port: listener.addr.port })).toConn();
      assertEquals(await readText(conn, 100), `listener of ${child.pid}`);
      assertEquals(await line(), "Socket");
      assertEquals(await readText(client, `connection of ${child.pid}`.length), `connection of ${child.pid}`);
    } finally {
      await endChild(child);
    }
  }
});

Deno.test("the example answers on the listener it fetched, under the permissions it says", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  await using server = serveSystemfd([listener]);
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, EXAMPLE_ENV_GRANT, FFI_GRANT, EXAMPLE],
    env: { ...server.env },
    stdout: "piped",
  }).spawn();
  try {
    assertEquals(
      await lines(child)(),
      `Process ${child.pid} listens on port ${listener.addr.port}, passed by systemfd`,
    );
    using conn = (await connect({ port: listener.addr.port })).toConn();
    assertEquals(await readText(conn, 1_000), `Hello from process ${child.pid}, on a listener passed by systemfd\n`);
    assertEquals((await within(20_000, child.status)).code, 0);
  } finally {
    await endChild(child);
  }
});

Deno.test("a client that does not know the secret, or says no process id, gets nothing, and the next is served", async () => {
  await withServer({}, async (server, errors, port) => {
    const secret = server.env.SYSTEMFD_SOCKET_SECRET;
    assertMatch(secret, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    const wrong = secret.replace(/.$/, (digit) => digit === "0" ? "1" : "0");
    const requests: [request: string, error: string][] = [
      [`${wrong}|${Deno.pid}`, "Cannot serve a client: its secret is wrong"],
      [`${secret.slice(1)}|${Deno.pid}`, "Cannot serve a client: its secret is wrong"],
      [`|${Deno.pid}`, "Cannot serve a client: its secret is wrong"],
      ["", "Cannot serve a client: its secret is wrong"],
      ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "Cannot serve a client: its secret is wrong"],
      [secret, 'Cannot serve a client: "" is not a process id'],
      [`${secret}|`, 'Cannot serve a client: "|" is not a process id'],
      [`${secret}|0`, 'Cannot serve a client: "|0" is not a process id'],
      [`${secret}|-1`, 'Cannot serve a client: "|-1" is not a process id'],
      [`${secret}|${Deno.pid}\n`, "is not a process id"],
      [`${secret}|99999999999`, "Cannot read from the peer: it sent more than 47 bytes"],
      [`${secret}|9999999999`, "is not a process id"],
      [`${secret} ${Deno.pid}`, "is not a process id"],
      ["x".repeat(100_000), "Cannot read from the peer: it sent more than 47 bytes"],
    ];
    for (const [request, message] of requests) {
      // A server that has heard enough closes the connection, so that what is still being said fails.
      const answered = await say(server, request).catch((error) => error instanceof Error ? 0 : 1);
      assertEquals(answered, 0, request);
      await until(() => errors.length > 0, `the server reports ${request}`);
      assert(errors.pop()!.message.includes(message), request);
      assertEquals(errors, []);
    }
    await assertServed(server, port);
  });
});

Deno.test("a process id that is not the one expected, or no process's, gets nothing", async () => {
  const child = spawnChild("silent.ts");
  try {
    await withServer({ processId: child.pid }, async (server, errors) => {
      const secret = server.env.SYSTEMFD_SOCKET_SECRET;
      assertEquals(await say(server, `${secret}|${Deno.pid}`), 0);
      assertEquals(errors.map(({ message }) => message), [
        `Cannot serve a client: it is process ${Deno.pid}, and the sockets are for process ${child.pid}`,
      ]);
      assertEquals(await say(server, `${secret}|${child.pid}`) > 0, true);
    });
  } finally {
    await endChild(child);
  }
  await withServer({}, async (server, errors, port) => {
    const secret = server.env.SYSTEMFD_SOCKET_SECRET;
    // Under Wine a process that was killed takes another moment to go.
    await until(async () => await say(server, `${secret}|${child.pid}`) === 0, `process ${child.pid} is gone`);
    const error = errors.at(-1);
    assert(error instanceof WinsockError && error.codeName === "WSAEINVAL", String(error));
    await assertServed(server, port);
  });
});

Deno.test("clients that are slow, or never end their side, are cut off and hold nobody up", async () => {
  await withServer({ timeout: 300, maxClients: 2 }, async (server, errors, port) => {
    const secret = server.env.SYSTEMFD_SOCKET_SECRET;
    using silent = await dial(server);
    using halfOpen = await dial(server);
    await writeText(halfOpen, `${secret}|${Deno.pid}`);
    // Both places are taken. The one that has said nothing is given to who asks now.
    await assertServed(server, port);
    assertEquals(await readEnd(silent).catch(() => true), true);
    assertEquals(await readEnd(halfOpen).catch(() => true), true);
    await until(() => errors.length === 2, "the server reports both");
    assertEquals(errors.map((error) => error.constructor), [Deno.errors.ConnectionAborted, Deno.errors.TimedOut]);
  });
});

Deno.test("strangers that hold connections, and open more all the time, keep no client out", async () => {
  await withServer({ timeout: 60_000 }, async (server, errors, port) => {
    const held: Socket[] = [];
    const connectMore = async () => held.push(await connect({ port: serverPort(server) }));
    try {
      // Many more than there are places.
      for (let count = 0; count < 100; count++) await connectMore();
      for (let count = 0; count < 5; count++) {
        const flood = Promise.all(Array.from({ length: 20 }, connectMore));
        await within(10_000, assertServed(server, port));
        await flood;
      }
    } finally {
      for (const socket of held) socket.close();
    }
    await until(() => errors.length === 200, "the server reports each");
    assert(errors.every((error) => /proved nothing|secret is wrong|reset/.test(error.message)), String(errors[0]));
    await assertServed(server, port);
  });
});

Deno.test("clients that know the secret and do not go on fill the places, and not for longer than the timeout", async () => {
  await withServer({ timeout: 300, maxClients: 2 }, async (server, errors, port) => {
    const secret = server.env.SYSTEMFD_SOCKET_SECRET;
    const slow = [await dial(server), await dial(server)];
    for (const conn of slow) await writeText(conn, secret);
    // Until the server has read them.
    await new Promise((resolve) => setTimeout(resolve, 100));
    await assertServed(server, port);
    for (const conn of slow) {
      await readEnd(conn).catch(() => {});
      conn.close();
    }
    assertEquals(errors.map((error) => error.constructor), [Deno.errors.TimedOut, Deno.errors.TimedOut]);
  });
});

Deno.test("clients that break off leave nothing behind", async () => {
  await withServer({}, async (server, errors, port) => {
    await assertServed(server, port);
    const before = openStreams(Deno.pid).length;
    for (const request of ["", "half a secr", `${server.env.SYSTEMFD_SOCKET_SECRET}|`]) {
      const conn = await dial(server);
      if (request !== "") await writeText(conn, request);
      conn.close();
    }
    await until(() => errors.length === 3, "the server reports them");
    await assertServed(server, port);
    await until(() => openStreams(Deno.pid).length <= before, "the descriptors are closed");
  });
});

Deno.test("where one socket cannot be had, nobody gets the others", async () => {
  using pair = await connection();
  using closed = listen({ hostname: "127.0.0.1", port: 0 });
  const errors: Error[] = [];
  await using server = serveSystemfd([pair.server, closed], { onError: (error) => errors.push(error as Error) });
  closed.close();
  const child = spawnChild("silent.ts");
  try {
    assertEquals(await say(server, `${server.env.SYSTEMFD_SOCKET_SECRET}|${child.pid}`), 0);
    assert(errors[0] instanceof WinsockError && errors[0].codeName === "WSAENOTSOCK", String(errors[0]));
  } finally {
    await endChild(child);
  }
  pair.server.close();
  using client = pair.client.toConn();
  assert(await readEnd(client));
});

Deno.test("closing the server ends the clients, whether they are being served or only just came", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  for (let round = 0; round < 30; round++) {
    const server = serveSystemfd([listener], { timeout: 60_000 });
    using conn = await dial(server);
    // In some rounds the server has had time to hear of the client.
    for (let turn = 0; turn < round % 5; turn++) await new Promise((resolve) => setTimeout(resolve, turn));
    await within(10_000, server.close());
    assertEquals(await readEnd(conn).catch(() => true), true);
    // On Windows a listener whose accept was about to begin is closed a moment later.
    await until(() => dial(server).then((conn) => (conn.close(), false), () => true), "nobody listens any more");
  }
  assert(listener.addr.port > 0);
});
