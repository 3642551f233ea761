// A process without room for descriptors: at every call that makes one. What fails says so, nothing is lost or left
// open, and everything works when there is room again. docs/security.md has the table.
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  connect,
  HandoffSource,
  inherit,
  listen,
  listenDatagram,
  type Socket,
  Socket as SocketClass,
  upgrade,
  UpgradeError,
  WorkerPool,
} from "@winsock/handoff";
import { NativeMessage } from "../../ffi/unix/scm_rights.ts";
import { discardChild, spawnWorkerCommand } from "../../handoff/spawn.ts";
import { connection, readText, writeText } from "../kit/connections.ts";
import { Shortage, withLimits } from "../kit/descriptor_limit.ts";
import { countDescriptors, settledDescriptors } from "../kit/descriptors.ts";
import { endChild, lines, spawnChild, until, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const ECHO = new URL("../children/echo.ts", import.meta.url);
const denoFlags = ["--no-check", "--cached-only"];
const WORDS = /WSAEMFILE|Too many open files/;

/** Whether an error, or what caused it, says that there is no room. */
function isShortage(error: unknown): boolean {
  return error instanceof Error && (WORDS.test(error.message) || isShortage(error.cause));
}

/**
 * Calls something with room for 0, 1, … descriptors, each time until it works in spite of that. Each failure must say
 * what is missing, and it must work at once when there is room again.
 */
async function withLittleRoom(what: string, call: () => Promise<unknown>, most: number): Promise<void> {
  await call();
  const [before] = await settledDescriptors(Deno.pid);
  let failures = 0;
  for (let room = 0; room < most; room++) {
    {
      using _ = new Shortage(room);
      try {
        await within(20_000, call());
      } catch (error) {
        assert(isShortage(error), `${what} with room for ${room}: ${error}`);
        failures++;
      }
    }
    await within(20_000, call());
  }
  assert(failures >= 1 && failures < most, `${what} failed ${failures} times`);
  await until(() => countDescriptors() <= before!, `nothing is left of ${what}`);
}

const CALLS: Readonly<Record<string, readonly [most: number, call: (listener: { port: number }) => Promise<unknown>]>> =
  {
    "listen": [4, () => Promise.try(() => listen({ hostname: "127.0.0.1", port: 0 }).close())],
    "listenDatagram": [4, () => Promise.try(() => listenDatagram({ hostname: "127.0.0.1", port: 0 }).close())],
    "connect": [4, async ({ port }) => (await connect({ port })).close()],
    "Socket.pair": [4, () => Promise.try(() => SocketClass.pair().forEach((socket) => socket.close()))],
  };

for (const [what, [most, call]] of Object.entries(CALLS)) {
  Deno.test(`${what} says that there is no room, and works afterwards`, withLimits, async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    await withLittleRoom(what, () => call(listener.addr), most);
  });
}

Deno.test(
  "a process that can be started with little room is, and otherwise nothing is left of it",
  withLimits,
  async () => {
    await withLittleRoom("spawn", async () => {
      const child = await spawnWorkerCommand({ command: "/bin/true" }, { output: "inherit" });
      const { status } = child;
      discardChild(child, { output: "inherit" });
      await status;
    }, 24);
  },
);

Deno.test("what waits needs no descriptor, and neither do streams that were made before", withLimits, async () => {
  using pair = await connection();
  using other = await connection();
  using client = pair.client.toConn();
  using server = pair.server.toConn();
  // The first time opens what all share.
  await assertRejects(() => other.server.peek(1, { signal: AbortSignal.timeout(1) }), DOMException);
  using _ = new Shortage(0);
  const peeking = other.server.peek(5, { atLeast: 5 });
  await writeText(client, "hello");
  assertEquals(await within(10_000, readText(server, 5)), "hello");
  using another = other.client.toConn({ native: false });
  await writeText(another, "hello");
  assertEquals(new TextDecoder().decode(await within(10_000, peeking)), "hello");
});

Deno.test("the first wait of a process with little room fails, or works, and the next works", withLimits, async () => {
  const code = (room: number) => `
    import { Socket } from ${moduleUrl("mod.ts")};
    import { Shortage } from ${moduleUrl("tests/kit/descriptor_limit.ts")};
    await new Promise((resolve) => setTimeout(resolve, 600));
    const [near, far] = Socket.pair();
    const conn = far.toConn({ native: false });
    {
      using _ = new Shortage(${room});
      const signal = AbortSignal.timeout(200);
      await near.peek(1, { signal }).catch((error) => console.log(signal.aborted ? "waited" : error.codeName ?? error));
    }
    const peeking = near.peek(1, { signal: AbortSignal.timeout(5_000) });
    await conn.write(new Uint8Array([7]));
    console.log((await peeking)[0]);
    near.close();
    conn.close();`;
  const outputs = await within(60_000, Promise.all([0, 1, 2, 3].map((room) => runCode(code(room), "--allow-all"))));
  for (const output of outputs) assert(/^(waited|WSAEMFILE)\n7$/.test(output.trim()), output);
  assertEquals(outputs.at(-1)!.trim(), "waited\n7");
});

