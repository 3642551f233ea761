// What a target that is not trusted can do with what it is given: have its source's close of a connection block, which a
// pool thread does then; keep what it gave back; say that it has closed what it keeps.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  connect,
  duplicateSocket,
  HandoffError,
  HandoffSource,
  listen,
  listenDatagram,
  type Socket,
  WorkerPool,
} from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";
import { Readable } from "node:stream";
import { observe } from "../../handoff/source.ts";
import { killProcess } from "../../handoff/spawn.ts";
import { systemCalls } from "../../ffi/system.ts";
import { unixSystem, useUnixSystem } from "../../ffi/unix/libc.ts";
import { type Connection, connection } from "../kit/connections.ts";
import { countDescriptors, settledDescriptors } from "../kit/descriptors.ts";
import { freeze, isAlive } from "../kit/faults/acts.ts";
import { until, within } from "../kit/process.ts";
import { needs } from "../kit/needs.ts";

const SCRIPT = new URL("../children/lingering_target.ts", import.meta.url);
const DENO_FLAGS = ["--no-check", "--cached-only"];
/** Closing blocks for three seconds where nothing is done about it. */
const MAX_STILL_MS = 1_500;

async function end(source: HandoffSource): Promise<void> {
  killProcess(source.child);
  await source.child.status;
}

/** The longest time in which the event loop did not turn while something was done. */
async function longestStill(act: () => Promise<void>): Promise<number> {
  let last = performance.now();
  let longest = 0;
  const look = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  };
  const timer = setInterval(look, 5);
  try {
    await act();
    look();
  } finally {
    clearInterval(timer);
  }
  return longest;
}

for (const how of ["taken", "withdrawn"]) {
  Deno.test(
    `a socket that lingers when it was ${how} does not hold up its source`,
    needs("the unix provider"),
    async () => {
      const source = await HandoffSource.spawn(SCRIPT, {
        args: [how],
        denoFlags: ["--no-check", "--cached-only"],
        trusted: false,
      });
      using listener = listen({ hostname: "127.0.0.1", port: 0 });
      try {
        await within(20_000, source.ready);
        // Its peer reads nothing.
        using _client = await connect({ port: listener.addr.port });
        const socket = await listener.accept();
        const [before] = await settledDescriptors(Deno.pid);
        const still = await longestStill(async () => {
          if (how === "taken") await within(20_000, source.send(socket));
          else await within(20_000, assertRejects(() => source.send(socket), HandoffError, "rejected"));
          socket.close();
        });
        assert(still < MAX_STILL_MS, `the event loop stood still for ${still} ms`);
        const [after] = await settledDescriptors(Deno.pid);
        // What watches the sockets that it has taken is a descriptor.
        const watching = how === "taken" ? 1 : 0;
        assert(after! < before! + watching, `${after} descriptors, ${before} before`);
      } finally {
        await source.close();
        await end(source);
      }
    },
  );
}

const WAYS: Record<string, (socket: Socket) => Promise<void> | void> = {
  "close": (socket) => socket.close(),
  "toConn": (socket) => socket.toConn().close(),
  "toConn, not native": (socket) => socket.toConn({ native: false }).close(),
  "the streams of toConn": (socket) => socket.toConn().readable.cancel(),
  "toNodeSocket": (socket) => void socket.toNodeSocket().destroy(),
  "toNodeSocket, not native": (socket) => void socket.toNodeSocket({ native: false }).destroy(),
  "serveHttp over Deno.serve": (socket) => serveAndEnd(socket, "Deno.serve"),
  "serveHttp over node:http": (socket) => serveAndEnd(socket, "node:http"),
};

async function serveAndEnd(socket: Socket, engine: "Deno.serve" | "node:http"): Promise<void> {
  const server = serveHttp(Readable.from([socket]), () => new Response(), { engine, shutdownTimeout: 100 });
  await until(() => server.connectionCount === 1, "it serves the connection");
  await within(20_000, server.shutdown());
}

Deno.test(
  "what came back lingering does not hold up its source, however it is closed",
  needs("the unix provider"),
  async () => {
    const source = await HandoffSource.spawn(SCRIPT, { args: ["withdrawn"], denoFlags: DENO_FLAGS, trusted: false });
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const clients: Socket[] = [];
    try {
      await within(20_000, source.ready);
      const longest: Record<string, number> = {};
      for (const [how, end] of Object.entries(WAYS)) {
        clients.push(await connect({ port: listener.addr.port }));
        const socket = await listener.accept();
        await within(20_000, assertRejects(() => source.send(socket), HandoffError, "rejected"));
        longest[how] = await longestStill(async () => {
          await end(socket);
          // Streams are closed in a later turn.
          await new Promise((resolve) => setTimeout(resolve, 50));
        });
      }
      const slow = Object.entries(longest).filter(([, still]) => still >= MAX_STILL_MS);
      assertEquals(slow, [], "the event loop stood still");
    } finally {
      for (const client of clients) client.close();
      await source.close();
      await end(source);
    }
  },
);

