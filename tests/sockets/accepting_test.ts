// Accepting, whichever way this system waits for connections: no connection is lost, and nothing else is held up.
// `without_event_loop_test.ts` runs this once more where a pool thread waits.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, duplicateSocket, HandoffSource, listen, Listener, openSocket, type Socket } from "@winsock/handoff";
import { nextTurn } from "../../internal/runtime.ts";
import { isInEpollSet, statusFlags } from "../kit/descriptors.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { needs } from "../kit/needs.ts";
import { endChild, FFI_GRANT, lines, spawnChild, spawnCrowded, within } from "../kit/process.ts";
import { random } from "../kit/random.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };
/** On Windows two processes, or objects, must not accept on the same listener. */
const withSharing = needs("the unix provider");

const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;

/** Has a client hear who took its connection. */
async function greet(socket: Socket, text: string): Promise<void> {
  using conn = socket.toConn();
  await conn.write(new TextEncoder().encode(text));
}

/** All that a peer says until it ends its side. */
async function everything(conn: Deno.TcpConn): Promise<string> {
  return await within(20_000, new Response(conn.readable).text());
}

async function ask(port: number): Promise<string> {
  return await everything((await connect({ port })).toConn());
}

Deno.test({
  name: "of 2 000 connections none is lost while listeners are paused, resumed, closed and given up",
  ...withSharing,
  async fn() {
    const chance = random(20);
    using keeper = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = keeper.addr;
    const ENDS: ((listener: Listener) => void)[] = [
      (listener) => listener.close(),
      (listener) => Listener.fromHandle(listener.detach()).close(),
      (listener) => void listener.pause().then(() => listener.close()),
    ];
    for (let round = 0; round < 40; round++) {
      const listener = await openSocket(duplicateSocket(keeper, Deno.pid)) as Listener;
      const greetings: Promise<void>[] = [];
      const loop = (async () => {
        for await (const socket of listener) greetings.push(greet(socket, "loop"));
      })();
      const clients: Deno.TcpConn[] = [];
      for (let count = 0; count < 50; count++) {
        const step = chance();
        if (step < 0.2) listener.pause();
        else if (step < 0.4) listener.resume();
        else if (step < 0.6) await nextTurn();
        clients.push((await connect({ port })).toConn());
      }
      ENDS[round % ENDS.length]!(listener);
      await within(10_000, loop);
      while (greetings.length < clients.length) {
        greetings.push(greet(await within(10_000, keeper.accept()), "keeper"));
      }
      await within(10_000, Promise.all(greetings));
      const heard = await Promise.all(clients.map(everything));
      assertEquals(heard.filter((text) => text !== "loop" && text !== "keeper"), []);
    }
  },
});

Deno.test("while a listener waits to be asked, nothing is accepted for it", withSharing, async () => {
  using keeper = listen({ hostname: "127.0.0.1", port: 0 });
  using listener = await openSocket(duplicateSocket(keeper, Deno.pid)) as Listener;
  const accepting = listener.accept();
  using first = await connect({ port: keeper.addr.port });
  using accepted = await within(10_000, accepting);
  assertEquals(accepted.remoteAddr, first.localAddr);
  using second = await connect({ port: keeper.addr.port });
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  using other = await within(10_000, keeper.accept());
  assertEquals(other.remoteAddr, second.localAddr);
});

Deno.test({
  name: "two processes accept on one listener, and one alone when the other is paused or gone",
  ...withSharing,
  async fn() {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const child = spawnChild("answering_listener.ts");
    try {
      await within(20_000, new HandoffSource(child).send(await openSocket(duplicateSocket(listener, Deno.pid))));
      const loop = (async () => {
        for await (const socket of listener) greet(socket, "parent");
      })();
      const client = async (times: number) => {
        const heard: string[] = [];
        for (let time = 0; time < times; time++) heard.push(await ask(port));
        return heard;
      };
      const heard = (await Promise.all(Array.from({ length: 8 }, () => client(25)))).flat();
      assertEquals(heard.filter((text) => text !== "parent" && text !== "child"), []);
      await listener.pause();
      assertEquals(new Set(await client(20)), new Set(["child"]));
      await endChild(child);
      listener.resume();
      assertEquals(new Set(await client(20)), new Set(["parent"]));
      listener.close();
      await within(10_000, loop);
    } finally {
      await endChild(child);
    }
  },
});

