/** A fault and the one moment it comes at, as each of the two processes watches for it. */
import diagnostics from "node:diagnostics_channel";
import { report } from "./events.ts";
import { TRACE_CHANNEL } from "./protocol.ts";
import type { HandoffStep } from "./protocol.ts";
import { type FaultPlan, findStep, isFrameFault, type Side, type Step } from "./steps.ts";

/** Whether the fault comes only when the target has closed the socket, or with the end of the channel. */
export function comesLate({ step }: FaultPlan): boolean {
  return step === "done-sent" || step === "done-received";
}

/** Whether the fault comes with the end of the channel. */
export function comesWithEnd({ step }: FaultPlan): boolean {
  return findStep(step).course === "end";
}

export class FaultPoint {
  readonly plan: FaultPlan;
  readonly step: Step;
  #come = false;
  #armed: boolean;

  constructor(plan: FaultPlan) {
    this.plan = plan;
    this.step = findStep(plan.step);
    this.#armed = this.step.course !== "resume";
  }

  /** Lets the fault come from now on. What leads to its step has been the same step before. */
  arm(): void {
    this.#armed = true;
  }

  /** Whether this frame is to be garbled; once. */
  garblesNow(frame: string): boolean {
    return isFrameFault(this.plan.fault) && this.#isOn(frame) && this.#comes();
  }

  /** Whether the fault comes now that this frame leaves; once. */
  comesWith(frame: string): boolean {
    return this.#acts && this.#isOn(frame) && this.#comes();
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
    return this.plan.fault !== "none" && !isFrameFault(this.plan.fault);
  }

  #isOn(frame: string): boolean {
    const { on } = this.step;
    return "frame" in on && on.frame === frame;
  }

  #comes(): boolean {
    if (this.#come || !this.#armed) return false;
    this.#come = true;
    report({ event: "fault" });
    return true;
  }
}