/** The number of threads that are closing something, by the numbers of the system call (syscall(2)). */
function blockedCloses(): number {
  const number = Deno.build.arch === "x86_64" ? 3 : 57;
  const calls = Array.from(Deno.readDirSync("/proc/self/task"), ({ name }) => {
    try {
      return Deno.readTextFileSync(`/proc/self/task/${name}/syscall`);
    } catch {
      // The thread has ended.
      return "";
    }
  });
  return calls.filter((call) => call.startsWith(`${number} `)).length;
}

for (const how of ["taken", "withdrawn"]) {
  Deno.test(
    `sockets that linger when they were ${how} hold up the closes of no other target, and their target is ended`,
    needs("the unix provider"),
    async () => {
      const settings = { denoFlags: DENO_FLAGS, trusted: false, sendTimeout: 5_000 };
      const bad = await HandoffSource.spawn(SCRIPT, { ...settings, args: [how, "600"] });
      const good = await HandoffSource.spawn(LYING, { ...settings, args: ["0"] });
      using listener = listen({ hostname: "127.0.0.1", port: 0 });
      const clients: Socket[] = [];
      const give = async (source: HandoffSource) => {
        clients.push(await connect({ port: listener.addr.port }));
        const socket = await listener.accept();
        await within(10_000, source.send(socket).catch(() => socket.close()));
      };
      try {
        await within(20_000, Promise.all([bad.ready, good.ready]));
        for (let count = 0; count < 10; count++) await give(bad);
        const [before] = await settledDescriptors(Deno.pid);
        const clientsBefore = clients.length;
        for (let count = 0; count < 10; count++) await give(good);
        if (unixSystem().processFiles) {
          await until(() => observe(good).held === 0, "what the other target has closed counts no more", 2_000);
        }
        for (const client of clients.splice(clientsBefore)) client.close();
        await until(() => countDescriptors() <= before! + 1, "the sockets of the other target are closed", 1_000);
        assert(isAlive(bad.child.pid), "it was not ended meanwhile");

        const failure = await within(10_000, bad.closed);
        assertEquals([failure?.outcome, failure?.reason], [
          "timeout",
          `process ${bad.child.pid} kept the close of a connection waiting for 5000 ms, and was ended`,
        ]);
        await until(() => countDescriptors() < before! - 6, "the sockets of the ended target are closed");
        if (unixSystem().processFiles) {
          await until(() => blockedCloses() === 0, "no thread lingers any more");
        }
      } finally {
        for (const client of clients) client.close();
        for (const source of [bad, good]) {
          await source.close();
          await end(source);
        }
      }
    },
  );
}

Deno.test("Deno adopts what came back from a target that is not trusted only when that has ended", async () => {
  const suspect = await spawnSuspect(REJECTING);
  using pair = await connection();
  try {
    await assertRejects(() => suspect.send(pair.server), HandoffError, "not today");
    assertThrows(() => pair.server.toConn({ native: true }), Deno.errors.NotSupported, "may still have socket");
    assertThrows(() => pair.server.toNodeSocket({ native: true }), Deno.errors.NotSupported, "may still have socket");
    // What such a process may have set.
    pair.server.setOption("SO_LINGER", 3);
    await end(suspect);
    using conn = pair.server.toConn({ native: true });
    await conn.write(new TextEncoder().encode("hello"));
    assertEquals(await pair.client.read(5), new TextEncoder().encode("hello"));
  } finally {
    await end(suspect);
  }
});

Deno.test("a target that is not trusted gets no listener", async () => {
  const source = await HandoffSource.spawn(new URL("../children/echo.ts", import.meta.url), {
    denoFlags: ["--no-check", "--cached-only"],
    trusted: false,
  });
  try {
    await within(20_000, source.ready);
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    await assertRejects(() => source.send(listener), TypeError, "is not trusted");
    assertEquals(listener.addr.hostname, "127.0.0.1");
  } finally {
    await source.close();
    await end(source);
  }
});

