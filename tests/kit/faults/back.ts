/** The steps of handing a connection back, and the faults that can come there. The kit of the other direction does the rest. */
import type { HandoffStep } from "./protocol.ts";
import { type FRAME_FAULTS, type FrameName, isFrameFault, type PROCESS_FAULTS, type Side } from "./steps.ts";

export type BackFault = typeof PROCESS_FAULTS[number] | typeof FRAME_FAULTS[number] | "none";

/** One step of the way back. A fault comes when it has just been taken, and before anything else happens. */
export interface BackStep {
  readonly name: string;
  readonly side: Side;
  /** Whether the target withdraws, once the source has read the OFFER. Otherwise the source takes the connection. */
  readonly withdraws: boolean;
  /** How it is seen: what the library says on its diagnostics channel, or a frame on its way. */
  readonly on: { readonly trace: HandoffStep["step"] } | { readonly frame: FrameName };
}

const step = (name: string, side: Side, on: BackStep["on"], withdraws = false): BackStep => {
  return { name, side, on, withdraws };
};

export const BACK_STEPS: readonly BackStep[] = [
  step("offered", "target", { trace: "offered" }),
  step("offer-sent", "source", { frame: "OFFER" }),
  step("offer-received", "source", { trace: "offer-received" }),
  step("opened", "source", { trace: "opened" }),
  step("taken", "source", { trace: "taken" }),
  step("taken-sent", "source", { frame: "TAKEN" }),
  step("taken-received", "target", { trace: "taken-received" }),
  step("withdrawn", "target", { trace: "withdrawn" }, true),
  step("withdraw-sent", "source", { frame: "WITHDRAW" }, true),
  step("withdraw-received", "source", { trace: "withdrawn" }, true),
  step("reject-sent", "source", { frame: "REJECT" }, true),
  step("reject-received", "target", { trace: "reject-received" }, true),
];

const WITH_PAYLOAD: readonly FrameName[] = ["OFFER", "REJECT"];

/**
 * Whether there is such a cell. Both ways are the source's to close, which the target cannot wait for at its own steps. On
 * Windows the duplicate is in the source's process from the moment it is made: if the target ends before its OFFER has left,
 * nobody knows of the duplicate, and the connection stays open until the source ends.
 */
export function existsBack({ name, side, on }: BackStep, fault: BackFault): boolean {
  if (Deno.build.os === "windows" && name === "offered" && fault === "kill target") return false;
  if (fault.startsWith("close")) return side === "source";
  if (!isFrameFault(fault as "none")) return true;
  const ofPayload = fault === "flip payload" || fault === "raise length";
  return "frame" in on && (!ofPayload || WITH_PAYLOAD.includes(on.frame));
}

/** One fault at one step, as both processes are told of it. */
export interface BackPlan {
  readonly step: string;
  readonly fault: BackFault;
  readonly seed: number;
}

export function findBackStep(name: string): BackStep {
  return BACK_STEPS.find((step) => step.name === name)!;
}

/** Who has the connection after a step, if that is decided by then. */
export function decidedAt({ name, withdraws }: BackStep): Side | undefined {
  if (withdraws) return "target";
  return name.startsWith("taken") ? "source" : undefined;
}

/** What the target's caller may be told when the connection is the target's. */
export function reasonsOf({ step, fault }: BackPlan): readonly string[] {
  if (findBackStep(step).withdraws) return ["withdrawn"];
  if (fault.startsWith("freeze")) return ["timeout"];
  // A source that waits for the rest of a frame does not answer. What it cannot read ends the channel.
  return fault === "raise length" || fault === "flip length" ? ["timeout", "closed"] : ["closed"];
}

/** How many duplicates may stay in the source on Windows until it ends, because their OFFER did not arrive as it was. */
export function mostLeftInSource({ step, fault }: BackPlan): number {
  const lost = step === "offered" ||
    step === "offer-sent" && (isFrameFault(fault as "none") || fault === "close answers");
  return Deno.build.os === "windows" && lost ? 1 : 0;
}

/** The time that the target waits for the source, in milliseconds: short where that may be what ends the hand-off. */
export function backTimeout({ fault }: BackPlan): number {
  return fault.startsWith("freeze") || isFrameFault(fault as "none") ? 2_000 : 15_000;
}
