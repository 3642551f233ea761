// Waiting in Deno's event loop, which this Deno and this system can; and what is done where they cannot.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, listen, listenDatagram } from "@winsock/handoff";
import { nextTurn, nodeBinding } from "../../internal/runtime.ts";
import { unixSystem } from "../../ffi/unix/libc.ts";
import { connection, writeText } from "../kit/connections.ts";
import { isInEpollSet } from "../kit/descriptors.ts";
import { within } from "../kit/process.ts";
import { random } from "../kit/random.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const waitsInLoop = {
  ignore: Deno.build.os !== "linux" || unixSystem().asyncPoll === undefined || nodeBinding("pipe_wrap") === undefined,
};

/**
 * Lines of a program that counts the threads of its process. Deno starts a thread for signals when it has time, or when
 * somebody listens for one.
 */
const THREADS = `const threads = () => [...Deno.readDirSync("/proc/self/task")].length;
const ignore = () => {};
Deno.addSignalListener("SIGUSR2", ignore);
Deno.removeSignalListener("SIGUSR2", ignore);`;

Deno.test("whatever waits on Linux, no thread of the pool does", waitsInLoop, async () => {
  const said = await within(
    20_000,
    runCode(
      `
      import { connect, listen, listenDatagram } from ${moduleUrl("mod.ts")};
      ${THREADS}
      const before = threads();
      const listener = listen({ hostname: "127.0.0.1", port: 0 });
      const [client, server] = await Promise.all([connect({ port: listener.addr.port }), listener.accept()]);
      const accepting = listener.accept().catch(() => {});
      const peeking = server.peek(1).catch(() => {});
      const conn = client.toConn({ native: false });
      const reading = conn.read(new Uint8Array(1)).catch(() => {});
      const datagrams = listenDatagram({ hostname: "127.0.0.1", port: 0 });
      const receiving = datagrams.receive().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 50));
      console.log(threads() - before);
      for (const one of [listener, server, conn, datagrams]) one.close();
      await Promise.all([accepting, peeking, reading, receiving]);`,
      "--allow-all",
    ),
  );
  assertEquals(said, "0");
});

Deno.test("nothing watches what is closed, given up or paused", waitsInLoop, async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  for (let round = 0; round < 3; round++) {
    const accepting = listener.accept();
    await nextTurn();
    assert(isInEpollSet(listener.handle));
    using client = await connect({ port: listener.addr.port });
    using accepted = await within(10_000, accepting);
    assertEquals(accepted.remoteAddr, client.localAddr);
    assert(!isInEpollSet(accepted.handle) && !isInEpollSet(client.handle));
    const peeking = accepted.peek(1);
    assert(isInEpollSet(accepted.handle));
    await writeText(client.toConn(), "a");
    await within(10_000, peeking);
    assert(!isInEpollSet(accepted.handle));
    // Though nothing waits in this moment, what was accepting is what may go on watching.
    await listener.pause();
    assert(!isInEpollSet(listener.handle));
    listener.resume();
  }
});

Deno.test("a listener that is given up while nothing waits is watched no more", waitsInLoop, async () => {
  for (const waits of [false, true]) {
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const accepting = listener.accept();
    (await connect({ port: listener.addr.port })).close();
    (await within(10_000, accepting)).close();
    const pending = waits ? assertRejects(() => listener.accept(), Deno.errors.BadResource) : undefined;
    await nextTurn();
    const handle = listener.detach();
    assert(!isInEpollSet(handle));
    await pending;
    const { Listener } = await import("@winsock/handoff");
    Listener.fromHandle(handle).close();
  }
});

Deno.test("a datagram socket that is given up is watched no more", waitsInLoop, async () => {
  const socket = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  const receiving = socket.receive();
  await nextTurn();
  assert(isInEpollSet(socket.handle));
  using sender = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  await sender.send(new Uint8Array(1), socket.addr);
  await within(10_000, receiving);
  const handle = socket.detach();
  assert(!isInEpollSet(handle));
  const { DatagramSocket } = await import("@winsock/handoff");
  DatagramSocket.fromHandle(handle).close();
});

Deno.test("the port of a listener that waits is free in the statement after its close", waitsInLoop, async () => {
  const chance = random(7);
  for (let round = 0; round < 200; round++) {
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const loop = (async () => {
      for await (const socket of listener) socket.close();
    })();
    const clients = [];
    for (let count = round % 4; count > 0; count--) clients.push(connect({ port }).catch(() => undefined));
    while (chance() < 0.6) await nextTurn();
    listener.close();
    listen({ hostname: "127.0.0.1", port }).close();
    await within(10_000, loop);
    for (const client of clients) (await client)?.close();
  }
});

