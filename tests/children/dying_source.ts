// Tells a target that it has sockets, and dies before that listens.
import { HandoffSource, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";
import { FFI_GRANT, RUN } from "../kit/process.ts";

const child = new Deno.Command(Deno.execPath(), {
  args: [...RUN, FFI_GRANT, new URL("late_target.ts", import.meta.url).href],
  stdin: "piped",
  // On Windows a child ends with its parent otherwise.
  detached: true,
}).spawn();
diagnostics.subscribe(TRACE_CHANNEL, () => {
  // HELLO is in the pipe by then.
  setTimeout(() => Deno.kill(Deno.pid, "SIGKILL"), 200);
});
new HandoffSource(child);
await new Promise((resolve) => setTimeout(resolve, 60_000));
