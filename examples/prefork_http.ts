/**
 * One process accepts, and one worker for each processor answers. SIGHUP replaces the workers, which then run the files
 * that are on disk.
 *
 *     deno run --allow-run --allow-ffi=… examples/prefork_http.ts [PORT]
 *
 * @module
 */
import { listen, WorkerPool } from "@winsock/handoff";

const [port = "8080"] = Deno.args;
using listener = listen({ hostname: "127.0.0.1", port: Number(port) });
await using pool = new WorkerPool({
  script: new URL("http_worker.ts", import.meta.url),
  outputPrefix: ({ index }) => `worker ${index}: `,
});
pool.addEventListener("workerend", ({ worker, reason }) => {
  console.log(`worker ${worker.index}, process ${worker.processId}, ended: ${reason}`);
});
pool.addEventListener("poolfull", () => console.log("no worker has room: clients wait"));
pool.addEventListener("connectiondrop", ({ error }) => console.log(String(error)));
await pool.ready;
console.log(`Process ${Deno.pid} listens on http://127.0.0.1:${listener.addr.port}`);
if (Deno.build.os !== "windows") {
  Deno.addSignalListener("SIGHUP", () => void pool.restart().catch((error) => console.log(error.message)));
}

await pool.serve(listener);
