// A pool of real worker processes.
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import {
  connect,
  HandoffError,
  listen,
  type Socket,
  type WorkerEvent,
  WorkerPool,
  type WorkerPoolOptions,
  type WorkerPoolSettings,
  type WorkerScript,
} from "@winsock/handoff";
import { UnsupportedProvider, useProvider } from "@winsock/handoff/spi";
import { prefixLines } from "../../handoff/pool/worker_output.ts";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { countDescriptors, settledDescriptors } from "../kit/descriptors.ts";
import { FFI_GRANT, RUN, until, within } from "../kit/process.ts";
import { countListeners } from "../kit/signals.ts";

const SCRIPT = new URL("../children/pool_worker.ts", import.meta.url);

/** Runs a test with a pool, and checks that none of its processes is left. */
async function withPool(
  options: WorkerPoolSettings & Partial<WorkerScript>,
  test: (pool: WorkerPool, events: WorkerEvent[]) => Promise<void>,
): Promise<void> {
  const denoFlags = ["--no-check", "--cached-only"];
  const pool = new WorkerPool({ script: SCRIPT, denoFlags, size: 2, outputPrefix: "", ...options });
  try {
    await test(pool, record(pool));
  } finally {
    await within(20_000, pool.close({ drainTimeout: 5_000 }));
    for (const { state } of pool.statistics.workers) assert(state === "ended" || state === "given-up", state);
  }
}

/** What a pool tells about its workers from now on. */
function record(pool: WorkerPool): WorkerEvent[] {
  const events: WorkerEvent[] = [];
  for (const type of ["workerstart", "workerready", "workerend", "workergiveup"] as const) {
    pool.addEventListener(type, (event) => void events.push(event));
  }
  return events;
}

/** A connection that was dispatched, and the client's end of it. */
async function dispatched(pool: WorkerPool, data?: unknown): Promise<{ client: Deno.Conn; processId: number }> {
  const pair = await connection();
  const { worker } = await within(20_000, pool.dispatch(pair.server, { data }));
  return { client: pair.client.toConn(), processId: worker.processId };
}

async function ask(client: Deno.Conn, request = "who"): Promise<string> {
  await writeText(client, request);
  const buffer = new Uint8Array(100);
  const length = await within(20_000, client.read(buffer));
  return new TextDecoder().decode(buffer.subarray(0, length ?? 0));
}

async function rejection(promise: Promise<unknown>): Promise<[string, string]> {
  const { outcome, reason } = await within(25_000, assertRejects(() => promise, HandoffError));
  return [outcome, reason];
}

function usable(socket: Socket): boolean {
  return socket.remoteAddr.port > 0;
}

Deno.test("a program that makes no sense is refused", () => {
  const make = (options: object) => () => new WorkerPool(options as WorkerPoolOptions);
  for (const program of [{}, { script: SCRIPT, command: "x" }]) {
    assertThrows(make(program), TypeError, "Invalid `script` and `command`: must be one of the two");
  }
  assertThrows(make({ command: "x", denoFlags: [] }), TypeError, "Invalid `denoFlags`: must be used with a `script`");
});

Deno.test("a pool is not closed with a timeout that makes no sense", async () => {
  await withPool({ size: 1 }, async (pool) => {
    await within(20_000, pool.ready);
    for (const drainTimeout of [-1, NaN, 2 ** 31, Infinity]) {
      await within(5_000, assertRejects(() => pool.close({ drainTimeout }), RangeError, "Invalid `drainTimeout`"));
    }
    const { client, processId } = await dispatched(pool);
    assertEquals(await ask(client), `${processId} null`);
    client.close();
    await pool.close({ drainTimeout: 2 ** 31 - 1 });
    await assertRejects(() => pool.close({ drainTimeout: Infinity }), RangeError);
  });
});

Deno.test("sockets go to each worker in turn, with data, and are counted", async () => {
  await withPool({ strategy: "round-robin", size: 3 }, async (pool, events) => {
    await within(20_000, pool.ready);
    const clients = [];
    for (let count = 0; count < 6; count++) clients.push(await dispatched(pool, { count }));
    const processes = clients.map(({ processId }) => processId);
    assertEquals(processes.slice(0, 3), processes.slice(3));
    assertEquals(new Set(processes).size, 3);
    for (const [count, { client, processId }] of clients.entries()) {
      assertEquals(await ask(client), `${processId} {"count":${count}}`);
      client.close();
    }
    const { offered, taken, returned, inFlight, waiting, timeToTake, workers } = pool.statistics;
    assertEquals([offered, taken, returned, inFlight, waiting], [6, 6, 0, 0, 0]);
    assert(timeToTake.p50 > 0 && timeToTake.p50 <= timeToTake.p99 && timeToTake.p99 <= timeToTake.max);
    assertEquals(
      workers.map(({ taken, restarts, state }) => [taken, restarts, state]),
      Array(3).fill([2, 0, "ready"]),
    );
    await until(() => pool.statistics.workers.every(({ held }) => held === 0), "the workers have closed what they had");
    assertEquals(events.map(({ type }) => type).toSorted(), [
      ...Array(3).fill("workerready"),
      ...Array(3).fill("workerstart"),
    ]);
  });
});