/** What this Deno, or this system, does otherwise. */
const FAULTS: Record<string, string> = {
  "a Deno that does not say that there is something to read": "class Broken extends Pipe { readStart() { return 0; } }",
  "a Deno that says so once": `class Broken extends Pipe {
    readStart() {
      const told = this.onread;
      this.onread = (data) => { this.onread = () => {}; told(data); setTimeout(told, 300); };
      return super.readStart();
    }
  }`,
  "a Deno that reads other things": `class Broken extends Pipe {
    readStart() { const told = this.onread; this.onread = () => told(new ArrayBuffer(3)); return super.readStart(); }
  }`,
  "a Deno that refuses the descriptor": "class Broken extends Pipe { open() { return -17; } }",
  "a Deno that makes no such handle": `class Broken {
    constructor() { throw new TypeError(); }
    open() {} readStart() {} ref() {} unref() {} close() {}
  }`,
  "a Deno whose handle has other functions": "class Broken {}",
  "a Deno whose handle always keeps the process running": `class Broken {
    constructor() { throw new TypeError(); }
    open() {} readStart() {} close() {}
  }`,
  "a Deno that fails while it reads": `class Broken extends Pipe {
    readStart() { setTimeout(() => this.onread(undefined), 100); return super.readStart(); }
  }`,
  "a system without the first call": "const Broken = Pipe; withoutCall('io_setup');",
  "a system that refuses the request": "const Broken = Pipe; withoutCall('io_submit');",
};

for (const [fault, code] of Object.entries(FAULTS)) {
  Deno.test(`waiting works all the same: ${fault}`, waitsInLoop, async () => {
    const said = await within(
      30_000,
      runCode(
        `
        import process from "node:process";
        import { connect, listen } from ${moduleUrl("mod.ts")};
        import { useUnixSystem } from ${moduleUrl("ffi/unix/libc.ts")};
        import { LINUX } from ${moduleUrl("ffi/unix/linux.ts")};
        const { binding } = process;
        const { Pipe } = binding("pipe_wrap");
        function withoutCall(name) {
          useUnixSystem({ ...LINUX, asyncPoll: { ...LINUX.asyncPoll, [name]: 9999n } });
        }
        ${code}
        process.binding = (name) => name === "pipe_wrap" ? { Pipe: Broken } : binding(name);
        const waiters = () => {
          const names = [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => "/proc/self/fd/" + name);
          const links = names.map((name) => { try { return Deno.readLinkSync(name); } catch { return ""; } });
          return links.filter((link) => /event(fd|poll)/.test(link)).length;
        };
        const before = waiters();
        const listener = listen({ hostname: "127.0.0.1", port: 0 });
        const { port } = listener.addr;
        const [early, peer] = await Promise.all([connect({ port }), listener.accept()]);
        // Waits while it turns out that the event loop cannot.
        const peeking = early.peek(1);
        for (const pause of [0, 200, 0, 400]) {
          const accepting = listener.accept();
          await new Promise((resolve) => setTimeout(resolve, pause));
          const client = await connect({ port });
          const socket = await accepting;
          console.log(socket.remoteAddr.port === client.localAddr.port);
          socket.close();
          client.close();
        }
        const conn = peer.toConn({ native: false });
        await conn.write(new Uint8Array([7]));
        console.log((await peeking)[0]);
        conn.close();
        early.close();
        const pending = listener.accept().catch(({ name }) => console.log(name));
        await new Promise((resolve) => setTimeout(resolve, 10));
        listener.close();
        await pending;
        listen({ port }).close();
        console.log(waiters() - before);
        console.log(Deno.readTextFileSync("/proc/self/maps").includes("[aio]"));`,
        "--allow-all",
      ),
    );
    // The list, and what a thread that waits for it is woken by, are all that is left.
    assertEquals(said.split("\n"), ["true", "true", "true", "true", "7", "BadResource", "2", "false"]);
  });
}

Deno.test("what waits alone in a Deno that reads nothing keeps the process running", waitsInLoop, async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const running = runCode(
    `
    import process from "node:process";
    import { connect } from ${moduleUrl("mod.ts")};
    const { Pipe } = process.binding("pipe_wrap");
    class Broken extends Pipe { readStart() { this.unref(); return 0; } }
    process.binding = () => ({ Pipe: Broken });
    const client = await connect({ port: ${listener.addr.port} });
    console.log((await client.read(1))[0]);
    client.close();`,
    "--allow-all",
  );
  using server = await within(20_000, listener.accept());
  using conn = server.toConn();
  await conn.write(new Uint8Array([7]));
  assertEquals(await within(20_000, running), "7");
});

Deno.test(
  "a wait that has ended is not ended again by what the descriptor's next owner does",
  waitsInLoop,
  async () => {
    for (let round = 0; round < 50; round++) {
      const first = listen({ hostname: "127.0.0.1", port: 0 });
      const pending = first.accept().then((socket) => socket.close(), () => {});
      await nextTurn();
      const early = connect({ port: first.addr.port }).then((socket) => socket.close(), () => {});
      if (round % 2 === 0) await early;
      first.close();
      using second = listen({ hostname: "127.0.0.1", port: 0 });
      const accepting = second.accept();
      await Promise.all([pending, early]);
      for (let turn = 0; turn < 3; turn++) await nextTurn();
      using client = await connect({ port: second.addr.port });
      using accepted = await within(10_000, accepting);
      assertEquals(accepted.remoteAddr, client.localAddr);
    }
  },
);

Deno.test("timers and others get their turns while something is ready all the time", waitsInLoop, async () => {
  const { unixPoller } = await import("../../ffi/unix/poller.ts");
  using pair = await connection();
  let [waits, turns, going] = [0, 0, true];
  const waiting = (async () => {
    for (; going; waits++) await unixPoller().prepare().wait(pair.server.handle, "write").over;
  })();
  for (; turns < 20; turns++) await within(20_000, new Promise((resolve) => setTimeout(resolve, 1)));
  going = false;
  await waiting;
  assert(waits > 0);
});
