// Workers that finish while they serve: what their programs have not seen goes to others, and no client is told.
import { assert, assertEquals } from "@std/assert";
import { listen, WorkerPool } from "@winsock/handoff";
import { RawClient } from "../kit/http_client.ts";
import { within } from "../kit/process.ts";

const WORKER = new URL("../children/finishing_worker.ts", import.meta.url);
const WINDOWS = Deno.build.os === "windows";
const REQUESTS = WINDOWS ? 300 : 1_200;
const FINISH_EVERY = WINDOWS ? 60 : 120;
const CLIENTS = 16;

for (const engine of ["node:http", "Deno.serve"] as const) {
  Deno.test(`${engine}: workers that finish in turn lose no request`, async () => {
    await using pool = new WorkerPool({
      script: WORKER,
      args: [engine],
      size: 2,
      denoFlags: ["--no-check", "--cached-only", "--allow-env", "--allow-sys"],
      restartDelay: 20,
      outputPrefix: "",
    });
    const ends: string[] = [];
    pool.addEventListener("workerend", ({ reason }) => void ends.push(reason));
    await within(30_000, pool.ready);
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const refused: unknown[] = [];
    const serving = (async () => {
      for await (const socket of listener) {
        pool.dispatch(socket).catch((error) => {
          refused.push(error);
          socket.close();
        });
      }
    })();
    let begun = 0;
    const answers = new Map<string, number>();
    const ask = async () => {
      while (begun < REQUESTS) {
        const path = begun++ % FINISH_EVERY === FINISH_EVERY - 1 ? "/finish" : "/";
        using client = await RawClient.connect(port);
        const { status, body } = await client.get(path);
        assertEquals(status, 200);
        answers.set(body, (answers.get(body) ?? 0) + 1);
      }
    };
    const asked = await within(120_000, Promise.allSettled(Array.from({ length: CLIENTS }, ask)));
    assertEquals(refused, []);
    assertEquals(asked.filter(({ status }) => status === "rejected"), []);
    assertEquals([...answers.values()].reduce((sum, count) => sum + count), REQUESTS);
    assert(answers.size >= 3, `${answers.size} workers answered`);
    for (const reason of ends) assert(/^process \d+ (takes no more sockets|exited with 0)$/.test(reason), reason);
    listener.close();
    await serving;
  });
}