Deno.test("what is given to dispatch as read already is what the worker reads first", async () => {
  await withPool({ size: 1 }, async (pool) => {
    using pair = await connection();
    await within(20_000, pool.dispatch(pair.server, { initialBytes: new TextEncoder().encode("who") }));
    const answer = `${pool.statistics.workers[0]!.processId} null`;
    using client = pair.client.toConn();
    assertEquals(await within(20_000, readText(client, answer.length)), answer);
  });
});

Deno.test("a listener of a pool's events that was removed hears nothing", async () => {
  await withPool({ size: 1 }, async (pool, events) => {
    const removed = () => assert(false, "it was removed");
    pool.addEventListener("workerready", removed);
    pool.removeEventListener("workerready", removed);
    await until(() => events.some(({ type }) => type === "workerready"), "the worker is ready");
  });
});

Deno.test("the worker with the fewest open connections gets the next", async () => {
  await withPool({}, async (pool) => {
    await within(20_000, pool.ready);
    const open = [];
    for (let count = 0; count < 4; count++) open.push(await dispatched(pool));
    const [first] = open;
    const others = open.filter(({ processId }) => processId === first!.processId);
    assertEquals(others.length, 2);
    for (const { client } of others) client.close();
    await until(() => pool.statistics.workers.some(({ held }) => held === 0), "one worker has nothing to do");
    for (let count = 0; count < 2; count++) {
      const next = await dispatched(pool);
      assertEquals(next.processId, first!.processId);
      open.push(next);
    }
    for (const { client } of open) {
      try {
        client.close();
      } catch {
        // one of those that were closed
      }
    }
  });
});

Deno.test("no worker gets more than its credit, and what waits is bounded and served in turn", async () => {
  await withPool({ maxSocketsPerWorker: 1, maxQueue: 1 }, async (pool) => {
    await within(20_000, pool.ready);
    const open = [await dispatched(pool), await dispatched(pool)];
    const pair = await connection();
    const waiting = pool.dispatch(pair.server);
    assertEquals(pool.statistics.waiting, 1);
    using refused = await connection();
    assertEquals(await rejection(pool.dispatch(refused.server)), ["overloaded", "1 sockets wait for a worker already"]);
    assert(usable(refused.server));
    open[0]!.client.close();
    assertEquals((await within(20_000, waiting)).worker.processId, open[0]!.processId);
    using aborted = await connection();
    const signal = AbortSignal.timeout(50);
    await assertRejects(() => pool.dispatch(aborted.server, { signal }), DOMException);
    assert(usable(aborted.server));
    open[1]!.client.close();
    pair.client.close();
  });
});

Deno.test("a socket nobody has room for in time comes back", async () => {
  await withPool({ maxSocketsPerWorker: 1, size: 1, queueTimeout: 2_000 }, async (pool) => {
    await within(20_000, pool.ready);
    const open = await dispatched(pool);
    using pair = await connection();
    assertEquals(await rejection(pool.dispatch(pair.server)), ["timeout", "no worker had room in 2000 ms"]);
    assert(usable(pair.server));
    open.client.close();
  });
});

Deno.test("a rejected socket is offered to each worker once, and then comes back", async () => {
  await withPool({ args: ["reject"], size: 2, attempts: 5 }, async (pool) => {
    await within(20_000, pool.ready);
    using pair = await connection();
    assertEquals(await rejection(pool.dispatch(pair.server)), ["rejected", "not here"]);
    assert(usable(pair.server));
    const { offered, returned, workers } = pool.statistics;
    assertEquals([offered, returned, workers.map(({ returned }) => returned)], [2, 2, [1, 1]]);
  });
});

