/**
 * A web server of several processes: this process accepts, and the workers answer with Hono, Express or Fastify.
 *
 *     deno run --no-prompt --allow-run --allow-ffi=… examples/http_pool.ts [PORT] [WORKER] [FLAGS…]
 *
 * WORKER is `hono_worker.ts`, `express_worker.ts` or `fastify_worker.ts`, and FLAGS are further flags for its processes:
 * Express and Fastify read the environment and files while they load, and need `--allow-env --allow-read`.
 * The workers answer the requests of `curl http://127.0.0.1:PORT/` in turn. A worker that exits is replaced. Neither
 * this process nor the workers have net permission.
 *
 * @module
 */
import { listen, WorkerPool } from "@winsock/handoff";

const [port = "0", worker = "hono_worker.ts", ...flags] = Deno.args;
const pool = new WorkerPool({
  script: new URL(worker, import.meta.url),
  size: 2,
  strategy: "round-robin",
  denoFlags: flags,
});
await pool.ready;
using listener = listen({ hostname: "127.0.0.1", port: Number(port) });
console.log(`Process ${Deno.pid} listens on 127.0.0.1 port ${listener.addr.port}`);
Deno.addSignalListener("SIGINT", () => listener.close());
await pool.serve(listener);
await pool.close();
