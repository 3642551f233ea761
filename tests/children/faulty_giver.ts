// A target that hands each connection back, and does something to itself at a step of that: STEP kill|freeze.
import { type HandoffStep, receive, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";

const [step, act] = Deno.args;
/** Whether a connection is on its way back: the same steps are those of the way here. */
let giving = false;
diagnostics.subscribe(TRACE_CHANNEL, (message) => {
  if (!giving || (message as HandoffStep).step !== step) return;
  Deno.kill(Deno.pid, act === "kill" ? "SIGKILL" : "SIGSTOP");
});

const target = receive();
for await (const { socket } of target) {
  giving = true;
  await target.send(socket, { data: "back" }).catch(() => socket.close());
}
