// One version of a server with a UDP socket, and on Linux a local one, that can be replaced: VERSION PORT PATH.
// An abstract name is written with an @, since no argument can hold its NUL.
// "upgrade" over UDP replaces it and says how that went, "end" ends it; everything else is answered after a moment.
import { inherit, type Listener, type SocketAddr, upgrade, UpgradeError } from "@winsock/handoff";

const [number = "1", port = "0", path = ""] = Deno.args;
const version = await inherit();
const names = [...version.listenerNames, ...version.datagramNames];
const socket = version.listenDatagram("echo", { hostname: "127.0.0.1", port: Number(port) });
if (path !== "") greet(version.listen("local", { path: path.replace(/^@/, "\0") }));
let unanswered = 0;
const receiving = serve();
await version.markReady();
console.log(JSON.stringify({ version: number, pid: Deno.pid, port: socket.addr.port, names }));
await receiving;
await version.retired;
while (unanswered > 0) await new Promise((resolve) => setTimeout(resolve, 5));
Deno.exit();

async function serve(): Promise<void> {
  for await (const [bytes, sender] of socket) {
    const text = new TextDecoder().decode(bytes);
    if (text === "end") Deno.exit();
    unanswered++;
    (text.startsWith("upgrade") ? replace(text.slice(8)) : slowly(text)).then(async (answer) => {
      await socket.send(new TextEncoder().encode(answer), sender);
      unanswered--;
    });
  }
}

async function slowly(text: string): Promise<string> {
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
  return `${number} ${Deno.pid} ${text}`;
}

async function replace(args: string): Promise<string> {
  try {
    const { processId } = await upgrade(version, {
      script: args === "crash" ? "data:text/javascript,Deno.exit(3)" : import.meta.url,
      denoFlags: ["--no-check", "--cached-only", "--allow-env", "--allow-run", "--allow-read"],
      args: [String(Number(number) + 1), String(socket.addr.port), path],
      timeout: 10_000,
      probation: 200,
      drainTimeout: 0,
    });
    return JSON.stringify({ processId });
  } catch (error) {
    return JSON.stringify({ outcome: error instanceof UpgradeError ? error.outcome : String(error) });
  }
}

async function greet(listener: Listener<SocketAddr>): Promise<void> {
  for await (const connection of listener) {
    using conn = connection.toConn();
    await conn.write(new TextEncoder().encode(`${number} ${Deno.pid}`));
  }
}
