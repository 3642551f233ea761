// Answers each connection with one line: who it is and what it was told. Does what the line it reads first asks for.
import { receive } from "@winsock/handoff";

const [mode = "answer"] = Deno.args;
if (mode === "crash") Deno.exit(3);
console.log(`worker ${Deno.pid} started`);
console.error("to stderr");
if (mode === "never ready") await new Promise((resolve) => setTimeout(resolve, 60_000));

for await (const received of receive({ autoAccept: mode !== "reject" })) {
  if (mode === "reject") received.reject("not here");
  else answer(received.socket.toConn(), received.data);
}
console.log(`worker ${Deno.pid} leaves`);

async function answer(conn: Deno.Conn, data: unknown): Promise<void> {
  try {
    const buffer = new Uint8Array(100);
    for (let length = await conn.read(buffer); length !== null; length = await conn.read(buffer)) {
      const request = new TextDecoder().decode(buffer.subarray(0, length));
      if (request === "die") Deno.exit(1);
      if (request === "hang") { for (;;); }
      await conn.write(new TextEncoder().encode(`${Deno.pid} ${JSON.stringify(data ?? null)}`));
    }
  } catch {
    // the peer has gone
  } finally {
    conn.close();
  }
}
