/** A fault and the one moment it comes at, as each of the two processes watches for it. */
import diagnostics from "node:diagnostics_channel";
import { report } from "./events.ts";
import { TRACE_CHANNEL } from "./protocol.ts";
import type { HandoffStep } from "./protocol.ts";
import { type FaultPlan, findStep, type Side, type Step } from "./steps.ts";

const GARBLING = ["truncate frame", "flip bytes", "duplicate frame"];

/** Whether the fault is about a frame, and not about a process or a pipe. */
export function garbles({ fault }: FaultPlan): boolean {
  return GARBLING.includes(fault);
}

/** Whether the fault comes only when the target has closed the socket, or with the end of the channel. */
export function comesLate(plan: FaultPlan): boolean {
  const { course, frame, name } = findStep(plan.step);
  if (garbles(plan)) return frame === "DONE" || frame === "END" && course !== "end";
  return name === "done-sent" || name === "done-received";
}

export class FaultPoint {
  readonly plan: FaultPlan;
  readonly step: Step;
  #come = false;

  constructor(plan: FaultPlan) {
    this.plan = plan;
    this.step = findStep(plan.step);
  }

  /** Whether this frame is to be garbled; once. */
  garblesNow(frame: string): boolean {
    return garbles(this.plan) && frame === this.step.frame && this.#comes();
  }

  /** Whether the fault comes now that this frame leaves; once. */
  comesWith(frame: string): boolean {
    const { on } = this.step;
    return this.#acts && "frame" in on && on.frame === frame && this.#comes();
  }

  /** Calls back when the fault comes at a step that the library tells of on its channel in this process. */
  watch(side: Side, act: (peerProcessId: number) => void): void {
    const { on } = this.step;
    if (!this.#acts || this.step.side !== side || !("trace" in on)) return;
    diagnostics.subscribe(TRACE_CHANNEL, (message) => {
      const { step, peerProcessId } = message as HandoffStep;
      if (step === on.trace && this.#comes()) act(peerProcessId);
    });
  }

  get #acts(): boolean {
    return this.plan.fault !== "none" && !garbles(this.plan);
  }

  #comes(): boolean {
    if (this.#come) return false;
    this.#come = true;
    report({ event: "fault" });
    return true;
  }
}
