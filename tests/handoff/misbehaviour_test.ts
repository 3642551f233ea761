// One worker of a pool does not keep to the rules; the others serve all there is, and the source does not grow.
import { assert, assertEquals } from "@std/assert";
import { listen, type WorkerEvent, WorkerPool } from "@winsock/handoff";
import { until, within } from "../kit/process.ts";

const CONNECTIONS = 400;
/** A slow worker has a third of them, one after the other. */
const CONNECTIONS_IF_SLOW = 120;
const IN_FLIGHT = 20;
/** What a source may keep for a worker that reads nothing is 8 MiB; the rest is what a busy Deno takes anyway. */
const MEMORY_BOUND = 96 * 2 ** 20;

for (const mode of ["slow", "deaf", "flood", "lie", "withdraw"]) {
  Deno.test(`a ${mode} worker does not keep the others from working, nor makes the source grow`, async () => {
    const connections = mode === "slow" ? CONNECTIONS_IF_SLOW : CONNECTIONS;
    const marker = await Deno.makeTempFile();
    await Deno.remove(marker);
    const events: WorkerEvent[] = [];
    const pool = new WorkerPool({
      script: new URL("../children/misbehaving_worker.ts", import.meta.url),
      denoFlags: ["--allow-read", "--allow-write", "--no-check", "--cached-only"],
      args: [marker, mode],
      size: 3,
      strategy: "round-robin",
      startTimeout: 10_000,
      sendTimeout: 2_000,
      drainTimeout: 2_000,
      restartDelay: 10,
      attempts: 10,
    });
    for (const type of ["workerstart", "workerend"] as const) {
      pool.addEventListener(type, (event) => void events.push(event));
    }
    try {
      using listener = listen({ hostname: "127.0.0.1", port: 0 });
      await within(20_000, pool.ready);
      const before = Deno.memoryUsage().rss;
      const serving = (async () => {
        for (let count = 0; count < connections; count++) {
          const socket = await listener.accept();
          pool.dispatch(socket, { data: "x".repeat(10_000) }).catch(() => socket.close());
        }
      })();
      const answers: string[] = [];
      const client = async () => {
        while (answers.length < connections - IN_FLIGHT + 1) answers.push(await request(listener.addr.port));
      };
      const done = Promise.all(Array.from({ length: IN_FLIGHT }, client));
      await within(50_000, Promise.all([done, serving]));
      const well = answers.filter((answer) => answer.startsWith("well")).length;
      const slowly = answers.filter((answer) => answer.startsWith("slowly")).length;
      assertEquals([well + slowly, answers.length], [connections, connections], "every connection is answered");
      if (mode === "slow") {
        assert(slowly > 0 && slowly < connections / 3, `${slowly} answers were slow`);
        assertEquals(events.map(({ type }) => type), Array(3).fill("workerstart"), "a slow worker is left alone");
      } else {
        assertEquals(slowly, 0);
        await until(() => events.some(({ type }) => type === "workerend"), "the worker is ended");
        assertEquals(events.filter(({ type }) => type === "workerend").length, 1);
      }
      const growth = Deno.memoryUsage().rss - before;
      assert(growth < MEMORY_BOUND, `the source grew by ${(growth / 2 ** 20).toFixed(0)} MiB`);
    } finally {
      await within(20_000, pool.close({ drainTimeout: 1_000 }));
      await Deno.remove(marker).catch(() => {});
    }
  });
}

async function request(port: number): Promise<string> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  return new TextDecoder().decode(new Uint8Array(await within(30_000, new Response(conn.readable).arrayBuffer())));
}
