// Keeps a UDP socket and never receives on it. Each line of stdin has the next version serve.
import { inherited, upgrade } from "@winsock/handoff";
import { TextLines } from "../kit/text_lines.ts";

const generation = await inherited({ predecessor: 0 });
const socket = generation.listenDatagram("echo", { hostname: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ version: "0", pid: Deno.pid, port: socket.addr.port, names: [] }));
let version = 0;
for await (const _ of Deno.stdin.readable.pipeThrough(new TextLines())) {
  const { processId } = await upgrade(generation, {
    script: new URL("named_version.ts", import.meta.url),
    denoFlags: ["--no-check", "--cached-only", "--allow-env"],
    args: [String(++version)],
    trialTime: 200,
    keep: true,
  });
  console.log(JSON.stringify({ processId }));
}
