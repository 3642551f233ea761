// A pool that accepts for itself, and replaces its workers while it does.
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  connect,
  type ConnectionDropEvent,
  HandoffError,
  HandoffSource,
  listen,
  type Listener,
  type WorkerEvent,
  WorkerPool,
  type WorkerPoolSettings,
  type WorkerScript,
} from "@winsock/handoff";
import { readEnd, writeText } from "../kit/connections.ts";
import { RawClient } from "../kit/http_client.ts";
import { freeze } from "../kit/faults/acts.ts";
import { until, within } from "../kit/process.ts";

const SCRIPT = new URL("../children/pool_worker.ts", import.meta.url);
const FLAGS = ["--no-check", "--cached-only"];
const WINDOWS = Deno.build.os === "windows";
/** What a busy machine may take longer, in milliseconds. */
const SLACK_MS = 1_000;

interface Serving {
  readonly pool: WorkerPool;
  readonly listener: Listener;
  /** The events of the pool, by their names. */
  readonly events: string[];
  readonly drops: unknown[];
}

/** Runs a test with a pool and a listener, and ends both. */
async function withServing(
  options: WorkerPoolSettings & Partial<WorkerScript>,
  test: (serving: Serving) => Promise<void>,
): Promise<void> {
  const pool = new WorkerPool({ script: SCRIPT, denoFlags: FLAGS, size: 2, outputPrefix: "", ...options });
  const events: string[] = [];
  const drops: unknown[] = [];
  pool.addEventListener("poolfull", ({ type }) => void events.push(type));
  pool.addEventListener("poolfree", ({ type }) => void events.push(type));
  pool.addEventListener("connectiondrop", ({ error }: ConnectionDropEvent) => void drops.push(error));
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  try {
    await test({ pool, listener, events, drops });
  } finally {
    await within(20_000, pool.close({ drainTimeout: 5_000 }));
    await within(1_000, pool.closed);
  }
}

async function client({ addr }: Listener): Promise<Deno.TcpConn> {
  return (await connect({ port: addr.port })).toConn();
}

async function ask(conn: Deno.Conn, request = "who"): Promise<string> {
  await writeText(conn, request);
  const buffer = new Uint8Array(100);
  const length = await within(20_000, conn.read(buffer));
  return new TextDecoder().decode(buffer.subarray(0, length ?? 0));
}

Deno.test("each connection of a listener goes to a worker, with what the options say, until the listener is closed", async () => {
  await withServing({ strategy: "round-robin" }, async ({ pool, listener, drops }) => {
    await within(20_000, pool.ready);
    const serving = pool.serve(listener, { data: { from: "serve" } });
    const clients = await Promise.all(Array.from({ length: 4 }, () => client(listener)));
    const answers = await Promise.all(clients.map((conn) => ask(conn)));
    for (const answer of answers) assert(answer.endsWith(' {"from":"serve"}'), answer);
    assertEquals(new Set(answers).size, 2);
    for (const conn of clients) conn.close();
    listener.close();
    await within(5_000, serving);
    assertEquals(drops, []);
    assertEquals(pool.statistics.taken, 4);
  });
});

Deno.test("while no worker has room clients wait in the backlog, and events say so", async () => {
  await withServing(
    { maxSocketsPerWorker: 1, size: 1, queueTimeout: 300 },
    async ({ pool, listener, events, drops }) => {
      await within(20_000, pool.ready);
      const serving = pool.serve(listener);
      const clients = [await client(listener), await client(listener), await client(listener)];
      const first = await ask(clients[0]!);
      await until(() => events.length > 0, "the pool says that it is full");
      // Longer than a socket may wait in the pool: these wait in the system.
      await new Promise((resolve) => setTimeout(resolve, 900));
      assertEquals([events, pool.statistics.waiting, listener.connectionCount], [["poolfull"], 0, 0]);
      for (const [index, conn] of clients.entries()) {
        assertEquals(await ask(conn), first);
        conn.close();
        if (index === 0) await until(() => events.length >= 2, "the pool has room");
      }
      assertEquals(events.slice(0, 2), ["poolfull", "poolfree"]);
      await until(() => pool.statistics.taken === 3, "all were taken");
      assertEquals(drops, []);
      listener.close();
      await within(5_000, serving);
    },
  );
});

