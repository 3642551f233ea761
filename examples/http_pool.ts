/**
 * A web server of several processes: this process accepts, and the workers answer with Hono.
 *
 *     deno run --no-prompt --allow-run --allow-ffi=… examples/http_pool.ts [PORT]
 *
 * The workers answer the requests of `curl http://127.0.0.1:PORT/` in turn. A worker that exits is replaced. Neither
 * this process nor the workers have net permission.
 *
 * @module
 */
import { listen, WorkerPool } from "@winsock/handoff";

const pool = new WorkerPool({
  script: new URL("hono_worker.ts", import.meta.url),
  size: 2,
  strategy: "round-robin",
});
await pool.ready;
using listener = listen({ hostname: "127.0.0.1", port: Number(Deno.args[0] ?? 0) });
console.log(`Process ${Deno.pid} listens on 127.0.0.1 port ${listener.addr.port}`);
Deno.addSignalListener("SIGINT", () => listener.close());
await pool.serve(listener);
await pool.close();
