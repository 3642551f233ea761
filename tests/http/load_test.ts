// Load on a pool whose workers answer: every request is, by every worker, with every framework.
import { assert, assertEquals } from "@std/assert";
import { listen, WorkerPool } from "@winsock/handoff";
import autocannon from "npm:autocannon@9.0.0";
import { until, within } from "../kit/process.ts";

const WORKERS = 2;
const CONNECTIONS = 16;
/** For each connection that stays, and for each client that makes a new one every time. */
const REQUESTS = { kept: 100, new: 25 };

/** autocannon, as far as it is used; its package has no types. */
type Autocannon = (options: {
  url: string;
  connections: number;
  amount: number;
  requests: { onResponse(status: number, body: string): void }[];
}) => Promise<{ errors: number; timeouts: number; mismatches: number; non2xx: number }>;

/** Requests on connections that stay; counts what is answered. */
async function keepAlive(url: string, answered: (body: string) => void): Promise<void> {
  const { errors, timeouts, mismatches, non2xx } = await (autocannon as unknown as Autocannon)({
    url,
    connections: CONNECTIONS,
    amount: CONNECTIONS * REQUESTS.kept,
    requests: [{ onResponse: (_, body) => answered(body) }],
  });
  assertEquals([errors, timeouts, mismatches, non2xx], [0, 0, 0, 0]);
}

/** The same with a connection for each request. Under Wine autocannon sees those reset, those of Deno.serve too. */
async function oneEach(url: string, answered: (body: string) => void): Promise<void> {
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const one = async () => {
    for (let count = 0; count < REQUESTS.new; count++) {
      const response = await fetch(url, { client, headers: { connection: "close" } });
      assertEquals(response.status, 200);
      answered(await response.text());
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, one));
}

for (
  const [app, engine] of [["plain", "Deno.serve"], ["plain", "node:http"], ["hono", "auto"], ["oak", "auto"]]
) {
  Deno.test(`under load two workers answer all requests: ${app} by ${engine}`, async () => {
    await using pool = new WorkerPool({
      script: new URL("../children/http_worker.ts", import.meta.url),
      args: [app!, engine!],
      // Oak's npm package looks into the environment and for files of its own while it loads.
      denoFlags: app === "oak" ? ["--allow-env", "--allow-read"] : [],
      size: WORKERS,
      strategy: "round-robin",
      outputPrefix: "",
    });
    await within(20_000, pool.ready);
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const url = `http://127.0.0.1:${listener.addr.port}/pid`;
    const refused: unknown[] = [];
    const dispatching = (async () => {
      for await (const socket of listener) {
        pool.dispatch(socket).catch((error) => {
          refused.push(error);
          socket.close();
        });
      }
    })();
    for (const load of [keepAlive, oneEach]) {
      const answers = new Map<string, number>();
      await within(120_000, load(url, (body) => answers.set(body, (answers.get(body) ?? 0) + 1)));
      assertEquals(refused, []);
      assertEquals(answers.size, WORKERS, `${load.name}: ${[...answers]}`);
      const counts = [...answers.values()];
      assert(Math.min(...counts) > CONNECTIONS, `${load.name}: ${counts}`);
      assert(Math.min(...counts) > Math.max(...counts) / 10, `${load.name}: ${counts}`);
    }
    listener.close();
    await dispatching;
    await until(() => pool.statistics.workers.every(({ held }) => held === 0), "no worker has a connection");
  });
}
