// Keeps a listener and never accepts on it. Each line of stdin is the mode of the next version that is to serve.
import { inherit, upgrade, UpgradeError } from "@winsock/handoff";
import { TextLines } from "../kit/text_lines.ts";

const version = await inherit({ predecessor: 0 });
const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ pid: Deno.pid, port: listener.addr.port }));
let number = 0;
for await (const mode of Deno.stdin.readable.pipeThrough(new TextLines())) {
  try {
    const result = await upgrade(version, {
      script: new URL("server_version.ts", import.meta.url),
      denoFlags: ["--no-check", "--cached-only", "--allow-env", "--allow-run", "--allow-read"],
      args: [String(++number), mode],
      // A version that is to become ready has longer than one that is not.
      timeout: mode === "hang" ? 4_000 : 15_000,
      probation: 400,
      supervise: true,
    });
    console.log(JSON.stringify({ upgrade: result }));
  } catch (error) {
    console.log(JSON.stringify({ upgrade: error instanceof UpgradeError ? error.outcome : String(error) }));
  }
}
