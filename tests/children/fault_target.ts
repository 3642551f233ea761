// Takes one socket and does with it what an owner does, with a fault at one step: PLAN GATE.
import { receive, type Received, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";
import { unixPoller } from "../../ffi/unix/poller.ts";
import { freeze, kill } from "../kit/faults/acts.ts";
import { report } from "../kit/faults/events.ts";
import { comesLate, FaultPoint } from "../kit/faults/fault_point.ts";
import { own } from "../kit/faults/owner.ts";
import type { HandoffStep } from "../kit/faults/protocol.ts";
import { isOfListener } from "../kit/faults/steps.ts";

const [plan, gate] = Deno.args as [string, string];
const point = new FaultPoint(JSON.parse(plan));
const { fault } = point.plan;
const { course } = point.step;
const leaving = new AbortController();

diagnostics.subscribe(TRACE_CHANNEL, (message) => {
  const { step } = message as HandoffStep;
  if (step === "taken") report({ event: "taken" });
  // The socket is open, and the program has not seen it.
  if (step === "opened" && course === "leave") leaving.abort();
});
point.watch("target", (source) => {
  if (fault === "kill source" || fault === "kill both") kill(source);
  if (fault === "kill target" || fault === "kill both") kill(Deno.pid);
  if (fault === "freeze source") freeze(source);
  if (fault === "freeze target") freeze(Deno.pid);
  if (fault.startsWith("close")) waitAtGate();
});

// It lives until it is ended, for its descriptors to be counted; two that Deno opens for signals half a second after its
// start are opened now, and so is what wakes a thread that waits for sockets.
setInterval(() => {}, 60_000);
Deno.addSignalListener("SIGINT", () => {});
if (Deno.build.os !== "windows") unixPoller().prepare();
report({ event: "started" });
const undecided: Received[] = [];
let taken = 0;
let failure: string | null = null;
try {
  const byHand = course === "reject" || course === "withdraw";
  const { signal } = leaving;
  for await (const received of receive({ autoAccept: !byHand, signal })) take(received);
} catch (error) {
  failure = String(error);
}
// What a program has seen and not decided on stays open; unless the channel is broken, and no decision can be made.
if (failure === null) { for (const received of undecided) received.reject("the loop is over"); }
report({ event: "loop", failure });

function take(received: Received): void {
  report({ event: "received" });
  if (course === "reject") received.reject("no");
  // One about to be killed does not begin to read: see the source.
  else if ((fault === "kill target" || fault === "kill both") && !comesLate(point.plan) && !isServedBefore()) return;
  else if (course === "withdraw") undecided.push(received);
  else own(received.socket.toConn(), "target");
}

/** Whether a connection is accepted before what the fault comes with. */
function isServedBefore(): boolean {
  return isOfListener(point.step) && course !== "share" && taken++ === 0;
}

/** Does nothing more until the source has removed the gate. */
function waitAtGate(): void {
  report({ event: "gate" });
  const cell = new Int32Array(new SharedArrayBuffer(4));
  while (isThere(gate)) Atomics.wait(cell, 0, 0, 1);
}

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
