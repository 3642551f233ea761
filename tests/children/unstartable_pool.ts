// A pool whose program cannot start: says on standard error when a worker has ended, and why the pool is not ready.
import { WorkerPool } from "@winsock/handoff";

const pool = new WorkerPool({ script: new URL("not_today.ts", import.meta.url), size: 2, outputPrefix: "> " });
pool.addEventListener("workerend", ({ exitCode, reason }) => {
  // Not those that the pool ends.
  if (reason.startsWith("process ")) console.error("ended", exitCode);
});
await pool.ready.catch(({ message }) => console.error(message));
await pool.close();
