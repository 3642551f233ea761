/** The steps of a hand-off between which a fault can come, one by one, and the faults. */
import type { FrameType, HandoffStep } from "./protocol.ts";

export type FrameName = keyof typeof FrameType;
export type Side = "source" | "target";

/**
 * What the two sides are made to do: the target accepts the socket, or rejects it; the source takes it back before the
 * target has answered; or the source is closed once the target has the socket.
 */
export type Course = "accept" | "reject" | "withdraw" | "end";

/** One step. A fault comes when it has just been taken, and before anything else happens. */
export interface Step {
  readonly name: string;
  /** What has just happened. */
  readonly what: string;
  readonly side: Side;
  readonly course: Course;
  /** How it is seen: a frame that leaves, or what the library says on its diagnostics channel. */
  readonly on: { readonly frame: FrameName } | { readonly trace: HandoffStep["step"] };
  /** The frame under way at this moment, or the next one to leave, if there is one. */
  readonly frame: FrameName | undefined;
}

const step = (name: string, side: Side, on: Step["on"], frame: Step["frame"], what: string, course: Course): Step => {
  return { name, side, on, frame, what, course };
};

export const STEPS: readonly Step[] = [
  step("hello-sent", "source", { frame: "HELLO" }, "HELLO", "HELLO has left", "accept"),
  step("hello-received", "target", { trace: "hello-received" }, "READY", "HELLO is read", "accept"),
  step("ready-sent", "target", { frame: "READY" }, "READY", "the control socket is open, READY has left", "accept"),
  step("ready-received", "source", { trace: "ready-received" }, "OFFER", "READY is read", "accept"),
  step("duplicated", "source", { trace: "duplicated" }, "OFFER", "the duplicate is made", "accept"),
  step("offered", "source", { frame: "OFFER" }, "OFFER", "OFFER has left", "accept"),
  step("offer-received", "target", { trace: "offer-received" }, "ACCEPT", "OFFER is read", "accept"),
  step("claimed", "target", { trace: "claimed" }, "ACCEPT", "the duplicate is open", "accept"),
  step("accepted", "target", { frame: "ACCEPT" }, "ACCEPT", "ACCEPT has left", "accept"),
  step("accept-received", "source", { trace: "accept-received" }, "COMMIT", "ACCEPT is read", "accept"),
  step("committed", "source", { frame: "COMMIT" }, "COMMIT", "COMMIT has left", "accept"),
  step("commit-received", "target", { trace: "commit-received" }, "DONE", "COMMIT is read", "accept"),
  step("done-sent", "target", { frame: "DONE" }, "DONE", "the socket is closed again, DONE has left", "accept"),
  step("done-received", "source", { trace: "done" }, "END", "DONE is read", "accept"),
  step("rejected", "target", { frame: "REJECT" }, "REJECT", "REJECT has left, instead of ACCEPT", "reject"),
  step("reject-received", "source", { trace: "reject-received" }, "END", "REJECT is read", "reject"),
  step("withdrawn", "source", { frame: "WITHDRAW" }, "WITHDRAW", "WITHDRAW has left: the caller's signal", "withdraw"),
  step("withdraw-received", "target", { trace: "withdrawn" }, "REJECT", "WITHDRAW is read", "withdraw"),
  step("end-sent", "source", { frame: "END" }, "END", "END has left: the source is closed", "end"),
  step("end-received", "target", { trace: "end-received" }, undefined, "END is read", "end"),
];

const WITH_PAYLOAD: readonly (FrameName | undefined)[] = ["HELLO", "READY", "OFFER", "REJECT"];

/** Whether a frame has one; a length in the head of any other makes no sense. */
export function hasPayload(frame: FrameName | undefined): boolean {
  return WITH_PAYLOAD.includes(frame);
}

export const FAULTS = [
  "kill target",
  "kill source",
  "freeze target",
  "truncate frame",
  "flip bytes",
  "duplicate frame",
  "close stdin",
  "close control socket",
] as const;

export type Fault = typeof FAULTS[number];

/** Which bytes of a frame are flipped. `head` is all in front of the sequence number. */
export type Region = "head" | "sequence" | "length" | "payload";

/** One fault at one step, as both processes are told of it. */
export interface FaultPlan {
  readonly step: string;
  readonly fault: Fault | "none";
  readonly region: Region;
  /** Chooses where a frame is cut, and what is flipped. */
  readonly seed: number;
  /** How long the source waits for the target, in milliseconds. */
  readonly timeout: number;
}

export function findStep(name: string): Step {
  const found = STEPS.find((step) => step.name === name);
  if (found === undefined) throw new Error(`There is no step ${name}`);
  return found;
}
