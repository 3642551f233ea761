// Keeps a UDP socket and never receives on it. Each line of stdin has the next version serve.
import { inherit, upgrade } from "@winsock/handoff";
import { TextLines } from "../kit/text_lines.ts";

const version = await inherit({ predecessor: 0 });
const socket = version.listenDatagram("echo", { hostname: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ version: "0", pid: Deno.pid, port: socket.addr.port, names: [] }));
let number = 0;
for await (const _ of Deno.stdin.readable.pipeThrough(new TextLines())) {
  const { processId } = await upgrade(version, {
    script: new URL("named_version.ts", import.meta.url),
    denoFlags: ["--no-check", "--cached-only", "--allow-env"],
    args: [String(++number)],
    probation: 200,
    supervise: true,
  });
  console.log(JSON.stringify({ processId }));
}