Deno.test("a listener of the event that the pool is full can abort what waits for room", async () => {
  await withServing({ maxSocketsPerWorker: 1, size: 1 }, async ({ pool, listener }) => {
    await within(20_000, pool.ready);
    const reason = new Error("the pool is full");
    const abort = new AbortController();
    pool.addEventListener("poolfull", () => abort.abort(reason));
    using first = await client(listener);
    await within(5_000, pool.dispatch(await listener.accept()));
    using _second = await client(listener);
    using socket = await listener.accept();
    const dispatching = pool.dispatch(socket, { signal: abort.signal });
    assertEquals(await assertRejects(() => within(5_000, dispatching), Error), reason);
    assertEquals(pool.statistics.waiting, 0);
    assert((await ask(first)).length > 0);
  });
  await withServing({ maxSocketsPerWorker: 1, size: 1 }, async ({ pool, listener, drops }) => {
    await within(20_000, pool.ready);
    const abort = new AbortController();
    pool.addEventListener("poolfull", () => abort.abort());
    using first = await client(listener);
    await within(20_000, pool.serve(listener, { signal: abort.signal }));
    assert((await ask(first)).length > 0);
    assertEquals(drops, []);
  });
});

Deno.test("a listener of the event that the pool is full can close the pool", async () => {
  await withServing({ maxSocketsPerWorker: 1, size: 1 }, async ({ pool, listener }) => {
    await within(20_000, pool.ready);
    using first = await client(listener);
    await within(5_000, pool.dispatch(await listener.accept()));
    pool.addEventListener("poolfull", () => void pool.close({ drainTimeout: 5_000 }));
    using _second = await client(listener);
    using socket = await listener.accept();
    const error = await assertRejects(() => within(5_000, pool.dispatch(socket)), HandoffError);
    assertEquals(error.outcome, "closed");
    assert((await ask(first)).length > 0);
  });
});

Deno.test("a connection that no worker takes is closed, and an event says why", async () => {
  await withServing({ args: ["reject"] }, async ({ pool, listener, drops }) => {
    const serving = pool.serve(listener);
    using conn = await client(listener);
    assert(await readEnd(conn));
    await until(() => drops.length > 0, "it is told");
    const [error] = drops;
    assert(error instanceof HandoffError);
    assertEquals([error.outcome, error.reason, pool.statistics.offered], ["rejected", "not here", 2]);
    listener.close();
    await within(5_000, serving);
  });
});

Deno.test("connections on their way to a worker that is killed are answered by another", async () => {
  await withServing({ restartDelay: 10, maxQueue: 0, attempts: 1 }, async ({ pool, listener, drops }) => {
    await within(20_000, pool.ready);
    const serving = pool.serve(listener);
    let killed = 0;
    let answered = 0;
    const dead = new Set<number>();
    pool.addEventListener("workerend", ({ worker }) => void dead.add(worker.processId));
    const run = async (index: number) => {
      for (let count = 0; count < 40; count++) {
        using conn = await client(listener);
        if (index === 0 && count % 10 === 5) {
          const [victim] = pool.statistics.workers.filter(({ state }) => state === "ready");
          if (victim !== undefined) Deno.kill(victim.processId, "SIGKILL");
          killed++;
        }
        // One that has taken a connection takes it along.
        if ((await ask(conn).catch(() => "")).endsWith(" null")) answered++;
      }
    };
    await within(60_000, Promise.all(Array.from({ length: 8 }, (_, index) => run(index))));
    assert(killed > 0 && dead.size > 0);
    await until(() => pool.statistics.taken === 320, "what was not a worker's was offered to another");
    assertEquals(drops, []);
    assert(answered >= 300, `${answered} of 320 were answered`);
    listener.close();
    await within(5_000, serving);
  });
});

