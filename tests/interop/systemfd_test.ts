// systemfd's protocol: our server, our client, bad ones of both kinds, and in the Windows lane one of each in C.
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { connect, duplicateSocket, listen, Socket, WinsockError } from "@winsock/handoff";
import {
  receiveSystemfd,
  serveSystemfd,
  type ServeSystemfdOptions,
  type SystemfdServer,
} from "@winsock/handoff/interop";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { endChild, FFI_GRANT, lines, RUN, spawnChild, until, within } from "../kit/process.ts";
import { cProgram, EXAMPLE_ENV_GRANT, haveCPrograms } from "../kit/programs.ts";

type ErrorClass = Parameters<typeof assertRejects>[1];

const ENV_GRANT = "--allow-env=SYSTEMFD_SOCKET_SERVER,SYSTEMFD_SOCKET_SECRET";
const EXAMPLE = new URL("../../examples/socket_activation.ts", import.meta.url).href;
const GREET = new URL("../children/greet_systemfd.ts", import.meta.url).href;

function variables(env: Readonly<Record<string, string>>): Map<string, string> {
  return new Map(Object.entries(env));
}

/** Connects to a server as somebody who does not know the protocol. */
async function dial({ env }: { env: SystemfdServer["env"] }): Promise<Deno.TcpConn> {
  return (await connect({ port: Number(env.SYSTEMFD_SOCKET_SERVER.split(":")[1]) })).toConn();
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

Deno.test("without a server in the environment there are no sockets, which is no error", async () => {
  for (const env of [{}, { SYSTEMFD_SOCKET_SERVER: "127.0.0.1:1" }, { SYSTEMFD_SOCKET_SECRET: "x" }]) {
    using passed = await receiveSystemfd({ env: variables(env) });
    assertEquals(passed.length, 0);
  }
});

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
      [`${wrong}|${Deno.pid}`, "A client does not know the secret"],
      [`${secret.slice(1)}|${Deno.pid}`, "A client does not know the secret"],
      [`|${Deno.pid}`, "A client does not know the secret"],
      ["", "A client does not know the secret"],
      ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "A client does not know the secret"],
      [secret, 'A client says "", no process id'],
      [`${secret}|`, 'A client says "|", no process id'],
      [`${secret}|0`, 'A client says "|0", no process id'],
      [`${secret}|-1`, 'A client says "|-1", no process id'],
      [`${secret}|${Deno.pid}\n`, "no process id"],
      [`${secret}|99999999999`, "The peer sent more than 47 bytes"],
      [`${secret}|9999999999`, "no process id"],
      [`${secret} ${Deno.pid}`, "no process id"],
      ["x".repeat(100_000), "The peer sent more than 47 bytes"],
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
        `A client is process ${Deno.pid}, and the sockets are for process ${child.pid}`,
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
    // Both places are taken; who asks now waits for one and is served.
    await assertServed(server, port);
    assert(errors.length > 0);
    assertEquals(await readEnd(silent).catch(() => true), true);
    assertEquals(await readEnd(halfOpen).catch(() => true), true);
    assertEquals(errors.map((error) => error.constructor), [Deno.errors.TimedOut, Deno.errors.TimedOut]);
  });
});

