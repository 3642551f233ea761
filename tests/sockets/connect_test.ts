// Names of hosts in connect: resolved by the system under the ffi grant alone, several addresses tried as Deno does.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, listen, type Listener, type Socket, WinsockError } from "@winsock/handoff";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { FFI_GRANT, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const LIMIT_MS = 20_000;

/** Names that are looked up, and need no name server. */
const NAMES = ["127.1", "0x7f000001", "2130706433"];

for (const hostname of NAMES) {
  Deno.test(`a name is resolved: ${hostname}`, async () => {
    using listener = listen({ hostname: "127.0.0.1" });
    using socket = await within(LIMIT_MS, connect({ hostname, port: listener.addr.port }));
    assertEquals(socket.remoteAddr, listener.addr);
  });
}

Deno.test("names are resolved under the ffi grant alone, and the event loop runs meanwhile", async () => {
  const said = await runCode(
    `
    import { connect, listen } from ${moduleUrl("mod.ts")};
    using listener = listen({ hostname: "127.0.0.1" });
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const sockets = await Promise.all(Array.from({ length: 12 }, () => connect({ hostname: "127.1", port: listener.addr.port })));
    clearInterval(timer);
    console.log(sockets.length, turns > 0);
    for (const socket of sockets) socket.close();`,
    FFI_GRANT,
  );
  assertEquals(said.trim(), "12 true");
});

Deno.test("a name that nobody knows is an error that says so", async () => {
  const error = await assertRejects(
    () => within(60_000, connect({ hostname: "nobody.invalid", port: 1 })),
    WinsockError,
  );
  assert(["WSAHOST_NOT_FOUND", "WSATRY_AGAIN", "WSANO_DATA"].includes(error.codeName), error.message);
  assert(error.message.startsWith('Cannot resolve the name "nobody.invalid": '), error.message);
});

Deno.test("localhost is IPv4 and then IPv6", async () => {
  using v6 = listen({ hostname: "::1" });
  const { port } = v6.addr;
  using first = await within(LIMIT_MS, connect({ hostname: "localhost", port }));
  assertEquals(first.remoteAddr, v6.addr);
  using v4 = listen({ hostname: "127.0.0.1", port });
  using second = await within(LIMIT_MS, connect({ hostname: "localhost", port }));
  assertEquals(second.remoteAddr, v4.addr);
});

Deno.test("where no address of a host answers, the error is that of the first", async () => {
  const listener = listen({ hostname: "127.0.0.1" });
  const { port } = listener.addr;
  listener.close();
  const message = `Cannot connect to 127.0.0.1 port ${port}`;
  for (const autoSelectFamily of [true, false]) {
    await assertRejects(
      () => within(LIMIT_MS, connect({ hostname: "localhost", port, autoSelectFamily })),
      Deno.errors.ConnectionRefused,
      message,
    );
  }
});

/** An IPv4 listener to which no further connection can be made, and one beside it on IPv6 and the same port. */
async function halfDead(): Promise<{ v4: Listener; v6: Listener; made: Socket[] } & Disposable> {
  const v4 = listen({ hostname: "127.0.0.1", tcpBacklog: 1 });
  const v6 = listen({ hostname: "::1", port: v4.addr.port });
  const made: Socket[] = [];
  for (;;) {
    const signal = AbortSignal.timeout(300);
    const socket = await connect({ port: v4.addr.port, signal }).catch(() => undefined);
    if (socket === undefined) break;
    made.push(socket);
  }
  return {
    v4,
    v6,
    made,
    [Symbol.dispose]() {
      for (const each of [v4, v6, ...made]) each.close();
    },
  };
}

Deno.test("an address that does not answer does not hold up the next one", async () => {
  using pair = await halfDead();
  const { port } = pair.v6.addr;
  const begin = performance.now();
  using socket = await within(LIMIT_MS, connect({ hostname: "localhost", port, autoSelectFamilyAttemptDelay: 50 }));
  assertEquals(socket.remoteAddr, pair.v6.addr);
  const taken = performance.now() - begin;
  // Windows refuses what has no room; elsewhere the first attempt goes on until it is ended.
  assert(taken < 5_000, `${taken} ms`);
});

Deno.test("attempts that are over leave no descriptor behind, and an abort ends all", async () => {
  using pair = await halfDead();
  const { port } = pair.v6.addr;
  await assertNothingLeaks(async () => {
    (await connect({ hostname: "localhost", port, autoSelectFamilyAttemptDelay: 1 })).close();
  });
  if (Deno.build.os === "windows") return;
  const signal = AbortSignal.timeout(50);
  const began = performance.now();
  const waiting = connect({ hostname: "localhost", port, autoSelectFamily: false, signal });
  await assertRejects(() => within(LIMIT_MS, waiting), DOMException, "timeout");
  assert(performance.now() - began < 5_000);
});

Deno.test("a lookup that waits is left at once when it is aborted", async () => {
  const reason = new Error("changed my mind");
  const abort = new AbortController();
  const waiting = Array.from({ length: 20 }, (_, index) =>
    assertRejects(
      () => within(LIMIT_MS, connect({ hostname: `nobody${index}.invalid`, port: 1, signal: abort.signal })),
      Error,
      "changed my mind",
    ));
  abort.abort(reason);
  await Promise.all(waiting);
});

Deno.test("an attempt ends at once, also if the signal is aborted in the turn in which it begins", async () => {
  using pair = await halfDead();
  const { port } = pair.v4.addr;
  const reason = new Error("changed my mind");
  await assertNothingLeaks(async () => {
    for (const hostname of ["127.0.0.1", "127.1", "localhost"]) {
      const abort = new AbortController();
      const began = performance.now();
      const { signal } = abort;
      const waiting = assertRejects(
        () => within(LIMIT_MS, connect({ hostname, port, autoSelectFamily: false, signal })),
        Error,
        "changed my mind",
      );
      abort.abort(reason);
      await waiting;
      const taken = performance.now() - began;
      assert(taken < 1_000, `${hostname}: ${taken} ms`);
    }
  });
});

Deno.test("what connect is asked for is checked", async () => {
  const port = 1;
  for (const autoSelectFamilyAttemptDelay of [0, -1, 1.5, NaN, 2 ** 31]) {
    await assertRejects(
      () => connect({ port, autoSelectFamilyAttemptDelay }),
      RangeError,
      `Invalid \`autoSelectFamilyAttemptDelay\`: must be an integer from 1 to 2147483647, got ${autoSelectFamilyAttemptDelay}`,
    );
  }
  await assertRejects(
    () => connect({ port, autoSelectFamily: "yes" as unknown as boolean }),
    TypeError,
    'Invalid `autoSelectFamily`: must be true or false, got "yes"',
  );
  for (const hostname of ["", "127.0.0.1\0x", "name\0"]) {
    await assertRejects(
      () => connect({ hostname, port }),
      TypeError,
      "Invalid `hostname`: must be a name or an IP address",
    );
  }
  for (const hostname of ["300.1.1.1", "1.2.3.4.5", "::g"]) {
    const error = await assertRejects(() => within(60_000, connect({ hostname, port })), Error);
    assert(error instanceof TypeError || error instanceof WinsockError, String(error));
  }
});