Deno.test("a signal ends accepting, and the next connection waits for who accepts next", async () => {
  await withServing({ size: 1 }, async ({ pool, listener }) => {
    await within(20_000, pool.ready);
    const abort = new AbortController();
    const serving = pool.serve(listener, { signal: abort.signal });
    using first = await client(listener);
    assert((await ask(first)).endsWith(" null"));
    abort.abort();
    await within(5_000, serving);
    using second = await client(listener);
    using accepted = (await within(5_000, listener.accept())).toConn();
    await writeText(accepted, "mine");
    assertEquals(await ask(second), "mine");
    await within(5_000, pool.serve(listener, { signal: AbortSignal.abort() }));
    // Also while accepting is paused.
    await listener.pause();
    const again = new AbortController();
    const waiting = pool.serve(listener, { signal: again.signal });
    setTimeout(() => again.abort(), 50);
    await within(5_000, waiting);
    listener.resume();
  });
});

Deno.test("a signal that ends accepting leaves what was accepted to the workers", async () => {
  await withServing({ size: 1, args: ["busy"] }, async ({ pool, listener, drops }) => {
    await within(20_000, pool.ready);
    const abort = new AbortController();
    const serving = pool.serve(listener, { signal: abort.signal });
    using accepted = await client(listener);
    await until(() => pool.statistics.workers[0]!.inFlight === 1, "it was offered to a worker that is busy");
    abort.abort();
    await within(20_000, serving);
    assert((await ask(accepted)).endsWith(" null"));
    assertEquals(drops, []);
  });
});

Deno.test("a pool that is closed ends its accepting and leaves the listener open", async () => {
  await withServing({ size: 1 }, async ({ pool, listener }) => {
    await within(20_000, pool.ready);
    const serving = pool.serve(listener);
    const waiting = new Promise<void>((resolve) => setTimeout(resolve, 50));
    await waiting;
    await within(20_000, pool.close());
    await within(1_000, serving);
    assertEquals(await within(1_000, pool.closed), undefined);
    using _conn = await client(listener);
    (await within(5_000, listener.accept())).close();
  });
});

Deno.test("a pool none of whose workers can be kept running ends its accepting with an error", async () => {
  await withServing({ args: ["crash"], restartDelay: 1, maxFailures: 1 }, async ({ pool, listener }) => {
    const { outcome } = await within(20_000, assertRejects(() => pool.serve(listener), HandoffError));
    assertEquals(outcome, "target-exited");
    assertEquals((await within(1_000, pool.closed))?.outcome, "target-exited");
    assertEquals((await assertRejects(() => pool.restart(), HandoffError)).outcome, "target-exited");
  });
});

Deno.test("a program is asked about each connection, and may refuse it or take it itself", async () => {
  await withServing({ size: 1 }, async ({ pool, listener, drops }) => {
    const serving = pool.serve(listener, {
      data: "not this",
      async onConnection(socket) {
        const text = new TextDecoder().decode(await socket.peek(1));
        if (text === "x") throw new Error("not wanted");
        if (text === "c") return socket.close();
        return text === "d" ? { data: text } : undefined;
      },
    });
    const said = async (text: string) => {
      using conn = await client(listener);
      // With unread bytes, closing resets the connection.
      return (await ask(conn, text).catch(() => "")).replace(/^\d+ /, "");
    };
    assertEquals([await said("d"), await said("n"), await said("x"), await said("c")], ['"d"', '"not this"', "", ""]);
    assertEquals(drops.map((error) => (error as Error).message), ["not wanted"]);
    listener.close();
    await within(5_000, serving);
  });
});

Deno.test("connections that a program is asked about have room when it has answered", async () => {
  await withServing({ size: 1, maxSocketsPerWorker: 2, queueTimeout: 300 }, async ({ pool, listener, drops }) => {
    await within(20_000, pool.ready);
    const asked: (() => void)[] = [];
    const onConnection = () => new Promise<void>((resolve) => void asked.push(resolve));
    const serving = pool.serve(listener, { onConnection });
    const clients = await Promise.all(Array.from({ length: 6 }, () => client(listener)));
    for (let served = 0; served < 6; served += 2) {
      await until(() => asked.length === served + 2, "it is asked about two");
      await new Promise((resolve) => setTimeout(resolve, 400));
      assertEquals(asked.length, served + 2, "there is room for two");
      for (const answer of asked.slice(-2)) answer();
      for (const conn of clients.slice(served, served + 2)) {
        assert((await ask(conn)).endsWith(" null"));
        conn.close();
      }
    }
    assertEquals(drops, []);
    listener.close();
    await within(5_000, serving);
  });
});

