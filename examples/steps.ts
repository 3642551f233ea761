/**
 * Prints the ten steps of the documented hand-off scenario as they happen in this process.
 *
 * @module
 */
import { type HandoffStep, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";

type Line = [number: number, text: string];

/** How the socket gets to the target: on Windows as a structure, on other systems as a descriptor in a message. */
const WAY = Deno.build.os === "windows"
  ? {
    share: (peer: number) => `calls WSADuplicateSocketW for process ${peer}: a WSAPROTOCOL_INFO of 628 bytes`,
    send: (peer: number) => `sends it to process ${peer}, over its stdin`,
    receive: (peer: number) => `gets the WSAPROTOCOL_INFO of process ${peer}`,
    open: "calls WSASocketW: a descriptor of the same connection",
  }
  : {
    share: (peer: number) => `puts its descriptor into a message for process ${peer} (SCM_RIGHTS)`,
    send: (peer: number) => `sends it to process ${peer}, over a local socket`,
    receive: (peer: number) => `gets the offer of process ${peer}`,
    open: "calls recvmsg: a descriptor of the same connection",
  };

const STEPS: Partial<Record<HandoffStep["step"], (peer: number) => Line[]>> = {
  "hello-sent": (peer) => [[2, `asks process ${peer} for its process id`]],
  "hello-received": (peer) => [[3, `is asked by process ${peer}, and answers`]],
  "ready-received": (peer) => [[4, `gets the answer: process ${peer}`]],
  "offered": (peer) => [[5, WAY.share(peer)], [6, WAY.send(peer)]],
  "offer-received": (peer) => [[7, WAY.receive(peer)]],
  "opened": () => [[8, WAY.open]],
  "taken-received": (peer) => [[10, `closes its descriptor: process ${peer} owns the connection`]],
};

/** Prints one step of the scenario. */
export function printStep(role: "source" | "target", number: number, text: string): void {
  console.log(`${String(number).padStart(2)}. ${role} ${String(Deno.pid).padEnd(6)} ${text}`);
}

/** Prints the steps that the library takes in this process. */
export function printSteps(role: "source" | "target"): void {
  diagnostics.subscribe(TRACE_CHANNEL, (message) => {
    const { step, peerProcessId } = message as HandoffStep;
    for (const line of STEPS[step]?.(peerProcessId) ?? []) printStep(role, ...line);
  });
}
