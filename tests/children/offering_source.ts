// Offers each connection that arrives to a target that outlives it, and tells when so many OFFERs have left: COUNT.
import { HandoffSource, listen, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";
import { spawnWorkerCommand } from "../../handoff/spawn.ts";
import { FFI_GRANT, RUN } from "../kit/process.ts";

const [count] = Deno.args.map(Number);
let offered = 0;
diagnostics.subscribe(TRACE_CHANNEL, (message) => {
  const { step } = message as { step: string };
  // It leaves in this turn of the event loop.
  if (step === "offered" && ++offered === count) setTimeout(() => console.log("offered"), 0);
});
const args = [...RUN, FFI_GRANT, new URL("echo.ts", import.meta.url).href];
const child = await spawnWorkerCommand({ command: Deno.execPath(), args }, { output: "inherit", detached: true });
const source = new HandoffSource(child);
await source.ready;
using listener = listen({ hostname: "127.0.0.1", port: 0 });
console.log(`${child.pid} ${listener.addr.port}`);
for await (const socket of listener) source.send(socket).catch(() => {});