Deno.test("sending to a target needs no descriptor, whether it is trusted or not", withLimits, async () => {
  for (const trusted of [true, false]) {
    await using source = await HandoffSource.spawn(ECHO, { denoFlags, trusted });
    await source.ready;
    const echoes = async (pair: { client: Socket; server: Socket }) => {
      await within(10_000, source.send(pair.server));
      using client = pair.client.toConn();
      await writeText(client, "hello");
      assertEquals(await within(10_000, readText(client, 5)), "hello");
    };
    using first = await connection();
    await echoes(first);
    const pairs = [await connection(), await connection(), await connection()];
    {
      using _ = new Shortage(0);
      for (const pair of pairs) await within(10_000, source.send(pair.server));
    }
    for (const pair of pairs) {
      using client = pair.client.toConn();
      await writeText(client, "hello");
      assertEquals(await within(10_000, readText(client, 5)), "hello");
    }
  }
});

/**
 * Runs a target that connects to its source while something keeps it from being served, and sees that it is served
 * later, and nothing is left open.
 */
async function connectsDuring(hindrance: () => Disposable): Promise<void> {
  // What all sources share, and the first connection, stay open.
  for (const hindered of [false, true]) {
    const [before] = await settledDescriptors(Deno.pid);
    const child = spawnChild("starting_target.ts");
    try {
      await using source = new HandoffSource(child, { startTimeout: 20_000 });
      let ready = false;
      source.ready.then(() => ready = true, () => {});
      {
        using _ = hindered ? hindrance() : undefined;
        assertEquals(await lines(child)(), "started");
        if (hindered) await new Promise((resolve) => setTimeout(resolve, 500));
        assert(!hindered || !ready);
      }
      await within(10_000, source.ready);
      using pair = await connection();
      await within(10_000, source.send(pair.server));
      using client = pair.client.toConn();
      await writeText(client, "hello");
      assertEquals(await within(10_000, readText(client, 5)), "hello");
    } finally {
      await endChild(child);
    }
    if (hindered) await until(() => countDescriptors() <= before!, "nothing is left of the target");
  }
}

Deno.test("a target that connects while its source has no descriptor left is served when it has", withLimits, () => {
  return connectsDuring(() => {
    const shortage = new Shortage(0);
    // What becomes free meanwhile, such as the end of a pipe, is taken as well.
    const filling = setInterval(() => shortage.fill(), 1);
    return {
      [Symbol.dispose]() {
        clearInterval(filling);
        shortage[Symbol.dispose]();
      },
    };
  });
});

Deno.test("a target that connects while no descriptor can be sent is served when one can", withLimits, async () => {
  const { send } = NativeMessage.prototype;
  let refused = 0;
  await connectsDuring(() => {
    // As the system refuses it: ETOOMANYREFS, which needs a user who is not root.
    NativeMessage.prototype.send = () => ++refused === 0;
    return { [Symbol.dispose]: () => void (NativeMessage.prototype.send = send) };
  });
  assert(refused > 1, `it was tried ${refused} times`);
});

Deno.test("a pool whose workers die while there is no room serves again when there is", withLimits, async () => {
  await using pool = new WorkerPool({ script: ECHO, denoFlags, size: 2, outputPrefix: "", restartDelay: 50 });
  await pool.ready;
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const serving = pool.serve(listener);
  const request = async () => {
    using conn = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
    await writeText(conn, "hello");
    return await within(20_000, readText(conn, 5));
  };
  assertEquals(await request(), "hello");
  {
    using shortage = new Shortage(0);
    for (const { processId } of pool.statistics.workers) Deno.kill(processId, "SIGKILL");
    const ended: string[] = [];
    pool.addEventListener("workerend", ({ reason }) => ended.push(reason));
    // Both have ended, and have not been started again in spite of several attempts.
    await until(() => ended.filter((reason) => WORDS.test(reason)).length >= 3, "no worker can be started");
    shortage.fill();
  }
  assertEquals(await request(), "hello");
  await until(() => pool.statistics.workers.every(({ state }) => state === "ready"), "all workers are back");
  listener.close();
  await serving;
});

Deno.test("an upgrade without room fails, and this version goes on and can try again", withLimits, async () => {
  using version = await inherit({ predecessor: 0 });
  const listener = version.listen("echo", { hostname: "127.0.0.1", port: 0 });
  await version.markReady();
  const attempt = () => upgrade(version, { command: "/bin/false", args: [], timeout: 10_000 });
  await assertRejects(attempt, UpgradeError, "exited with 1");
  for (const room of [0, 4, 8, 12]) {
    {
      using _ = new Shortage(room);
      const error: unknown = await within(20_000, attempt().then(() => "it works", (error) => error));
      assert(isShortage(error) || error instanceof UpgradeError && error.outcome === "crashed", String(error));
    }
    await within(20_000, assertRejects(attempt, UpgradeError, "exited with 1"));
  }
  const client = await connect({ port: listener.addr.port });
  (await within(10_000, listener.accept())).close();
  client.close();
});
