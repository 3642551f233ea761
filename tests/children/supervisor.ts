// Keeps a listener and never accepts on it. Each line of stdin is the mode of the next version that is to serve.
import { inherited, upgrade, UpgradeError } from "@winsock/handoff";
import { TextLines } from "../kit/text_lines.ts";

const generation = await inherited({ predecessor: 0 });
const listener = generation.listen("http", { hostname: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ pid: Deno.pid, port: listener.addr.port }));
let version = 0;
for await (const mode of Deno.stdin.readable.pipeThrough(new TextLines())) {
  try {
    const result = await upgrade(generation, {
      script: new URL("server_version.ts", import.meta.url),
      denoFlags: ["--no-check", "--cached-only", "--allow-env", "--allow-run", "--allow-read"],
      args: [String(++version), mode],
      timeout: 4_000,
      trialTime: 400,
      keep: true,
    });
    console.log(JSON.stringify({ upgrade: result }));
  } catch (error) {
    console.log(JSON.stringify({ upgrade: error instanceof UpgradeError ? error.outcome : String(error) }));
  }
}
