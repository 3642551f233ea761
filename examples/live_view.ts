/**
 * A web server of several processes, and a page that shows its workers.
 *
 *     deno run --no-prompt --allow-run --allow-env=WINSOCK_HANDOFF_PREDECESSOR --allow-ffi=… \
 *       examples/live_view.ts [PORT] [PAGE_PORT] [DISTRIBUTE]
 *
 * With `listener` for DISTRIBUTE the workers accept connections themselves, as those of `handoff serve` do. By default
 * this process hands each connection off.
 *
 * Open the second printed address, send requests to the first one, end a worker, and press "Upgrade". This file, as it
 * is on disk then, becomes the next version, and the page connects to it. SIGHUP also upgrades. Every user who can
 * connect to the page's port on this machine can press the button. Pages of other servers cannot.
 *
 * @module
 */
import { inherit, upgrade, WorkerPool } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";
import { liveView } from "./live_view/handler.ts";
import { Monitor } from "./live_view/monitor.ts";

const WORKERS = 4;
const DRAIN_MS = 10_000;

const [port = "8080", pagePort = "8081", distribute = "connections", number = "1"] = Deno.args;
const version = await inherit();
const listener = version.listen("http", { hostname: "127.0.0.1", port: Number(port) });
const pageListener = version.listen("page", { hostname: "127.0.0.1", port: Number(pagePort) });
const { addr } = listener;
const { addr: pageAddr } = pageListener;

const pool = new WorkerPool({ script: new URL("hono_worker.ts", import.meta.url), size: WORKERS });
const monitor = new Monitor(pool, {
  version: Number(number),
  predecessor: version.predecessor,
  url: `http://127.0.0.1:${addr.port}`,
});
const view = liveView(monitor, replace);
const pages = serveHttp(pageListener, view.handler, { keepAliveTimeout: 1_000, shutdownTimeout: 2 * DRAIN_MS });

await pool.ready;
await version.markReady();
monitor.become("serving");
console.log(
  `Process ${Deno.pid} serves http://127.0.0.1:${addr.port}, and shows it at http://127.0.0.1:${pageAddr.port}`,
);
if (Deno.build.os !== "windows") Deno.addSignalListener("SIGHUP", replace);

if (distribute === "listener") await monitor.share(listener);
else for await (const socket of listener) monitor.dispatch(socket);

async function replace(): Promise<void> {
  if (monitor.state !== "serving") return;
  monitor.become("upgrading");
  try {
    await upgrade(version, {
      script: import.meta.url,
      denoFlags: ["--allow-run", "--allow-env=WINSOCK_HANDOFF_PREDECESSOR"],
      args: [`${addr.port}`, `${pageAddr.port}`, distribute, `${Number(number) + 1}`],
      // The workers own the connections, and finish them below.
      drainTimeout: 0,
    });
  } catch (error) {
    monitor.note("bad", error instanceof Error ? error.message : String(error));
    return monitor.become("serving");
  }
  monitor.become("draining");
  await listener.drained();
  await pool.close({ drainTimeout: DRAIN_MS });
  monitor.become("ended");
  view.end();
  await pages.shutdown();
  Deno.exit();
}
