/** The steps of a hand-off between which a fault can come, one by one, and the faults. */
import type { FrameType, HandoffStep } from "./protocol.ts";

export type FrameName = keyof typeof FrameType;
export type Side = "source" | "target";

/**
 * What the two sides are made to do: the target takes the socket, or rejects it; the source withdraws it before the target
 * has decided; the target's program leaves before it has seen the socket; or the source is closed once the target has it.
 */
export type Course = "take" | "reject" | "withdraw" | "leave" | "end" | ListenerCourse;

/**
 * What the source is made to do with a listener that it shares: share it; look on while the target accepts a connection;
 * have the target stop accepting for now, or accept again, or stop for good.
 */
export type ListenerCourse = "share" | "serve" | "pause" | "resume" | "stop";

/** One step. A fault comes when it has just been taken, and before anything else happens. */
export interface Step {
  readonly name: string;
  /** What has just happened. */
  readonly what: string;
  readonly side: Side;
  readonly course: Course;
  /** How it is seen: a frame that leaves, or what the library says on its diagnostics channel. */
  readonly on: { readonly frame: FrameName } | { readonly trace: HandoffStep["step"] };
}

const step = (name: string, side: Side, on: Step["on"], what: string, course: Course): Step => {
  return { name, side, on, what, course };
};

export const STEPS: readonly Step[] = [
  step("hello-sent", "source", { frame: "HELLO" }, "HELLO has left", "take"),
  step("hello-received", "target", { trace: "hello-received" }, "HELLO is read", "take"),
  step("ready-sent", "target", { frame: "READY" }, "the channel is open, READY has left", "take"),
  step("ready-received", "source", { trace: "ready-received" }, "READY is read", "take"),
  step("offered", "source", { frame: "OFFER" }, "OFFER has left", "take"),
  step("offer-received", "target", { trace: "offer-received" }, "OFFER is read", "take"),
  step("opened", "target", { trace: "opened" }, "the duplicate is open", "take"),
  step("taken", "target", { trace: "taken" }, "the target has decided", "take"),
  step("taken-sent", "target", { frame: "TAKEN" }, "TAKEN has left", "take"),
  step("taken-received", "source", { trace: "taken-received" }, "TAKEN is read", "take"),
  step("done-sent", "target", { frame: "DONE" }, "the socket is closed again, DONE has left", "take"),
  step("done-received", "source", { trace: "done" }, "DONE is read", "take"),
  step("rejected", "target", { frame: "REJECT" }, "REJECT has left, instead of TAKEN", "reject"),
  step("reject-received", "source", { trace: "reject-received" }, "REJECT is read", "reject"),
  step("withdrawn", "source", { frame: "WITHDRAW" }, "the source has decided, WITHDRAW has left", "withdraw"),
  step("withdraw-received", "target", { trace: "withdrawn" }, "WITHDRAW is read", "withdraw"),
  step("left", "target", { frame: "LEAVE" }, "LEAVE has left, REJECT is behind it", "leave"),
  step("leave-received", "source", { trace: "left" }, "LEAVE is read", "leave"),
  step("end-sent", "source", { frame: "END" }, "END has left", "end"),
  step("end-received", "target", { trace: "end-received" }, "END is read", "end"),
];

