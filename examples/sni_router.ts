/**
 * Chooses the worker of a TLS connection by the server name in the handshake, without terminating TLS.
 *
 *     deno run --no-prompt --allow-run --allow-ffi=… examples/sni_router.ts [PORT]
 *
 * The router only peeks at the first bytes, the ClientHello, and hands the connection off unchanged. Only the workers
 * have keys. The router does not have a key, and cannot read the data of the connection.
 *
 * @module
 */
import { HandoffSource, LIBRARY_PATHS, listen, type Socket } from "@winsock/handoff";
import { findClientHello, MAX_BYTES, serverNameOf } from "./client_hello.ts";

const PATIENCE_MS = 5_000;

const workers = new Map(["one.test", "two.test"].map((name) => [name, startWorker(name)]));
using listener = listen({ hostname: "127.0.0.1", port: Number(Deno.args[0] ?? 0) });
console.log(`Process ${Deno.pid} listens on 127.0.0.1 port ${listener.addr.port}`);
for await (const socket of listener) route(socket);

async function route(socket: Socket): Promise<void> {
  try {
    const name = await serverName(socket);
    const worker = workers.get(name ?? "");
    if (worker === undefined) throw new Error(`no worker serves ${name ?? "a client that names no server"}`);
    await worker.send(socket);
    console.log(`${name} goes to process ${worker.processId}`);
  } catch (error) {
    socket.close();
    console.log(`refused: ${error instanceof Error ? error.message : error}`);
  }
}

/** Returns the server name, when the whole ClientHello has arrived. */
async function serverName(socket: Socket): Promise<string | undefined> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  for (let atLeast = 1;;) {
    const bytes = await socket.peek(MAX_BYTES, { atLeast, signal });
    if (bytes.byteLength < atLeast) throw new Error("the client has gone");
    const hello = findClientHello(bytes);
    if ("message" in hello) return serverNameOf(hello.message);
    atLeast = hello.atLeast;
  }
}

function startWorker(name: string): HandoffSource & { processId: number } {
  const script = new URL("sni_worker.ts", import.meta.url).href;
  const args = ["run", "--quiet", "--no-prompt", `--allow-ffi=${LIBRARY_PATHS.join(",")}`, script, name];
  const child = new Deno.Command(Deno.execPath(), { args, stdin: "piped" }).spawn();
  return Object.assign(new HandoffSource(child), { processId: child.pid });
}