Deno.test("a socket that waits for one worker does not keep another from the one that is free", async () => {
  await withPool({ args: ["reject"], maxSocketsPerWorker: 1, attempts: 9, queueTimeout: 3_000 }, async (pool) => {
    await within(20_000, pool.ready);
    const pairs = await Promise.all(Array.from({ length: 12 }, () => connection()));
    const ends = await Promise.all(pairs.map(({ server }) => rejection(pool.dispatch(server))));
    for (const [outcome, reason] of ends) assertEquals([outcome, reason], ["rejected", "not here"]);
    for (const pair of pairs) pair[Symbol.dispose]();
  });
});

Deno.test("a worker that dies is replaced, and what was not its own yet goes to another", async () => {
  await withPool({ restartDelay: 10 }, async (pool, events) => {
    await within(20_000, pool.ready);
    const victim = await dispatched(pool);
    await writeText(victim.client, "die");
    assert(await readEnd(victim.client).catch(() => true));
    const dispatches = await Promise.all(Array.from({ length: 10 }, () => dispatched(pool)));
    for (const { client, processId } of dispatches) {
      assertEquals(await ask(client), `${processId} null`);
      client.close();
    }
    await until(() => pool.statistics.workers.every(({ state }) => state === "ready"), "there are two workers again");
    assert(!pool.statistics.workers.some(({ processId }) => processId === victim.processId));
    const ended = events.find(({ type }) => type === "workerend")!;
    const { processId } = victim;
    assertEquals(ended.worker.processId, processId);
    assertEquals([ended.reason, ended.exitCode, ended.signal], [
      `process ${processId} exited with 1: to stderr`,
      1,
      undefined,
    ]);
    victim.client.close();
  });
});

for (const accept of ["automatic", "manual"]) {
  Deno.test(`workers that leave their loops lose nothing: what they have not seen goes to others, ${accept}`, async () => {
    const script = new URL("../children/leaving_worker.ts", import.meta.url);
    const options = {
      script,
      args: ["20", accept],
      restartDelay: 1,
      maxRestartDelay: 1,
      maxFailures: 100,
      attempts: 50,
    };
    await withPool(options, async (pool) => {
      await within(20_000, pool.ready);
      const pairs = await Promise.all(Array.from({ length: 200 }, () => connection()));
      const sent = await within(20_000, Promise.all(pairs.map(({ server }) => pool.dispatch(server))));
      const answers = await Promise.all(pairs.map(async ({ client }) => {
        using conn = client.toConn();
        return await within(20_000, new Response(conn.readable).text());
      }));
      assertEquals(answers, sent.map(({ worker }) => String(worker.processId)), "who took it answers it");
      assert(sent.some(({ attempts }) => attempts > 1), "some came back");
      assertEquals(pool.statistics.taken, 200);
    });
  });
}

Deno.test("a worker that hangs gets nothing more, and is ended and replaced", async () => {
  await withPool({ strategy: "round-robin", sendTimeout: 3_000, restartDelay: 10 }, async (pool) => {
    await within(20_000, pool.ready);
    const victim = await dispatched(pool);
    await writeText(victim.client, "hang");
    for (let count = 0; count < 4; count++) {
      const { client, processId } = await dispatched(pool);
      assert(processId !== victim.processId);
      assertEquals(await ask(client), `${processId} null`);
      client.close();
    }
    await until(
      () =>
        pool.statistics.workers.every(({ processId, state }) => processId !== victim.processId && state === "ready"),
      "the worker is replaced",
    );
    assert(await readEnd(victim.client).catch(() => true));
    victim.client.close();
  });
});

Deno.test("workers inherit no connection that is accepted while they are started", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = listener.accept();
  await new Promise((resolve) => setTimeout(resolve, 50));
  // On Windows a thread has accepted it by the time the worker is started, in the same turn of the event loop.
  const connecting = connect({ port: listener.addr.port });
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  await withPool({ size: 1 }, async (pool) => {
    using client = (await within(10_000, connecting)).toConn();
    using server = await within(10_000, accepting);
    await within(20_000, pool.ready);
    server.close();
    assert(await readEnd(client));
  });
});

Deno.test("a place whose workers cannot stay is given up, and the sockets come back", async () => {
  await withPool({ args: ["crash"], size: 1, restartDelay: 1, maxFailures: 2 }, async (pool, events) => {
    using pair = await connection();
    const dispatching = rejection(pool.dispatch(pair.server));
    const unready = await within(25_000, assertRejects(() => pool.ready, HandoffError));
    assertMatch(unready.message, /^Cannot start the pool \(target-exited\): process \d+ exited with 3$/);
    const reason = "no worker of the pool can be kept running";
    const failure = await within(25_000, pool.closed);
    assertEquals(failure?.message, `Cannot keep the pool running (target-exited): ${reason}`);
    assertEquals(await dispatching, ["target-exited", "no worker of the pool can be kept running"]);
    assert(usable(pair.server));
    assertEquals(events.map(({ type }) => type), [
      ...["workerstart", "workerend", "workerstart", "workerend", "workerstart", "workerend"],
      "workergiveup",
    ]);
  });
});

