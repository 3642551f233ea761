// A version of a server that gets a connection along and answers a line on it: MODE. In every mode but "ignore" it waits
// until the connection is its own alone; in the mode "crash" it ends before.
import { inherit } from "@winsock/handoff";

const [mode] = Deno.args;
const version = await inherit();
const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
await version.markReady();
if (mode === "crash") setTimeout(() => Deno.exit(6), 100);
if (mode !== "ignore") version.confirmed.then(answerAll);
for await (const socket of listener) socket.close();

async function answerAll(): Promise<void> {
  for (const { socket } of version.takeConnections()) {
    using conn = socket.toConn();
    const buffer = new Uint8Array(100);
    const length = await conn.read(buffer);
    const request = new TextDecoder().decode(buffer.subarray(0, length ?? 0));
    await conn.write(new TextEncoder().encode(`${Deno.pid} did ${request}`));
  }
}
