// One version of an HTTP server that can be replaced: VERSION MODE [next mode].
// A POST to /PID/MODE replaces it, and says how that went. It says whom it is for: fetch repeats a request when the
// server that had it is killed.
import {
  connect,
  inherit,
  listen,
  type Listener,
  type ServerVersion,
  type Socket,
  upgrade,
  UpgradeError,
} from "@winsock/handoff";
import http from "node:http";

const [number = "1", mode = "well", port = "0"] = Deno.args;
if (mode === "crash early") Deno.exit(3);
if (mode === "deaf") await new Promise((resolve) => setTimeout(resolve, 60_000));

const version = await inherit();
if (mode === "crash") Deno.exit(4);
if (mode === "be killed") Deno.kill(Deno.pid, "SIGKILL");
if (mode === "refuse") {
  await version.refuse("not in the mood");
  Deno.exit(0);
}
if (mode === "slow") console.log("initialising");
if (mode === "slow") await new Promise((resolve) => setTimeout(resolve, 1_000));
if (mode === "hang") await new Promise((resolve) => setTimeout(resolve, 60_000));

const listener = version.listen("http", { hostname: "127.0.0.1", port: Number(port) });
const server = http.createServer((request, response) => answer(request, response));
Object.defineProperty(server, "listening", { value: true });
let retired = false;
version.retired.then(drain);
for (const { socket, data } of version.takeConnections()) {
  const conn = socket.toConn();
  await conn.write(new TextEncoder().encode(`${data} ${Deno.pid}`));
  conn.close();
}
const accepting = serve(listener);
await version.markReady();
console.log(
  JSON.stringify({ version: number, pid: Deno.pid, port: listener.addr.port, predecessor: version.predecessor }),
);
if (mode === "crash after ready") setTimeout(() => Deno.exit(5), 100);
if (mode === "freeze after ready") {
  setTimeout(() => {
    for (;;);
  }, 100);
}
await accepting;

async function serve(listener: Listener): Promise<void> {
  for await (const socket of listener) server.emit("connection", socket.toNodeSocket());
}

function answer(request: http.IncomingMessage, response: http.ServerResponse): void {
  if (retired) response.setHeader("connection", "close");
  const [, pid, next] = /^\/(\d+)\/(.+)$/.exec(request.url ?? "") ?? [];
  if (next === undefined || Number(pid) !== Deno.pid) {
    return void response.end(`${number} ${Deno.pid} ${"x".repeat(2_000)}`);
  }
  replace(version, decodeURIComponent(next)).then((result) => response.end(JSON.stringify(result)));
}

async function replace(version: ServerVersion, next: string): Promise<unknown> {
  try {
    const pair = next === "take along" ? await connectedPair() : undefined;
    const { processId } = await upgrade(version, {
      script: import.meta.url,
      denoFlags: ["--no-check", "--cached-only", "--allow-env", "--allow-run", "--allow-read"],
      args: [String(Number(number) + 1), next, String(listener.addr.port)],
      // A version that is to become ready has longer than those that are not.
      timeout: ["hang", "deaf"].includes(next) ? 4_000 : 15_000,
      probation: 400,
      drainTimeout: 0,
      connections: pair === undefined ? [] : [{ socket: pair.server, data: "along" }],
    });
    if (pair === undefined) return { processId };
    return { processId, said: await new Response(pair.client.toConn().readable).text() };
  } catch (error) {
    if (error instanceof UpgradeError) return { outcome: error.outcome, reason: error.reason };
    return { outcome: String(error), reason: "" };
  }
}

async function connectedPair(): Promise<{ client: Socket; server: Socket }> {
  using other = listen({ hostname: "127.0.0.1", port: 0 });
  return { client: await connect({ port: other.addr.port }), server: await other.accept() };
}

/** Connections that are still open finish their requests; what is idle after a while is closed. */
async function drain(): Promise<void> {
  retired = true;
  await Promise.race([listener.drained(), new Promise((resolve) => setTimeout(resolve, 5_000))]);
  Deno.exit(0);
}