Deno.test("what ended a worker is told with its exit code, or its signal", async () => {
  await withServing({ size: 1, restartDelay: 10 }, async ({ pool, listener }) => {
    const ends: WorkerEvent[] = [];
    pool.addEventListener("workerend", (event) => void ends.push(event));
    await within(20_000, pool.ready);
    const serving = pool.serve(listener);
    using conn = await client(listener);
    await writeText(conn, "die");
    await until(() => ends.length === 1, "the worker has ended");
    await until(() => pool.statistics.workers[0]!.state === "ready", "there is another");
    const { processId } = pool.statistics.workers[0]!;
    Deno.kill(processId, "SIGKILL");
    await until(() => ends.length === 2, "that one has ended too");
    assertEquals([ends[0]!.exitCode, ends[0]!.signal], [1, undefined]);
    assertEquals([ends[1]!.worker.processId, ends[1]!.signal], [processId, WINDOWS ? undefined : "SIGKILL"]);
    listener.close();
    await within(5_000, serving);
  });
});

Deno.test("a worker may take longer to start than to take a socket, but not longer than it may", async () => {
  const script = new URL("../children/late_worker.ts", import.meta.url);
  await withServing({ script, args: ["1000", "0"], size: 1, sendTimeout: 300 }, async ({ pool }) => {
    await within(20_000, pool.ready);
    assertEquals(pool.statistics.workers[0]!.restarts, 0);
  });
  await withServing({ script, args: ["9000", "0"], size: 1, startTimeout: 300, maxFailures: 0 }, async ({ pool }) => {
    const reasons: string[] = [];
    pool.addEventListener("workerend", ({ reason }) => void reasons.push(reason));
    await within(20_000, assertRejects(() => pool.ready, HandoffError));
    await until(() => reasons.length > 0, "it has ended");
    assert(/^process \d+ was not ready after 300 ms$/.test(reasons[0]!), reasons[0]);
  });
});

Deno.test("a worker is known to be ready when it has called receive, and not when it asks for its first socket", async () => {
  const script = new URL("../children/late_worker.ts", import.meta.url);
  await withServing({ script, args: ["0", "60000"], size: 1, startTimeout: 20_000 }, async ({ pool }) => {
    await within(20_000, pool.ready);
    await pool.close({ drainTimeout: 0 });
  });
});

Deno.test("workers may be allowed everything", async () => {
  await withServing({ denoFlags: ["-A", ...FLAGS], size: 1, maxFailures: 0 }, async ({ pool, listener }) => {
    await within(20_000, pool.ready);
    const serving = pool.serve(listener);
    using conn = await client(listener);
    assert((await ask(conn)).endsWith(" null"));
    listener.close();
    await within(5_000, serving);
  });
  const script = new URL("../children/late_worker.ts", import.meta.url);
  for (const flag of ["--allow-all", "-qA"]) {
    await using source = await HandoffSource.spawn(script, { args: ["0", "0"], denoFlags: [flag, ...FLAGS] });
    await within(20_000, source.ready);
  }
});

