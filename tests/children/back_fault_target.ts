// Hands its connection back, with a fault at one step: PLAN. Whoever has it then answers on it.
import { HandoffError, receive, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";
import { unixPoller } from "../../ffi/unix/poller.ts";
import { freeze, kill } from "../kit/faults/acts.ts";
import { type BackPlan, backTimeout, findBackStep } from "../kit/faults/back.ts";
import { report } from "../kit/faults/events.ts";
import { own } from "../kit/faults/owner.ts";
import type { HandoffStep } from "../kit/faults/protocol.ts";

const plan: BackPlan = JSON.parse(Deno.args[0]!);
const { side, on, withdraws } = findBackStep(plan.step);
const { fault } = plan;
let come = false;
if (side === "target" && "trace" in on) {
  diagnostics.subscribe(TRACE_CHANNEL, (message) => {
    const { step, peerProcessId } = message as HandoffStep;
    if (step !== on.trace || come || fault === "none") return;
    come = true;
    report({ event: "fault" });
    if (fault === "kill source" || fault === "kill both") kill(peerProcessId);
    if (fault === "kill target" || fault === "kill both") kill(Deno.pid);
    if (fault === "freeze source") freeze(peerProcessId);
    if (fault === "freeze target") freeze(Deno.pid);
  });
}
// It lives until it is ended, for its descriptors to be counted.
setInterval(() => {}, 60_000);
Deno.addSignalListener("SIGINT", () => {});
if (Deno.build.os !== "windows") unixPoller().prepare();
report({ event: "started" });

const target = receive({ sendTimeout: backTimeout(plan) });
const abort = new AbortController();
(async () => {
  for await (const _ of target.messages) abort.abort();
})().catch(() => {});
let failure: string | null = null;
try {
  for await (const { socket } of target) {
    report({ event: "received" });
    target.send(socket, { data: "back", ...withdraws ? { signal: abort.signal } : {} }).then(
      () => report({ event: "outcome", outcome: "handed back" }),
      (error) => {
        const outcome = error === abort.signal.reason
          ? "withdrawn"
          : `${error instanceof HandoffError ? error.outcome : error}`;
        report({ event: "outcome", outcome });
        // One about to be killed does not begin to read: killed in that moment, Wine keeps the connection open.
        if (fault !== "kill target" && fault !== "kill both") own(socket.toConn(), "target");
      },
    );
  }
} catch (error) {
  failure = String(error);
}
report({ event: "loop", failure });
