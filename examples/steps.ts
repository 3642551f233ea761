/**
 * Prints the ten steps of the documented hand-off scenario as they happen in this process.
 *
 * @module
 */
import { type HandoffStep, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";

const STEPS: Partial<Record<HandoffStep["step"], (peer: number) => [number: number, text: string]>> = {
  "hello-sent": (peer) => [2, `asks process ${peer} for its process id`],
  "hello-received": (peer) => [3, `is asked by process ${peer}, and answers`],
  "ready-received": (peer) => [4, `gets the answer: process ${peer}`],
  "duplicated": (peer) => [5, `calls duplicateSocket for process ${peer}: a WSAPROTOCOL_INFO of 628 bytes`],
  "offered": (peer) => [6, `sends it to process ${peer}, over its stdin`],
  "offer-received": (peer) => [7, `gets the WSAPROTOCOL_INFO of process ${peer}`],
  "claimed": () => [8, "calls openSocket: a descriptor of the same connection"],
  "committed": (peer) => [10, `closes its descriptor: process ${peer} owns the connection`],
};

/** Prints one step. */
export function printStep(role: "source" | "target", number: number, text: string): void {
  console.log(`${String(number).padStart(2)}. ${role} ${String(Deno.pid).padEnd(6)} ${text}`);
}

/** Prints the steps the library takes in this process. */
export function printSteps(role: "source" | "target"): void {
  diagnostics.subscribe(TRACE_CHANNEL, (message) => {
    const { step, peerProcessId } = message as HandoffStep;
    const line = STEPS[step]?.(peerProcessId);
    if (line !== undefined) printStep(role, ...line);
  });
}