/** The steps of a listener that is shared, whose first ones are those of a socket that is handed off. */
export const LISTENER_STEPS: readonly Step[] = [
  step("listener-offered", "source", { frame: "OFFER" }, "OFFER has left", "share"),
  step("listener-offer-received", "target", { trace: "offer-received" }, "OFFER is read", "share"),
  step("listener-opened", "target", { trace: "opened" }, "the duplicate is open", "share"),
  step("listener-taken", "target", { trace: "taken" }, "the target has decided", "share"),
  step("listener-taken-sent", "target", { frame: "TAKEN" }, "TAKEN has left", "share"),
  step("listener-taken-received", "source", { trace: "taken-received" }, "TAKEN is read", "share"),
  step("accept-sent", "source", { frame: "ACCEPT" }, "ACCEPT has left", "share"),
  step("accepting", "target", { trace: "accepting" }, "the target accepts", "share"),
  step("accepting-sent", "target", { frame: "ACCEPTING" }, "ACCEPTING has left", "share"),
  step("accepting-received", "source", { trace: "accepting-received" }, "ACCEPTING is read", "share"),
  step("counts-sent", "target", { frame: "COUNTS" }, "a connection is accepted, COUNTS has left", "serve"),
  step("pause-sent", "source", { frame: "PAUSE" }, "PAUSE has left", "pause"),
  step("paused", "target", { trace: "paused" }, "the target accepts no more", "pause"),
  step("paused-sent", "target", { frame: "PAUSED" }, "PAUSED has left", "pause"),
  step("paused-received", "source", { trace: "paused-received" }, "PAUSED is read", "pause"),
  step("resume-sent", "source", { frame: "ACCEPT" }, "ACCEPT has left, after PAUSED", "resume"),
  step("resumed-sent", "target", { frame: "ACCEPTING" }, "ACCEPTING has left again", "resume"),
  step("resumed-received", "source", { trace: "accepting-received" }, "ACCEPTING is read again", "resume"),
  step("stop-sent", "source", { frame: "STOP" }, "STOP has left", "stop"),
  step("stopped", "target", { trace: "stopped" }, "the duplicate is closed", "stop"),
  step("stopped-sent", "target", { frame: "STOPPED" }, "STOPPED has left", "stop"),
  step("stopped-received", "source", { trace: "stopped-received" }, "STOPPED is read", "stop"),
];

/** Whether a step is one of a shared listener. */
export function isOfListener(step: Step): boolean {
  return LISTENER_STEPS.includes(step);
}

/** Faults of processes and ways, which can come at every step. */
export const PROCESS_FAULTS = [
  "kill target",
  "kill source",
  "kill both",
  "freeze target",
  "freeze source",
  "close frames",
  "close answers",
] as const;

/** Faults of a frame on its way. `flip head` is about all that is in front of the sequence number. */
export const FRAME_FAULTS = [
  "truncate frame",
  "duplicate frame",
  "flip head",
  "flip sequence",
  "flip length",
  "raise length",
  "flip payload",
] as const;

export type FrameFault = typeof FRAME_FAULTS[number];
export type Fault = typeof PROCESS_FAULTS[number] | FrameFault;

/** Whether a fault is about a frame, and not about a process or a way. */
export function isFrameFault(fault: Fault | "none"): fault is FrameFault {
  return (FRAME_FAULTS as readonly string[]).includes(fault);
}

const WITH_PAYLOAD: readonly FrameName[] = ["HELLO", "READY", "OFFER", "REJECT", "ACCEPT", "COUNTS"];
/** What is flipped in a number is another number. */
const OF_NUMBERS: readonly FrameName[] = ["ACCEPT", "COUNTS"];

/** Whether there is such a cell: there is a frame to garble, and the frame has what is flipped. */
export function exists({ on }: Step, fault: Fault): boolean {
  if (!isFrameFault(fault)) return true;
  const ofPayload = fault === "flip payload" || fault === "raise length";
  if (!("frame" in on) || fault === "flip payload" && OF_NUMBERS.includes(on.frame)) return false;
  return !ofPayload || WITH_PAYLOAD.includes(on.frame);
}

/** One fault at one step, as both processes are told of it. */
export interface FaultPlan {
  readonly step: string;
  readonly fault: Fault | "none";
  /** Chooses where a frame is cut, what is flipped, and how the target gets its channel. */
  readonly seed: number;
  /** How long the source waits for the target, in milliseconds. */
  readonly timeout: number;
}

/** Which cell of the tables a plan is. */
export function cellName({ step, fault }: Pick<FaultPlan, "step" | "fault">): string {
  return `${step} × ${fault}`;
}

export function findStep(name: string): Step {
  const found = [...STEPS, ...LISTENER_STEPS].find((step) => step.name === name);
  if (found === undefined) throw new Error(`There is no step ${name}`);
  return found;
}
