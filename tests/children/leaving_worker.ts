// A worker that takes so many sockets, leaves its loop by its signal and ends: leaving_worker.ts COUNT [manual]. It answers
// each with its process id; those it accepts by hand when the loop was left.
import { receive, type Received } from "@winsock/handoff";

const [count = "20", accept = "automatic"] = Deno.args;
const abort = new AbortController();
const seen: Received[] = [];
for await (const received of receive({ autoAccept: accept === "automatic", signal: abort.signal })) {
  if (accept === "automatic") answer(received);
  if (seen.push(received) === Number(count)) abort.abort();
}
if (accept === "manual") { for (const received of seen) received.accept().then(() => answer(received)); }

async function answer({ socket }: Received): Promise<void> {
  const conn = socket.toConn();
  await conn.write(new TextEncoder().encode(String(Deno.pid)));
  conn.close();
}
