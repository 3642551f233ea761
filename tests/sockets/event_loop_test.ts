// Waiting for connections in Deno's event loop, which this Deno and this system can; and what is done where they cannot.
import { assert, assertEquals } from "@std/assert";
import { connect, listen } from "@winsock/handoff";
import { nodeBinding } from "../../ffi/node_builtins.ts";
import { nextTurn } from "../../ffi/turns.ts";
import { unixSystem } from "../../ffi/unix/system.ts";
import { isInEpollSet } from "../kit/descriptors.ts";
import { within } from "../kit/process.ts";
import { random } from "../kit/random.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const waitsInLoop = {
  ignore: Deno.build.os !== "linux" || unixSystem().asyncPoll === undefined || nodeBinding("pipe_wrap") === undefined,
};

Deno.test("on Linux the event loop waits for connections", waitsInLoop, async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = listener.accept();
  await nextTurn();
  assert(isInEpollSet(listener.handle));
  using client = await connect({ port: listener.addr.port });
  using accepted = await within(10_000, accepting);
  assertEquals(accepted.remoteAddr, client.localAddr);
  assert(!isInEpollSet(listener.handle));
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
  "a Deno that refuses the descriptor": "class Broken extends Pipe { open() { return -17; } }",
  "a Deno that makes no such handle": "class Broken { constructor() { throw new TypeError(); } readStart() {} }",
  "a Deno whose handle has other functions": "class Broken {}",
  "a Deno that fails while it reads": `class Broken extends Pipe {
    readStart() { setTimeout(() => this.onread(undefined), 100); return super.readStart(); }
  }`,
  "a system without the first call": "const Broken = Pipe; withoutCall('io_setup');",
  "a system that refuses the request": "const Broken = Pipe; withoutCall('io_submit');",
};

for (const [fault, code] of Object.entries(FAULTS)) {
  Deno.test(`accepting works all the same: ${fault}`, waitsInLoop, async () => {
    const said = await within(
      20_000,
      runCode(
        `
        import process from "node:process";
        import { connect, listen } from ${moduleUrl("mod.ts")};
        import { useUnixSystem } from ${moduleUrl("ffi/unix/system.ts")};
        import { LINUX } from ${moduleUrl("ffi/unix/systems/linux.ts")};
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
        for (const pause of [0, 200, 0]) {
          const accepting = listener.accept();
          await new Promise((resolve) => setTimeout(resolve, pause));
          const client = await connect({ port });
          const socket = await accepting;
          console.log(socket.remoteAddr.port === client.localAddr.port);
          socket.close();
          client.close();
        }
        const pending = listener.accept().catch(({ name }) => console.log(name));
        await new Promise((resolve) => setTimeout(resolve, 10));
        listener.close();
        await pending;
        listen({ port }).close();
        console.log(waiters() - before);`,
        "--allow-all",
      ),
    );
    // What the poller is woken by is all that is left.
    assertEquals(said.split("\n"), ["true", "true", "true", "BadResource", "1"]);
  });
}

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
