// A worker that says of each socket at once that it has closed it, and keeps it open: lying_worker.ts [MILLISECONDS]. After
// so many it does close what it has. It answers each with its process id.
import { receive } from "@winsock/handoff";
import { systemCalls } from "../../ffi/system.ts";
import { UNIX_STREAMS } from "../../ffi/unix/io.ts";
import { WINSOCK_STREAMS } from "../../ffi/windows/io.ts";

const [milliseconds] = Deno.args.map(Number);
const streams = Deno.build.os === "windows" ? WINSOCK_STREAMS : UNIX_STREAMS;
const kept: bigint[] = [];
if (milliseconds !== undefined) {
  setInterval(() => {
    for (const s of kept.splice(0)) systemCalls().close(s);
  }, milliseconds);
}
for await (const { socket } of receive()) {
  // To release it counts as closing it.
  const s = socket.detach();
  streams.send(s, new TextEncoder().encode(`${Deno.pid}\n`));
  kept.push(s);
}