Deno.test("what is accepted is not inherited, does not wait, and is watched by nothing", onLinux, async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  for (let count = 0; count < 3; count++) {
    const accepting = listener.accept();
    await nextTurn();
    using _client = await connect({ port: listener.addr.port });
    using socket = await within(10_000, accepting);
    assertEquals(statusFlags(socket.handle) & (O_CLOEXEC | O_NONBLOCK), O_CLOEXEC | O_NONBLOCK);
    assert(!isInEpollSet(socket.handle));
  }
  const pending = assertRejects(() => listener.accept(), Deno.errors.BadResource);
  await nextTurn();
  await listener.pause();
  assert(!isInEpollSet(listener.handle));
  listener.close();
  await within(10_000, pending);
});

Deno.test("others get their turns while many connections come", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const clients = await Promise.all(Array.from({ length: 200 }, () => connect({ port: listener.addr.port })));
  let [turn, left] = [0, clients.length];
  const turns = (async () => {
    for (; left > 0; turn++) await nextTurn();
  })();
  const accepted: number[] = [];
  for await (const socket of listener) {
    socket.close();
    accepted[turn] = (accepted[turn] ?? 0) + 1;
    if (--left === 0) break;
  }
  await turns;
  for (const client of clients) client.close();
  assert(Math.max(...accepted.filter(Number)) <= 32, `accepted in each turn: ${accepted}`);
});

Deno.test("a hundred listeners that wait at once are all told", async () => {
  const listeners = Array.from({ length: 100 }, () => listen({ hostname: "127.0.0.1", port: 0 }));
  const accepting = listeners.map((listener) => listener.accept());
  await nextTurn();
  const clients = await Promise.all(listeners.map(({ addr }) => connect({ port: addr.port })));
  const accepted = await within(20_000, Promise.all(accepting));
  assertEquals(accepted.map((socket) => socket.remoteAddr), clients.map((client) => client.localAddr));
  for (const socket of [...listeners, ...clients, ...accepted]) socket.close();
});

Deno.test("accepting leaves no descriptor behind", async () => {
  await assertNothingLeaks(async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const accepting = listener.accept();
    await nextTurn();
    using _client = await connect({ port: listener.addr.port });
    using _accepted = await within(10_000, accepting);
    const pending = assertRejects(() => listener.accept(), Deno.errors.BadResource);
    await nextTurn();
    listener.close();
    await within(10_000, pending);
  });
});

const IMPORTS = `import { connect, listen } from ${moduleUrl("mod.ts")};
  const listener = listen({ hostname: "127.0.0.1", port: 0 });`;

Deno.test("only an accept that is pending keeps the process running", async () => {
  const accepted = await runCode(
    `${IMPORTS}
    Deno.unrefTimer(setTimeout(() => connect({ port: listener.addr.port }), 300));
    const socket = await listener.accept();
    console.log(socket.remoteAddr.hostname);
    socket.close();`,
    FFI_GRANT,
  );
  assertEquals(accepted, "127.0.0.1");
  for (const end of ["listener.close()", "await listener.pause()", "listener.detach()"]) {
    const code = `${IMPORTS} listener.accept().catch(() => {}); await 0; ${end}; console.log("ended");`;
    assertEquals(await within(20_000, runCode(code, FFI_GRANT)), "ended", end);
  }
});

Deno.test("in a Worker connections are accepted, and it can be ended while it waits for one", async () => {
  const code = `import { listen } from ${moduleUrl("mod.ts")};
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    postMessage(listener.addr.port);
    for await (const socket of listener) socket.close();`;
  for (let round = 0; round < 3; round++) {
    const worker = new Worker(`data:text/javascript,${encodeURIComponent(code)}`, { type: "module" });
    const port = await within(20_000, new Promise<number>((resolve) => worker.onmessage = ({ data }) => resolve(data)));
    for (let count = 0; count < 3; count++) assertEquals(await ask(port), "");
    worker.terminate();
  }
});

