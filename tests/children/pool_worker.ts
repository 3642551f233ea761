// Answers each connection with one line: who it is and what it was told. Does what the line it reads first asks for.
import { type HandoffStep, receive, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";

const [mode = "answer"] = Deno.args;
/** How long a busy worker does nothing else when it gets its first offer, in milliseconds. */
const BUSY_MS = 3_000;
if (mode === "crash") Deno.exit(3);
console.log(`worker ${Deno.pid} started`);
console.error("to stderr");
if (mode === "never ready") await new Promise((resolve) => setTimeout(resolve, 60_000));
if (mode === "busy") {
  let offers = 0;
  diagnostics.subscribe(TRACE_CHANNEL, (message) => {
    if ((message as HandoffStep).step !== "offer-received" || offers++ > 0) return;
    for (const began = performance.now(); performance.now() - began < BUSY_MS;);
  });
}

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
