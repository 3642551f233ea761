/**
 * Accepts HTTP connections, and hands them off to another process that answers them.
 *
 *     deno run --no-prompt --allow-run --allow-ffi=… examples/handoff_http.ts
 *
 * There are three processes. This one listens and accepts. A worker without net permission answers requests on the
 * connections that it receives. A client makes requests with `fetch`.
 *
 * @module
 */
import { HandoffSource, LIBRARY_PATHS, listen } from "@winsock/handoff";
import { printStep, printSteps } from "./steps.ts";

const REQUESTS = 3;

printSteps("source");

using listener = listen({ hostname: "127.0.0.1", port: 0 });
const { port } = listener.addr;
console.log(`Process ${Deno.pid} listens on 127.0.0.1 port ${port}\n`);

const client = run("http_client.ts", [`--allow-net=127.0.0.1:${port}`], [`http://127.0.0.1:${port}`, String(REQUESTS)]);
let worker: Deno.ChildProcess | undefined;
let source: HandoffSource | undefined;

for (let request = 1; request <= REQUESTS; request++) {
  const socket = await listener.accept();
  printStep("source", 1, `accepts a connection from port ${socket.remoteAddr.port}`);
  if (source === undefined) {
    worker = run("http_worker.ts", [`--allow-ffi=${LIBRARY_PATHS.join(",")}`], [], "piped");
    source = new HandoffSource(worker);
  }
  await source.send(socket);
}

await source?.close();
const [served, asked] = await Promise.all([worker?.status, client.status]);
console.log(`\nThe worker exited with ${served?.code}, the client with ${asked.code}`);
if (served?.code !== 0 || asked.code !== 0) Deno.exit(1);

/** Runs another example in its own process, with only the given permissions. */
function run(script: string, grants: string[], args: string[], stdin: "piped" | "null" = "null"): Deno.ChildProcess {
  const url = new URL(script, import.meta.url).href;
  return new Deno.Command(Deno.execPath(), { args: ["run", "--quiet", "--no-prompt", ...grants, url, ...args], stdin })
    .spawn();
}