Deno.test("a target that is not trusted gets no local datagram socket", needs("local sockets"), async () => {
  const source = await HandoffSource.spawn(new URL("../children/echo.ts", import.meta.url), {
    denoFlags: ["--no-check", "--cached-only"],
    trusted: false,
  });
  const directory = await Deno.makeTempDir();
  try {
    await within(20_000, source.ready);
    const path = `${directory}/socket`;
    using local = listenDatagram({ transport: "unixpacket", path });
    const message = `Cannot hand off local datagram socket ${local.handle}: process ${source.child.pid} is not trusted`;
    await assertRejects(() => source.send(local), TypeError, message);
    assertEquals(local.addr.path, path);
    using datagrams = listenDatagram({ hostname: "127.0.0.1", port: 0 });
    // Its program takes connections only.
    await within(20_000, assertRejects(() => source.send(datagrams), HandoffError, "rejected"));
  } finally {
    await source.close();
    await end(source);
    await Deno.remove(directory, { recursive: true });
  }
});

const REJECTING = new URL("../children/reject.ts", import.meta.url);
const LYING = new URL("../children/lying_worker.ts", import.meta.url);

async function spawnSuspect(script: URL, trusted = false): Promise<HandoffSource> {
  const source = await HandoffSource.spawn(script, { denoFlags: DENO_FLAGS, trusted });
  await within(30_000, source.ready);
  return source;
}

Deno.test("what came back from a target that is not trusted goes to no other before that has ended", async () => {
  const [suspect, other] = await Promise.all([spawnSuspect(REJECTING), spawnSuspect(LYING)]);
  using pair = await connection();
  try {
    await assertRejects(() => suspect.send(pair.server), HandoffError, "not today");
    await assertRejects(() => other.send(pair.server), TypeError, `process ${suspect.child.pid}, which is not trusted`);
    assertThrows(() => duplicateSocket(pair.server, other.child.pid), TypeError, "may still have it");
    assert(pair.server.remoteAddr.port > 0, "it still is this process's");
    await end(suspect);
    await within(10_000, other.send(pair.server));
  } finally {
    await end(suspect);
    await end(other);
  }
});

Deno.test("what came back from such a target can be offered to it again", async () => {
  const suspect = await spawnSuspect(REJECTING);
  using pair = await connection();
  try {
    await assertRejects(() => suspect.send(pair.server), HandoffError, "not today");
    await within(10_000, suspect.send(pair.server));
  } finally {
    await end(suspect);
  }
});

Deno.test("what such a target cannot have received, or a trusted one gave back, goes to any other", async () => {
  const [silent, trusting, other] = await Promise.all([
    HandoffSource.spawn(new URL("../children/silent.ts", import.meta.url), { denoFlags: DENO_FLAGS, trusted: false }),
    spawnSuspect(REJECTING, true),
    spawnSuspect(LYING),
  ]);
  silent.ready.catch(() => {});
  using unsent = await connection();
  using returned = await connection();
  try {
    // It waits until the target is ready, and so its OFFER has not left.
    const signal = AbortSignal.timeout(50);
    await assertRejects(() => silent.send(unsent.server, { signal }), DOMException);
    await within(10_000, other.send(unsent.server));
    await assertRejects(() => trusting.send(returned.server), HandoffError, "not today");
    await within(10_000, other.send(returned.server));
  } finally {
    for (const source of [silent, trusting, other]) await end(source);
  }
});

Deno.test("a pool whose workers are not trusted passes on what a leaving one has not seen, once that has ended", async () => {
  await using pool = new WorkerPool({
    script: new URL("../children/leaving_worker.ts", import.meta.url),
    args: ["4"],
    denoFlags: DENO_FLAGS,
    size: 2,
    trusted: false,
    restartDelay: 10,
    attempts: 40,
  });
  await within(30_000, pool.ready);
  const pairs = await Promise.all(Array.from({ length: 24 }, () => connection()));
  const sent = await within(60_000, Promise.all(pairs.map(({ server }) => pool.dispatch(server))));
  for (const [index, { client }] of pairs.entries()) {
    using conn = client.toConn();
    assertEquals(await new Response(conn.readable).text(), String(sent[index]!.worker.processId));
  }
});

/** Dispatches connections, one of which waits for as long as a worker has no room. */
async function dispatchAll(
  pool: WorkerPool,
  count: number,
): Promise<{ pairs: Connection[]; done: Promise<unknown>[] }> {
  const pairs = await Promise.all(Array.from({ length: count }, () => connection()));
  return { pairs, done: pairs.map(({ server }) => pool.dispatch(server)) };
}

function lyingPool(args: string[], settings: { drainTimeout?: number } = {}): WorkerPool {
  return new WorkerPool({
    script: LYING,
    args,
    denoFlags: DENO_FLAGS,
    size: 1,
    maxSocketsPerWorker: 4,
    trusted: false,
    queueTimeout: 60_000,
    drainTimeout: 1_000,
    ...settings,
  });
}