Deno.test("a pool whose program cannot start says soon why: what was printed last comes before the end", async () => {
  // In a process of its own, because a pool writes to the outputs of its process.
  const script = new URL("../children/unstartable_pool.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, FFI_GRANT, "--allow-run", script],
    env: { NO_COLOR: "1" },
    stderr: "piped",
  });
  const { code, stderr } = await within(20_000, child.output());
  const lines = new TextDecoder().decode(stderr).split("\n");
  assertEquals(code, 0, lines.join("\n"));
  const said = lines.find((line) => line.startsWith("Cannot start the pool"));
  assertMatch(
    said ?? "",
    /^Cannot start the pool \(target-exited\): process \d+ exited with 1: error: .*not today/,
  );
  // Every end of a worker comes after a last line of one.
  let printed = 0;
  for (const line of lines) {
    if (/^> .*error: .*not today/.test(line)) printed++;
    if (line === "ended 1") assert(printed-- > 0, lines.join("\n"));
  }
});

Deno.test("a pool has not failed while one worker can be kept running, nor when it is closed", async () => {
  let closed: HandoffError | undefined | "not yet" = "not yet";
  const marker = await Deno.makeTempFile();
  await Deno.remove(marker);
  const script = new URL("../children/misbehaving_worker.ts", import.meta.url);
  const denoFlags = ["--allow-read", "--allow-write", "--no-check", "--cached-only"];
  await withPool({ script, denoFlags, args: [marker, "crash"], maxFailures: 0 }, async (pool, events) => {
    pool.closed.then((failure) => closed = failure);
    await within(20_000, pool.ready);
    assertEquals(events.filter(({ type }) => type === "workergiveup").length, 1);
    const { client } = await dispatched(pool);
    client.close();
  });
  assertEquals(closed, undefined);
  await Deno.remove(marker);
});

Deno.test("a command that cannot be spawned is given up too", async () => {
  const pool = new WorkerPool({ command: "/no/such/program", size: 1, restartDelay: 1, maxFailures: 1 });
  const events = record(pool);
  assertEquals((await rejection(pool.ready))[0], "target-exited");
  assertEquals(events.map(({ type, worker }) => [type, worker.processId]), [
    ...Array(2).fill(["workerend", 0]),
    ["workergiveup", 0],
  ]);
  await pool.close();
});

Deno.test("a worker that cannot be spoken to is told of by its process id", async () => {
  using _provider = useProvider(new UnsupportedProvider());
  await withPool({ size: 1, maxFailures: 0 }, async (pool, events) => {
    assertEquals((await rejection(pool.ready))[0], "target-exited");
    assertEquals(events.map(({ type, worker }) => [type, worker.processId > 0]), [
      ["workerend", true],
      ["workergiveup", false],
    ]);
    assertEquals(pool.statistics.workers.map(({ processId, state }) => [processId, state]), [[0, "given-up"]]);
  });
});

Deno.test("a closed pool finishes what it has, and takes no more", async () => {
  await withPool({ maxSocketsPerWorker: 1, size: 1 }, async (pool) => {
    await within(20_000, pool.ready);
    const { client, processId } = await dispatched(pool);
    using waits = await connection();
    const waiting = rejection(pool.dispatch(waits.server));
    let closed = false;
    const closing = pool.close().then(() => closed = true);
    assertEquals(await waiting, ["closed", "the pool was closed"]);
    assertEquals(await rejection(pool.dispatch(waits.server)), ["closed", "the pool was closed"]);
    assert(usable(waits.server));
    assertEquals([await ask(client), closed], [`${processId} null`, false]);
    client.close();
    await within(20_000, closing);
  });
});

Deno.test("a worker that does not finish in time is ended", async () => {
  await withPool({ size: 1 }, async (pool) => {
    await within(20_000, pool.ready);
    const { client } = await dispatched(pool);
    const closing = pool.close({ drainTimeout: 300 });
    assert(await readEnd(client).catch(() => true));
    await within(20_000, closing);
    client.close();
  });
});