for (const engine of ["Deno.serve", "node:http"]) {
  Deno.test(`${engine}: workers are replaced under load by what is on disk, and no request is lost`, async () => {
    const module = await Deno.makeTempFile({ suffix: ".ts" });
    const write = (version: number) => Deno.writeTextFile(module, `export const version = "v${version}";`);
    await write(0);
    const options = {
      script: new URL("../children/versioned_worker.ts", import.meta.url),
      args: [`file://${WINDOWS ? "/" : ""}${module.replaceAll("\\", "/")}`, engine],
      denoFlags: [...FLAGS, "--allow-read", "--allow-env", "--allow-sys"],
    };
    await withServing(options, async ({ pool, listener, drops }) => {
      const ends: WorkerEvent[] = [];
      pool.addEventListener("workerend", (event) => void ends.push(event));
      await within(30_000, pool.ready);
      const serving = pool.serve(listener);
      let over = false;
      const versions = new Set<string>();
      const failed: unknown[] = [];
      let answered = 0;
      const ask = async (requests: number) => {
        while (!over) {
          try {
            using client = await RawClient.connect(listener.addr.port);
            for (let count = 0; count < requests && !over; count++) {
              const { status, head, body } = await client.get("/", ...(requests === 1 ? ["Connection: close"] : []));
              assertEquals(status, 200);
              versions.add(body.split(" ")[0]!);
              answered++;
              if (/^connection: close/im.test(head)) break;
            }
          } catch (error) {
            failed.push(error);
          }
        }
      };
      // Half of the clients keep their connections, the others make one for each request.
      const asking = Array.from({ length: 16 }, (_, index) => ask(index % 2 === 0 ? Infinity : 1));
      const processes = () => pool.statistics.workers.map(({ processId }) => processId);
      const rounds = WINDOWS ? 1 : 3;
      for (let round = 1; round <= rounds; round++) {
        const before = processes();
        await write(round);
        await within(60_000, pool.restart());
        assertEquals(processes().filter((processId) => before.includes(processId)), []);
        assertEquals(ends.length, 2 * round, "the old ones have ended");
      }
      over = true;
      await within(20_000, Promise.all(asking));
      assertEquals([failed, drops], [[], []]);
      assertEquals([...versions].toSorted(), Array.from({ length: rounds + 1 }, (_, index) => `v${index}`));
      assert(answered > 100, `${answered} requests were answered`);
      for (const { reason, exitCode } of ends) assertEquals([reason, exitCode], ["it was replaced", 0]);
      listener.close();
      await within(5_000, serving);
    });
    await Deno.remove(module);
  });
}

Deno.test("a worker whose replacement does not become ready keeps its place", async () => {
  const module = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(module, 'export const version = "good";');
  const options = {
    script: new URL("../children/versioned_worker.ts", import.meta.url),
    args: [`file://${WINDOWS ? "/" : ""}${module.replaceAll("\\", "/")}`],
    denoFlags: [...FLAGS, "--allow-read", "--allow-env", "--allow-sys"],
    // The reason is known only when all output was read.
    outputPrefix: "worker: ",
  };
  await withServing(options, async ({ pool, listener }) => {
    await within(30_000, pool.ready);
    const serving = pool.serve(listener);
    const before = pool.statistics.workers.map(({ processId }) => processId);
    const ends: WorkerEvent[] = [];
    pool.addEventListener("workerend", (event) => void ends.push(event));
    await Deno.writeTextFile(module, "Deno.exit(7);");
    const { outcome, message } = await within(30_000, assertRejects(() => pool.restart(), HandoffError));
    assertEquals(outcome, "target-exited");
    assert(
      /^Cannot restart the pool \(target-exited\): process \d+ exited with 7; 0 of \d workers were replaced$/.test(
        message,
      ),
      message,
    );
    await until(() => ends.length === 1, "its end is told");
    assertMatch(ends[0]!.reason!, /^process \d+ exited with 7/);
    await Deno.writeTextFile(module, "await new Promise((resolve) => setTimeout(resolve, 60_000));");
    const late = await within(30_000, assertRejects(() => pool.restart({ startTimeout: 500 }), HandoffError));
    assertEquals(late.outcome, "timeout");
    assertEquals(pool.statistics.workers.map(({ processId }) => processId), before);
    using client = await RawClient.connect(listener.addr.port);
    assert((await client.get("/")).body.startsWith("good "));
    await assertRejects(() => pool.restart({ drainTimeout: -1 }), RangeError, "Invalid `drainTimeout`");
    // One that is starting when the pool is closed is ended.
    const restarting = within(20_000, assertRejects(() => pool.restart(), HandoffError));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await within(20_000, pool.close());
    assertEquals((await restarting).outcome, "closed");
    await within(5_000, serving);
  });
  await Deno.remove(module);
});

