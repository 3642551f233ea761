// A source whose hand-offs and pool are observed: some sockets are taken, and some come back. Prints how many.
import { connect, HandoffSource, listen, WorkerPool } from "@winsock/handoff";
import { observeHandoffs, observePool } from "@winsock/handoff/otel";

const [taken, rejected] = Deno.args.map(Number) as [number, number];
const denoFlags = ["--no-check", "--cached-only"];
using _handoffs = observeHandoffs();
await using pool = new WorkerPool({
  script: new URL("echo.ts", import.meta.url),
  size: 2,
  denoFlags,
  outputPrefix: () => "# ",
});
using _pool = observePool(pool, { name: "echo" });
await using rejecting = await HandoffSource.spawn(new URL("reject.ts", import.meta.url), { denoFlags });
using listener = listen({ hostname: "127.0.0.1", port: 0 });
const clients: Disposable[] = [];

async function accepted() {
  clients.push(await connect({ port: listener.addr.port }));
  return await listener.accept();
}

await pool.ready;
for (let count = 0; count < taken; count++) await pool.dispatch(await accepted());
for (let count = 0; count < rejected; count++) {
  using socket = await accepted();
  await rejecting.send(socket).catch(() => {});
}
// The pool is measured once more while its workers have these.
await new Promise((resolve) => setTimeout(resolve, 500));
console.log("observed", pool.statistics.taken);
for (const client of clients) client[Symbol.dispose]();