Deno.test("a signal ends the pool at once", async () => {
  const abort = new AbortController();
  await withPool({ signal: abort.signal }, async (pool) => {
    await within(20_000, pool.ready);
    const { client } = await dispatched(pool);
    abort.abort();
    assert(await readEnd(client).catch(() => true));
    client.close();
  });
});

Deno.test("a signal ends a pool that is closing, and is listened to no longer than that", async () => {
  const abort = new AbortController();
  const listeners = countListeners(abort.signal);
  await withPool({ signal: abort.signal, size: 1 }, async (pool) => {
    await within(20_000, pool.ready);
    const { client } = await dispatched(pool);
    const closing = pool.close();
    await until(() => pool.statistics.workers[0]!.state === "leaving", "the worker finishes what it has");
    assertEquals(listeners(), 1);
    abort.abort();
    await within(5_000, closing);
    assertEquals(listeners(), 0);
    client.close();
  });
});

Deno.test("a pool leaves no descriptor behind", async () => {
  const round = () =>
    withPool({}, async (pool) => {
      await within(20_000, pool.ready);
      for (const { client } of await Promise.all(Array.from({ length: 10 }, () => dispatched(pool)))) client.close();
    });
  await round();
  const [before] = await settledDescriptors(Deno.pid);
  await round();
  await until(() => countDescriptors() <= before!, "there are as many descriptors as before");
});

Deno.test("lines are passed on whole, each behind the prefix", async () => {
  const parts = ["one\ntw", "o\n\nthr", "ee", "\x80\n", "x".repeat(70_000), "end"];
  const bytes = parts.map((part) => Uint8Array.from(part, (character) => character.charCodeAt(0)));
  let text = "";
  await ReadableStream.from(bytes).pipeThrough(prefixLines("> "))
    .pipeTo(
      new WritableStream({
        write: (chunk) => void (text += String.fromCharCode(...chunk.slice(0, 60_000), ...chunk.slice(60_000))),
      }),
    );
  const long = "x".repeat(65_536);
  assertEquals(text, `> one\n> two\n> \n> three\x80\n> ${long}> ${"x".repeat(70_000 - 65_536)}end\n`);
});

Deno.test("what workers that are not trusted print does nothing to a terminal", async () => {
  const said = "one\x1b[2Jtwo\r\n\x9b\u202ethree\ttab\nend";
  let text = "";
  await ReadableStream.from([new TextEncoder().encode(said)]).pipeThrough(prefixLines("> ", false))
    .pipeThrough(new TextDecoderStream()).pipeTo(new WritableStream({ write: (chunk) => void (text += chunk) }));
  assertEquals(text, "> one [2Jtwo\n>  three tab\n> end\n");
});

Deno.test("a prefix that throws, or is not a text, ends the worker and leaves nothing open", async () => {
  const round = async (outputPrefix: () => string) => {
    await using pool = new WorkerPool({
      script: SCRIPT,
      denoFlags: ["--no-check", "--cached-only"],
      size: 1,
      maxFailures: 1,
      restartDelay: 0,
      outputPrefix,
    });
    const error = await within(20_000, pool.closed);
    assertEquals(error?.outcome, "target-exited");
  };
  const fail = () => {
    throw new Error("no prefix");
  };
  await round(fail);
  const [before] = await settledDescriptors(Deno.pid);
  await round(fail);
  await round(() => 5 as unknown as string);
  await until(() => countDescriptors() <= before!, "there are as many descriptors as before");
});

Deno.test("what workers print comes out behind their prefix", async () => {
  const script = `
    import { WorkerPool } from "@winsock/handoff";
    await using pool = new WorkerPool({
      script: ${JSON.stringify(SCRIPT.href)}, denoFlags: ["--no-check", "--cached-only"], size: 2,
      outputPrefix: ({ index, processId }) => \`[\${index} \${processId}] \`,
    });
    await pool.ready;`;
  const { stdout, stderr, code } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", "--cached-only", script],
  }).output();
  assertEquals(code, 0);
  const lines = new TextDecoder().decode(stdout).trimEnd().split("\n").toSorted();
  assertEquals(lines.length, 4);
  for (const [index, line] of lines.entries()) {
    const [, place, pid, worker] = /^\[(\d) (\d+)\] worker (\d+) (?:started|leaves)$/.exec(line.trim()) ?? [];
    assertEquals([place, worker], [String(index >> 1), pid], line);
  }
  assertEquals(new TextDecoder().decode(stderr).match(/^\[\d \d+\] to stderr$/gm)?.length, 2);
});
