// Workers that hand connections back, and a pool that gives these to another worker: the client notices nothing.
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  connect,
  type ConnectionDropEvent,
  listen,
  type Listener,
  WorkerPool,
  type WorkerPoolSettings,
  type WorkerScript,
} from "@winsock/handoff";
import { readEnd, writeText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { thaw } from "../kit/faults/acts.ts";
import { outcome } from "../kit/handoffs.ts";
import { until, within } from "../kit/process.ts";

const script = (name: string) => new URL(`../children/${name}`, import.meta.url);
const WINDOWS = Deno.build.os === "windows";

interface Serving {
  readonly pool: WorkerPool;
  readonly listener: Listener;
  readonly drops: unknown[];
}

/** Runs a test with a pool of workers that give connections up. */
async function withServing(
  options: WorkerPoolSettings & Partial<WorkerScript>,
  test: (serving: Serving) => Promise<void>,
): Promise<void> {
  const denoFlags = ["-A", "--no-check", "--cached-only"];
  const pool = new WorkerPool({ script: script("giving_worker.ts"), denoFlags, size: 2, outputPrefix: "", ...options });
  const drops: unknown[] = [];
  pool.addEventListener("connectiondrop", ({ error }: ConnectionDropEvent) => void drops.push(error));
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  try {
    const serving = pool.serve(listener);
    serving.catch(() => {});
    await within(30_000, pool.ready);
    await test({ pool, listener, drops });
  } finally {
    await within(30_000, pool.close({ drainTimeout: 500 }));
  }
}

class Client implements Disposable {
  #rest = "";
  private constructor(readonly conn: Deno.TcpConn) {}

  static async to({ addr }: Listener): Promise<Client> {
    return new Client((await connect({ port: addr.port })).toConn());
  }

  async say(text: string): Promise<void> {
    await writeText(this.conn, `${text}\n`);
  }

  /** The next line; `undefined` at the end. */
  async line(): Promise<string | undefined> {
    const buffer = new Uint8Array(1_000);
    while (!this.#rest.includes("\n")) {
      const count = await within(20_000, this.conn.read(buffer));
      if (count === null) return undefined;
      this.#rest += new TextDecoder().decode(buffer.subarray(0, count));
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return line;
  }

  async who(): Promise<[processId: number, data: string]> {
    await this.say("who");
    const [processId, data = ""] = (await this.line() ?? "").split(" ");
    return [Number(processId), data];
  }

  [Symbol.dispose](): void {
    this.conn.close();
  }
}

Deno.test("a connection that a worker hands back goes to another worker, with its data and what was read ahead", async () => {
  await withServing({ size: 3 }, async ({ listener, drops }) => {
    using client = await Client.to(listener);
    let [before] = await client.who();
    for (let round = 0; round < 6; round++) {
      // The question has been read ahead by the worker that gives the connection up.
      await client.say(`back ${round}\nwho`);
      const [processId, data] = (await client.line())!.split(" ");
      assertEquals(data, JSON.stringify(String(round)));
      assert(Number(processId) !== before, "another worker answers");
      before = Number(processId);
    }
    assertEquals(drops, []);
  });
});

Deno.test("with one worker the connection goes back to it", async () => {
  await withServing({ size: 1 }, async ({ listener, drops }) => {
    using client = await Client.to(listener);
    const [before] = await client.who();
    await client.say("back again\nwho");
    assertEquals(await client.line(), `${before} "again"`);
    assertEquals(drops, []);
  });
});

Deno.test("the pool's program says who gets what comes back, and with which data; or keeps it", async () => {
  const told: unknown[] = [];
  const onReturn: WorkerPoolSettings["onReturn"] = ({ socket, data, worker }) => {
    told.push([data, worker.index, typeof worker.processId]);
    if (data === "keep") return void socket.close();
    if (data === "throw") throw new Error("no place for it");
    if (data === "nowhere") return { worker: 17 };
    return { worker: Number(data), data: { sent: data } };
  };
  await withServing({ size: 3, onReturn }, async ({ pool, listener, drops }) => {
    using client = await Client.to(listener);
    for (const index of [2, 0, 0, 1]) {
      await client.say(`back ${index}\nwho`);
      const { processId } = pool.statistics.workers[index]!;
      assertEquals(await client.line(), `${processId} {"sent":"${index}"}`);
    }
    assertEquals(told.slice(1), [["0", 2, "number"], ["0", 0, "number"], ["1", 0, "number"]]);
    await client.say("back keep");
    assertEquals(await client.line(), undefined);
    assertEquals(drops, []);
    for (const [data, error] of [["throw", "no place for it"], ["nowhere", "Invalid `worker`: must be from 0 to 2"]]) {
      using other = await Client.to(listener);
      await other.say(`back ${data}`);
      assertEquals(await other.line(), undefined);
      assert((drops.pop() as Error).message.includes(error!));
    }
  });
});

Deno.test("a connection can be sent to one worker only, which it waits for", async () => {
  await withServing({ size: 2, maxSocketsPerWorker: 1, queueTimeout: 1_000 }, async ({ pool, listener }) => {
    const { port } = listener.addr;
    await assertRejects(
      async () => {
        using socket = await connect({ port });
        await pool.dispatch(socket, { worker: 2 });
      },
      RangeError,
      "Invalid `worker`: must be from 0 to 1, got 2",
    );
    using first = await Client.to(listener);
    const [processId] = await first.who();
    const busy = pool.statistics.workers.find((worker) => worker.processId === processId)!.index;
    using pair = listen({ hostname: "127.0.0.1", port: 0 });
    using client = await Client.to(pair);
    const socket = await pair.accept();
    assertEquals((await outcome(pool.dispatch(socket, { worker: busy })))[0], "timeout");
    const waiting = pool.dispatch(socket, { worker: busy, data: "sticky" });
    // Another worker has room, and others are served by it meanwhile.
    using second = await Client.to(listener);
    assert((await second.who())[0] !== processId);
    first.conn.close();
    assertEquals((await within(10_000, waiting)).worker, { index: busy, processId });
    assertEquals(await client.who(), [processId, '"sticky"']);
  });
});

Deno.test("messages go to one worker or to all, and come back with the worker's index", async () => {
  await withServing({ size: 3 }, async ({ pool }) => {
    const events: [number, unknown][] = [];
    pool.addEventListener("workermessage", ({ worker, data }) => void events.push([worker.index, data]));
    await within(10_000, pool.postMessage("to all"));
    await until(() => events.length === 3, "all have answered");
    assertEquals(events.toSorted(([a], [b]) => a - b), [0, 1, 2].map((index) => [index, { echo: "to all" }]));
    await within(10_000, pool.postMessage({ to: "one" }, { worker: 1 }));
    await until(() => events.length === 4, "one has answered");
    assertEquals(events[3], [1, { echo: { to: "one" } }]);
    const aborted = AbortSignal.abort(new Error("no more"));
    await assertRejects(() => pool.postMessage(1, { signal: aborted }), Error, "no more");
    await assertRejects(() => pool.postMessage(1, { worker: 3 }), RangeError, "Invalid `worker`");
    await assertRejects(() => pool.postMessage(() => {}), TypeError);
  });
});

Deno.test("a worker that ends while it hands a connection back takes it along or has given it away", async () => {
  await withServing({ size: 2, restartDelay: 0 }, async ({ pool, listener }) => {
    const ends: [number | undefined, string][] = [];
    pool.addEventListener("workerend", ({ exitCode, reason }) => void ends.push([exitCode, reason]));
    let given = 0;
    for (let round = 0; round < 6; round++) {
      await until(() => pool.statistics.workers.every(({ state }) => state === "ready"), "all workers run");
      using client = await Client.to(listener);
      const [before] = await client.who();
      await client.say("die\nwho");
      const answer = await client.line().catch(() => undefined);
      if (answer === undefined) continue;
      given++;
      assert(!answer.startsWith(`${before} `), "the dead do not answer");
      assertEquals(answer.split(" ")[1], '"dying"');
      await client.say("back on\nwho");
      assert((await client.line())?.endsWith('"on"'), "it goes on like any other");
    }
    await until(() => ends.length === 6, "all have ended");
    assertEquals(ends.map(([code]) => code), Array(6).fill(7));
    assert(given <= 6);
  });
});

Deno.test("a worker that is stopped while it hands back holds up nobody else", { ignore: WINDOWS }, async () => {
  await withServing({ size: 2, sendTimeout: 60_000 }, async ({ listener }) => {
    using stuck = await Client.to(listener);
    const [stopped] = await stuck.who();
    await stuck.say("freeze\nwho");
    using other = await Client.to(listener);
    const [processId] = await other.who();
    assert(processId !== stopped);
    thaw(stopped);
    const answer = await stuck.line();
    assert(answer !== undefined && !answer.startsWith(`${stopped} `), "it is the other's now");
  });
});

Deno.test("as many descriptors are open after a thousand connections went round as before", async () => {
  await withServing({ size: 2 }, async ({ pool, listener, drops }) => {
    let before = 0;
    const round = async () => {
      const clients = await Promise.all(Array.from({ length: 20 }, () => Client.to(listener)));
      await Promise.all(clients.map(async (client, index) => {
        for (let count = 0; count < 5; count++) await client.say(`back ${count}`);
        assertEquals((await client.who())[1], '"4"', `${index}`);
        client.conn.close();
      }));
      await until(() => pool.statistics.workers.every(({ held }) => held === 0), "all connections are closed");
    };
    for (let count = 0; count < 2; count++) await round();
    before = countDescriptors();
    const rounds = WINDOWS ? 2 : 9;
    for (let count = 0; count < rounds; count++) await round();
    await until(() => countDescriptors() < before + 15, "no descriptor is left");
    assertEquals(drops, []);
  });
});

Deno.test("a WebSocket moves from worker to worker twice while its client talks: nothing lost, nothing twice", async () => {
  const MESSAGES = 400;
  await withServing({ size: 3, script: script("moving_web_socket.ts") }, async ({ pool, listener, drops }) => {
    const socket = new WebSocket(`ws://127.0.0.1:${listener.addr.port}/`);
    const answers: { processId: string; text: string; at: number }[] = [];
    const closed = Promise.withResolvers<void>();
    socket.onclose = () => closed.resolve();
    socket.onmessage = ({ data }) => {
      const [processId, text] = data.split(" ");
      answers.push({ processId, text, at: performance.now() });
    };
    await within(20_000, new Promise((resolve) => socket.onopen = resolve));
    // Longer than what the worker reads at once, so that parts of messages are read ahead.
    const filling = "x".repeat(3_000);
    for (let count = 0; count < MESSAGES; count++) {
      socket.send(`${count} ${filling}`);
      if (count === 100 || count === 250) {
        await pool.postMessage("move");
      }
      if (count % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await until(() => answers.length >= MESSAGES, `all are answered, and not ${answers.length}`);
    assertEquals(answers.map(({ text }) => text), Array.from({ length: MESSAGES }, (_, count) => String(count)));
    const processes = answers.map(({ processId }) => processId);
    const changes = processes.filter((processId, index) => index > 0 && processId !== processes[index - 1]);
    assertEquals(changes.length, 2, "it moves twice");
    const gaps = answers.map(({ at }, index) => index === 0 ? 0 : at - answers[index - 1]!.at);
    const largest = Math.max(...gaps);
    assert(largest < 5_000, `no answer for ${largest} ms`);
    socket.close();
    await within(10_000, closed.promise);
    assertEquals(drops, []);
  });
});

Deno.test("a client that is gone when its connection comes back disturbs nobody", async () => {
  await withServing({ size: 2 }, async ({ pool, listener }) => {
    const client = await Client.to(listener);
    await client.who();
    await client.say("back gone");
    client.conn.close();
    using other = await Client.to(listener);
    await other.say("back here\nwho");
    assert((await other.line())?.endsWith('"here"'));
    assert(!await Promise.race([readEnd(other.conn), new Promise((resolve) => setTimeout(resolve, 50, false))]));
    other.conn.close();
    await until(() => pool.statistics.workers.every(({ held }) => held === 0), "nothing is left");
  });
});
