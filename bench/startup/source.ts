// A source that listens, and has one worker, which waits.
import { listen, WorkerPool } from "@winsock/handoff";

const pool = new WorkerPool({ script: new URL("worker.ts", import.meta.url), size: 1 });
await pool.ready;
using listener = listen({ hostname: "127.0.0.1", port: 0 });
console.log("ready");
for await (const socket of listener) await pool.dispatch(socket);