Deno.test({
  name: "a loop over a listener waits while too many files are open, and goes on then",
  ...onLinux,
  async fn() {
    const child = spawnCrowded("crowded_listener.ts");
    const clients: Deno.TcpConn[] = [];
    const greeting = async (conn: Deno.TcpConn) => await within(20_000, conn.read(new Uint8Array(1)));
    try {
      const port = Number(await lines(child)());
      for (let count = 0; count < 60; count++) clients.push((await connect({ port })).toConn());
      assertEquals(await greeting(clients[0]!), 1);
      const last = greeting(clients.at(-1)!);
      const waits = new Promise((resolve) => setTimeout(resolve, 500, "it waits"));
      assertEquals(await Promise.race([last, waits]), "it waits");
      for (const client of clients.splice(0, 30)) client.close();
      assertEquals(await last, 1);
    } finally {
      for (const client of clients) client.close();
      await endChild(child);
    }
  },
});

Deno.test({
  name: "accept says when too many files are open, however many are missing, and works afterwards",
  ...onLinux,
  async fn() {
    for (let spare = 0; spare < 4; spare++) {
      const child = spawnCrowded("crowded_accept.ts", [`${spare}`]);
      const said = lines(child);
      try {
        const port = Number(await said());
        using client = await connect({ port });
        let line = await said();
        // Between the two it depends on what waiting needs.
        if (spare === 0) assertEquals(line, "WSAEMFILE");
        if (spare < 3 && line === "WSAEMFILE") line = await said();
        assertEquals(line, `accepted ${client.localAddr.port}`);
        assertEquals((await within(20_000, child.status)).code, 0);
      } finally {
        await endChild(child);
      }
    }
  },
});

Deno.test(
  "on Windows an accept that fails because of its connection does not end accepting",
  {
    ignore: Deno.build.os !== "windows",
  },
  async () => {
    // A thread's error code stays with it: that clients reset their connections cannot be told from anything else.
    const said = await within(
      60_000,
      runCode(
        `
      const INVALID = 2n ** 64n - 1n;
      const WSAEMFILE = 10024;
      let [failures, crowded] = [0, false];
      const dlopen = Deno.dlopen;
      Deno.dlopen = (path, declared) => {
        const { symbols } = dlopen(path, declared);
        if (declared.acceptNow === undefined) return { symbols };
        return { symbols: {
          ...symbols,
          accept: (...args) => failures-- > 0 ? Promise.resolve(INVALID) : symbols.accept(...args),
          acceptNow: (...args) => failures-- > 0 ? INVALID : symbols.acceptNow(...args),
          WSASocketW: (...args) => crowded ? INVALID : symbols.WSASocketW(...args),
          WSAGetLastError: () => crowded ? WSAEMFILE : symbols.WSAGetLastError(),
        } };
      };
      const { connect, listen } = await import(${moduleUrl("mod.ts")});
      const { systemCalls } = await import(${moduleUrl("ffi/system.ts")});
      const why = (error) => error.codeName ?? error.cause?.codeName ?? error.message;
      for (const hostname of ["127.0.0.1", "::1"]) {
        const listener = listen({ hostname, port: 0 });
        const accepting = listener[Symbol.asyncIterator]().next();
        failures = 200;
        const client = await connect({ hostname, port: listener.addr.port });
        const began = performance.now();
        const { value } = await accepting;
        const took = performance.now() - began;
        console.log(value.remoteAddr.port === client.localAddr.port, took < 2000 ? "soon" : took);
        // While there is no room, it is not the connection's fault.
        failures = 2;
        [crowded, value.closed] = [true, value.close()];
        console.log(await listener.accept().catch(why));
        crowded = false;
        // A socket that is closed behind the library's back does not listen.
        failures = Infinity;
        const pending = listener.accept().catch(why);
        systemCalls().close(listener.handle);
        console.log(await pending);
        client.close();
      }
      Deno.exit();`,
        FFI_GRANT,
      ),
    );
    assertEquals(said.split("\n"), Array(2).fill(["true soon", "WSAEMFILE", "WSAENOTSOCK"]).flat());
  },
);
