// Answers each connection with one line: its process and what it was told. Does what the line it reads first asks for.
import { receive } from "@winsock/handoff";

const [mode = "serve"] = Deno.args;
const abort = new AbortController();
let open = 0;
let turn = 0;

console.log(`${Deno.pid} started`);
const loop = receive({ signal: abort.signal, autoAccept: mode !== "manual" });
for await (const { socket, data, initialBytes } of loop) {
  open++;
  const address = socket.remoteAddr.hostname;
  serve(socket.toConn(), JSON.stringify({ pid: Deno.pid, data: data ?? null, address, bytes: initialBytes.length }));
  if (mode === "once") break;
  if (mode === "slow" && turn++ === 0) await new Promise((resolve) => setTimeout(resolve, 1_000));
}
console.log(`left with ${open} open`);

async function serve(conn: Deno.Conn, answer: string): Promise<void> {
  try {
    const buffer = new Uint8Array(100);
    for (let length = await conn.read(buffer); length !== null; length = await conn.read(buffer)) {
      const request = new TextDecoder().decode(buffer.subarray(0, length));
      if (request === "abort") abort.abort();
      await conn.write(new TextEncoder().encode(`${answer}\n`));
    }
  } catch {
    // the peer has gone
  } finally {
    open--;
    conn.close();
  }
}
