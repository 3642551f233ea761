// systemfd's protocol, our client: what it makes of its environment, and of servers that answer badly.
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { duplicateSocket, listen, WinsockError } from "@winsock/handoff";
import { receiveSystemfd, serveSystemfd } from "@winsock/handoff/interop";
import { readText } from "../kit/connections.ts";
import { openStreams } from "../kit/descriptors.ts";
import { until, within } from "../kit/process.ts";

type ErrorClass = Parameters<typeof assertRejects>[1];

function variables(env: Readonly<Record<string, string>>): Map<string, string> {
  return new Map(Object.entries(env));
}

Deno.test("without a server in the environment there are no sockets, which is no error", async () => {
  for (const env of [{}, { SYSTEMFD_SOCKET_SERVER: "127.0.0.1:1" }, { SYSTEMFD_SOCKET_SECRET: "x" }]) {
    using passed = await receiveSystemfd({ env: variables(env) });
    assertEquals(passed.length, 0);
  }
});

Deno.test("options out of their range are refused", async () => {
  for (const timeout of [0, -1, NaN, 2 ** 31, Infinity]) {
    const message = `Invalid \`timeout\`: must be from 1 to 2147483647 ms, got ${timeout}`;
    await assertRejects(() => receiveSystemfd({ env: variables({}), timeout }), RangeError, message);
    assertThrows(() => serveSystemfd([], { timeout }), RangeError, message);
  }
  assertThrows(
    () => serveSystemfd([], { maxClients: 0 }),
    RangeError,
    "Invalid `maxClients`: must be an integer from 1, got 0",
  );
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
    [() => new Uint8Array(0), Deno.errors.UnexpectedEof, "it sent none; the secret may be wrong"],
    [() => new Uint8Array(100), Deno.errors.UnexpectedEof, "only 100 of its 628 bytes arrived"],
    [() => new Uint8Array([...blob(), ...garbage.subarray(1)]), Deno.errors.UnexpectedEof, "only 627 of its 628"],
    [() => new Uint8Array([...blob(), ...garbage, ...blob()]), RangeError, "ProtocolChain at offset 40"],
    [() => new Uint8Array(628), WinsockError, "Cannot open a shared socket"],
    [() => new Uint8Array(1025 * 628), RangeError, "Cannot read from the peer: it sent more than 643072 bytes"],
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
    if (round === 0) before = openStreams(Deno.pid).length;
  }
  await withAnswer(new Uint8Array(628), false, async (env) => {
    await assertRejects(() => receiveSystemfd({ env, timeout: 300 }), Deno.errors.TimedOut, "timed out after");
  });
  for (const server of ["127.0.0.1", "localhost", ":80", "127.0.0.1:x"]) {
    const env = variables({ SYSTEMFD_SOCKET_SERVER: server, SYSTEMFD_SOCKET_SECRET: "secret" });
    await assertRejects(
      () => receiveSystemfd({ env }),
      TypeError,
      `SYSTEMFD_SOCKET_SERVER must be an address and port, got "${server}"`,
    );
  }
  await until(() => openStreams(Deno.pid).length <= before, "the descriptors are closed");
});