Deno.test("a place that was given up has a worker again after a restart", async () => {
  const marker = await Deno.makeTempFile();
  await Deno.remove(marker);
  const script = new URL("../children/misbehaving_worker.ts", import.meta.url);
  const denoFlags = [...FLAGS, "--allow-read", "--allow-write"];
  await withServing({ script, denoFlags, args: [marker, "crash"], maxFailures: 0 }, async ({ pool }) => {
    await within(20_000, pool.ready);
    assertEquals(pool.statistics.workers.filter(({ state }) => state === "given-up").length, 1);
    await within(30_000, pool.restart());
    assertEquals(pool.statistics.workers.map(({ state }) => state), ["ready", "ready"]);
  });
  await Deno.remove(marker);
});

Deno.test("a compiled program does not start itself as a worker", async () => {
  const code = `
    // What a compiled program has in place of this.
    Object.defineProperty(Deno, "build", { value: { ...Deno.build, standalone: true } });
    const { HandoffSource, WorkerPool } = await import("@winsock/handoff");
    const script = ${JSON.stringify(SCRIPT.href)};
    try { new WorkerPool({ script }); } catch (error) { console.log(String(error)); }
    await HandoffSource.spawn(script).catch((error) => console.log(String(error)));
    const pool = new WorkerPool({ command: "/no/such/program", size: 1, maxFailures: 0 });
    await pool.closed;
    console.log("a command is tried");`;
  const args = ["eval", "--no-check", "--cached-only", code];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, stderr: "inherit" }).output();
  const refused = `TypeError: Cannot run script ${SCRIPT.href}: this program is compiled, so give a \`command\``;
  const printed = new TextDecoder().decode(stdout).trimEnd().split(/\r?\n/);
  assertEquals(printed, [refused, refused, "a command is tried"]);
});

Deno.test({
  name: "a worker is started again after another Deno has taken the place of the one that runs",
  ignore: Deno.build.os === "windows",
  async fn() {
    const folder = await Deno.makeTempDir();
    try {
      const own = `${folder}/deno`;
      for (const path of [own, `${own}.new`]) await Deno.copyFile(Deno.execPath(), path);
      const code = `
        import { WorkerPool } from "@winsock/handoff";
        const denoFlags = ["--no-check", "--cached-only"];
        await using pool = new WorkerPool({ script: ${JSON.stringify(SCRIPT.href)}, size: 1, denoFlags });
        await pool.ready;
        await Deno.rename("${own}.new", "${own}");
        await pool.restart();
        console.log("restarted");`;
      const args = ["eval", "--no-check", "--cached-only", code];
      const { stdout } = await new Deno.Command(own, { args, stderr: "inherit" }).output();
      assert(new TextDecoder().decode(stdout).includes("restarted\n"));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

/** Asks over new connections, one after the other, until the answers are from so many workers. */
async function askUntil(listener: Listener, workers: number): Promise<Set<string>> {
  const answers = new Set<string>();
  await until(async () => {
    using conn = await client(listener);
    answers.add(await ask(conn));
    return answers.size >= workers;
  }, `${workers} workers answer`);
  return answers;
}

Deno.test("workers that accept for themselves bring the same, until the listener is closed", async () => {
  await withServing({}, async ({ pool, listener, drops }) => {
    await within(20_000, pool.ready);
    const serving = pool.serve(listener, { distribute: "listener", data: { from: "serve" } });
    for (const answer of await askUntil(listener, 2)) assert(answer.endsWith(' {"from":"serve"}'), answer);
    assertEquals([listener.connectionCount, drops], [0, []]);
    listener.close();
    await within(10_000, serving);
    assert(pool.statistics.taken >= 2);
    await assertRejects(() => client(listener), Deno.errors.ConnectionRefused);
  });
});

Deno.test("workers that accept for themselves stop while the listener is paused, and lose no client", async () => {
  await withServing({}, async ({ pool, listener }) => {
    await listener.pause();
    await within(20_000, pool.ready);
    const serving = pool.serve(listener, { distribute: "listener" });
    using waiting = await client(listener);
    const answer = ask(waiting);
    const early = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 500))]);
    assertEquals([early, pool.statistics.taken], [undefined, 0]);
    listener.resume();
    assert((await answer).endsWith(" null"));
    await within(10_000, listener.pause());
    const { taken } = pool.statistics;
    using later = await client(listener);
    const second = ask(later);
    await new Promise((resolve) => setTimeout(resolve, 500));
    assertEquals(pool.statistics.taken, taken);
    listener.resume();
    assert((await second).endsWith(" null"));
    listener.close();
    await within(10_000, serving);
  });
});