Deno.test(
  "a worker that says at once that it has closed what it keeps gets no more than its share",
  needs("the unix provider"),
  async () => {
    await using pool = lyingPool([]);
    await within(30_000, pool.ready);
    const { pairs, done } = await dispatchAll(pool, 9);
    await within(10_000, Promise.all(done.slice(0, 4)));
    // It has said so long ago.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const [worker] = pool.statistics.workers;
    assertEquals([worker!.held, pool.statistics.waiting], [4, 5]);
    // The sockets of a process that has ended do not count.
    Deno.kill(worker!.processId, "SIGKILL");
    await within(30_000, Promise.all(done.slice(4, 8)));
    assertEquals([pool.statistics.workers[0]!.held, pool.statistics.waiting], [4, 1]);
    done[8]!.catch(() => {});
    for (const { client } of pairs) client.close();
  },
);

Deno.test("looking whether a target lies takes a small part of the time, however often it says something", async () => {
  const calls = systemCalls();
  const all = new Set<number>();
  let looking = 0;
  // As long as it takes with 10 000 sockets.
  calls.watchOpenSockets = () => ({
    add: (_socket, token) => all.add(token).has(token),
    list() {
      const begun = performance.now();
      while (performance.now() - begun < 20);
      looking += performance.now() - begun;
      return all;
    },
    close() {},
  });
  const source = await spawnSuspect(LYING);
  try {
    const begun = performance.now();
    while (performance.now() - begun < 3_000) {
      using pair = await connection();
      await within(10_000, source.send(pair.server));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const part = looking / (performance.now() - begun);
    assert(part > 0 && part < 0.2, `${part} of the time`);
  } finally {
    Reflect.deleteProperty(calls, "watchOpenSockets");
    await end(source);
  }
});

Deno.test(
  "a worker that closes what it said it had closed gets further sockets",
  needs("the unix provider"),
  async () => {
    await using pool = lyingPool(["200"]);
    await within(30_000, pool.ready);
    const [before] = await settledDescriptors(Deno.pid);
    const { pairs, done } = await dispatchAll(pool, 24);
    const workers = await within(60_000, Promise.all(done));
    assertEquals(
      new Set(workers.map((result) => (result as { worker: { processId: number } }).worker.processId)).size,
      1,
    );
    await until(() => pool.statistics.workers[0]!.held === 0, "what is closed counts no more");
    for (const { client } of pairs) {
      using conn = client.toConn();
      assertEquals(await new Response(conn.readable).text(), `${pool.statistics.workers[0]!.processId}\n`);
    }
    await until(() => countDescriptors() <= before! + 1, "nothing is kept but what watches");
  },
);

Deno.test("where the system does not tell what is closed, a worker is replaced when its share is used up", async () => {
  const system = unixSystem();
  // As on Windows and macOS.
  if (Deno.build.os !== "windows") useUnixSystem({ ...system, processFiles: false });
  const pool = lyingPool(["50"], { drainTimeout: 2_000 });
  try {
    await within(30_000, pool.ready);
    const { pairs, done } = await dispatchAll(pool, 10);
    const workers = await within(90_000, Promise.all(done));
    const counts = Map.groupBy(workers, (result) => (result as { worker: { processId: number } }).worker.processId);
    assertEquals([...counts.values()].map(({ length }) => length), [4, 4, 2]);
    for (const { client } of pairs) client.close();
  } finally {
    await pool.close();
    useUnixSystem(system);
  }
});

Deno.test("a frozen target is ended after its time, and with it the copies that it keeps", async () => {
  const source = await HandoffSource.spawn(new URL("../children/echo.ts", import.meta.url), {
    denoFlags: DENO_FLAGS,
    sendTimeout: 1_000,
  });
  await within(30_000, source.ready);
  const { pid } = source.child;
  try {
    using datagrams = listenDatagram({ hostname: "127.0.0.1", port: 0 });
    freeze(pid);
    await within(10_000, assertRejects(() => source.send(datagrams), HandoffError, "did not take it in 1000 ms"));
    assert(isAlive(pid));
    const failure = await within(10_000, source.closed);
    assertEquals([failure?.outcome, failure?.reason], [
      "timeout",
      `process ${pid} did not answer for 1000 ms, and was ended`,
    ]);
    await within(10_000, source.child.status);
    const { port } = datagrams.addr;
    datagrams.close();
    // Where a copy were open, its port would be in use.
    listenDatagram({ hostname: "127.0.0.1", port }).close();
  } finally {
    await end(source);
  }
});