Deno.test("clients that break off leave nothing behind", async () => {
  await withServer({}, async (server, errors, port) => {
    await assertServed(server, port);
    const before = countDescriptors();
    for (const request of ["", "half a secr", `${server.env.SYSTEMFD_SOCKET_SECRET}|`]) {
      const conn = await dial(server);
      if (request !== "") await writeText(conn, request);
      conn.close();
    }
    await until(() => errors.length === 3, "the server reports them");
    await assertServed(server, port);
    await until(() => countDescriptors() <= before, "the descriptors are closed");
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

Deno.test("closing the server ends the clients that are being served", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const server = serveSystemfd([listener], { timeout: 60_000 });
  using conn = await dial(server);
  await writeText(conn, "x");
  await within(10_000, server.close());
  assertEquals(await readEnd(conn).catch(() => true), true);
  await assertRejects(() => dial(server), WinsockError);
  assert(listener.addr.port > 0);
});

/** Runs a test against a server that gives its only client an answer, and ends it, or keeps the client waiting. */
async function withAnswer(
  answer: Uint8Array,
  ends: boolean,
  test: (env: Map<string, string>) => Promise<void>,
): Promise<void> {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = listener.accept();
  const tested = test(variables({
    SYSTEMFD_SOCKET_SERVER: `127.0.0.1:${listener.addr.port}`,
    SYSTEMFD_SOCKET_SECRET: "secret",
  }));
  using conn = (await accepting).toConn();
  assertEquals(await readText(conn, 100), `secret|${Deno.pid}`);
  // A client that has heard enough closes the connection, so that what is still being said fails.
  await conn.write(answer).then(() => ends ? conn.closeWrite() : undefined).catch(() => {});
  await within(20_000, tested);
}

Deno.test("a server that answers badly is a clear error: no descriptor stays open, and the environment stays", async () => {
  using shared = listen({ hostname: "127.0.0.1", port: 0 });
  const blob = () => duplicateSocket(shared, Deno.pid);
  const garbage = new Uint8Array(628).fill(0xa5);
  const answers: [() => Uint8Array, ErrorClass, string][] = [
    [() => new Uint8Array(0), Deno.errors.UnexpectedEof, "it sent none, as to a wrong secret"],
    [() => new Uint8Array(100), Deno.errors.UnexpectedEof, "only 100 of its 628 bytes came"],
    [() => new Uint8Array([...blob(), ...garbage.subarray(1)]), Deno.errors.UnexpectedEof, "only 627 of its 628"],
    [() => new Uint8Array([...blob(), ...garbage, ...blob()]), RangeError, "ProtocolChain at offset 40"],
    [() => new Uint8Array(628), WinsockError, "Cannot open a shared socket"],
    [() => new Uint8Array(1025 * 628), RangeError, "The peer sent more than 643072 bytes"],
  ];
  let before = 0;
  // What is more after the first round are things every process opens once.
  for (let round = 0; round < 6; round++) {
    for (const [answer, type, message] of answers) {
      await withAnswer(answer(), true, async (env) => {
        await assertRejects(() => receiveSystemfd({ env }), type, message);
        assertEquals(env.size, 2);
      });
    }
    if (round === 0) before = countDescriptors();
  }
  await withAnswer(new Uint8Array(628), false, async (env) => {
    await assertRejects(() => receiveSystemfd({ env, timeout: 300 }), Deno.errors.TimedOut, "longer than");
  });
  for (const server of ["127.0.0.1", "localhost", ":80", "127.0.0.1:x"]) {
    const env = variables({ SYSTEMFD_SOCKET_SERVER: server, SYSTEMFD_SOCKET_SECRET: "secret" });
    await assertRejects(() => receiveSystemfd({ env }), TypeError, `SYSTEMFD_SOCKET_SERVER is "${server}"`);
  }
  await until(() => countDescriptors() <= before, "the descriptors are closed");
});

/** Lets the client in C fetch a listener and a connection, and checks what it does with them. */
async function serveC(): Promise<void> {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using pair = await connection();
  using client = pair.client.toConn();
  await using server = serveSystemfd([listener, pair.server]);
  const child = new Deno.Command(cProgram("systemfd_client"), { env: { ...server.env }, stdout: "piped" }).spawn();
  try {
    const line = lines(child);
    assertEquals(await line(), "1256 bytes");
    assertEquals(await line(), `listener on port ${listener.addr.port}`);
    using conn = (await connect({ port: listener.addr.port })).toConn();
    assertEquals(await readText(conn, 100), "hello from C");
    assertEquals(await line(), `connection on port ${pair.server.localAddr.port}`);
    assertEquals(await readText(client, 12), "hello from C");
    assertEquals(await line(), "done");
    assertEquals((await within(20_000, child.status)).code, 0);
  } finally {
    await endChild(child);
  }
  // Both sockets are still ours, and work.
  using waiting = await connect({ port: listener.addr.port });
  using accepted = await within(10_000, listener.accept());
  assertEquals(accepted.remoteAddr, waiting.localAddr);
  using conn = pair.server.toConn();
  await writeText(conn, "and from us");
  assertEquals(await readText(client, 11), "and from us");
}

Deno.test({
  name: "a client in C fetches our sockets and uses them",
  ignore: !haveCPrograms(),
  fn: async () => {
    await serveC();
    // What is open after the first time are things every process opens once.
    const before = countDescriptors();
    await serveC();
    await until(() => countDescriptors() <= before, "the descriptors are closed");
  },
});

Deno.test({
  name: "a client in C with the wrong secret gets nothing",
  ignore: !haveCPrograms(),
  fn: async () => {
    await withServer({}, async (server, errors) => {
      const env = { ...server.env, SYSTEMFD_SOCKET_SECRET: crypto.randomUUID() };
      const { stdout } = await within(20_000, new Deno.Command(cProgram("systemfd_client"), { env }).output());
      assertEquals(new TextDecoder().decode(stdout), "0 bytes\ndone\n");
      assertEquals(errors.map(({ message }) => message), ["A client does not know the secret"]);
    });
  },
});

Deno.test({
  name: "a server in C gives us its listeners, and we accept on them, also on the non-blocking one",
  ignore: !haveCPrograms(),
  fn: async () => {
    const server = new Deno.Command(cProgram("systemfd_server"), { stdout: "piped" }).spawn();
    try {
      const line = lines(server);
      const [address, secret, ...ports] = (await line())!.trim().split(" ");
      const request = { SYSTEMFD_SOCKET_SERVER: address!, SYSTEMFD_SOCKET_SECRET: secret! };
      await assertRejects(
        () => receiveSystemfd({ env: variables({ ...request, SYSTEMFD_SOCKET_SECRET: "wrong" }) }),
        Deno.errors.UnexpectedEof,
        "wrong secret",
      );
      assertEquals(await line(), "refused");
      const before = countDescriptors();
      using passed = await receiveSystemfd({ env: variables(request) });
      assertEquals(await line(), `served ${Deno.pid}`);
      assertEquals(passed.length, 2);
      for (const [position, port] of ports.entries()) {
        using listener = passed.takeListener(position);
        assertEquals(listener?.addr.port, Number(port));
        const accepting = listener!.accept();
        // Nobody comes for a while: an accept that does not wait would have failed by then.
        await Promise.race([accepting, new Promise((resolve) => setTimeout(resolve, 1_000))]);
        using client = (await connect({ port: Number(port) })).toConn();
        using accepted = await within(10_000, accepting);
        assert(accepted instanceof Socket);
        using conn = accepted.toConn();
        await writeText(conn, "served by Deno");
        assertEquals(await readText(client, 14), "served by Deno");
      }
      await until(() => countDescriptors() <= before, "the descriptors are closed");
    } finally {
      await endChild(server);
    }
  },
});
