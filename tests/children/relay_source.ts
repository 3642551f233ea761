// A source: accepts so many connections, and hands all to a target of its own: relay_source.ts COUNT SCRIPT ...ARGS. Prints
// its port, its target's process id, and what its target prints.
import { HandoffSource, listen } from "@winsock/handoff";
import { STYLE } from "../kit/process.ts";

const [count = "1", script = "", ...args] = Deno.args;
using listener = listen({ hostname: "127.0.0.1", port: 0 });
const source = await HandoffSource.spawn(new URL(script, import.meta.url), {
  denoFlags: ["--no-check", "--cached-only", ...STYLE],
  args,
  sendTimeout: 30_000,
});
console.log(`port ${listener.addr.port} target ${source.child.pid}`);
for (let data = 0; data < Number(count); data++) {
  source.send(await listener.accept(), { data }).then(() => console.log(`sent ${data}`), () => {});
}
await new Promise((resolve) => setTimeout(resolve, 60_000));