Deno.test("workers that accept for themselves are replaced, and no client notices", async () => {
  await withServing({}, async ({ pool, listener }) => {
    await within(20_000, pool.ready);
    const serving = pool.serve(listener, { distribute: "listener" });
    const before = await askUntil(listener, 2);
    let asked = 0;
    let stop = false;
    const asking = (async () => {
      for (; !stop; asked++) {
        using conn = await client(listener);
        assert((await ask(conn)).endsWith(" null"));
      }
    })();
    await within(60_000, pool.restart());
    stop = true;
    await asking;
    const after = await askUntil(listener, 2);
    assertEquals(before.intersection(after).size, 0);
    assert(asked > 0);
    listener.close();
    await within(10_000, serving);
  });
});

Deno.test("a worker that is frozen while it accepts keeps one connection at most, and no longer than is stated", async () => {
  const sendTimeout = 2_000;
  await withServing({ size: 3, sendTimeout, restartDelay: 10 }, async ({ pool, listener }) => {
    await within(20_000, pool.ready);
    const ends: WorkerEvent[] = [];
    let endedAt = 0;
    pool.addEventListener("workerend", (event) => {
      ends.push(event);
      endedAt ||= performance.now();
    });
    const serving = pool.serve(listener, { distribute: "listener" });
    await askUntil(listener, 3);
    const { processId } = pool.statistics.workers[0]!;
    freeze(processId);
    const frozenAt = performance.now();
    const early: string[] = [];
    const clients = Array.from({ length: 30 }, async () => {
      using conn = await client(listener);
      const answer = await ask(conn).catch(() => "");
      if (answer === "") endedAt = performance.now();
      else if (ends.length === 0) early.push(answer);
      return answer;
    });
    await until(() => ends.length > 0, "it is ended");
    assertEquals([ends[0]!.worker.processId, ends[0]!.reason], [processId, `it did not answer for ${sendTimeout} ms`]);
    const answers = await Promise.all(clients);
    // On Windows a thread of it was in accept.
    const lost = answers.filter((answer) => answer === "").length;
    assert(WINDOWS ? lost <= 1 : lost === 0, `${lost} are lost`);
    // The others did not wait until it was ended.
    assertEquals(early.length, answers.length - lost);
    for (const answer of early) assert(!answer.startsWith(`${processId} `), answer);
    const waited = endedAt - frozenAt;
    assert(waited < 2 * sendTimeout + SLACK_MS, `it was frozen for ${waited} ms`);
    const after = await askUntil(listener, 3);
    for (const answer of after) assert(!answer.startsWith(`${processId} `));
    listener.close();
    await within(10_000, serving);
  });
});

Deno.test("a worker that was too busy to take the listener gets it again, and accepts", async () => {
  // Shorter than the worker is busy, and longer than half of that: then a worker that is silent is ended.
  const sendTimeout = 2_000;
  await withServing({ size: 1, sendTimeout, args: ["busy"] }, async ({ pool, listener }) => {
    await within(20_000, pool.ready);
    const { processId } = pool.statistics.workers[0]!;
    const serving = pool.serve(listener, { distribute: "listener" });
    using conn = await client(listener);
    assertEquals(await ask(conn), `${processId} null`);
    listener.close();
    await within(10_000, serving);
  });
});

Deno.test("what workers that accept for themselves cannot do is refused", async () => {
  await withServing({}, async ({ pool, listener }) => {
    for (const options of [{ onConnection: () => {} }, { initialBytes: new Uint8Array(1) }]) {
      await assertRejects(
        () => pool.serve(listener, { distribute: "listener", ...options }),
        TypeError,
        "Invalid `distribute`",
      );
    }
    const distribute = "fairly" as "listener";
    await assertRejects(() => pool.serve(listener, { distribute }), TypeError, "Invalid `distribute`");
  });
  await withServing({ trusted: false }, async ({ pool, listener }) => {
    await assertRejects(
      () => pool.serve(listener, { distribute: "listener" }),
      TypeError,
      "workers that are not trusted",
    );
  });
});
