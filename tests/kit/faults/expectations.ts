/** Where a system, or where bytes are cut, decides how a cell ends; and how long a source waits in it. */
import { type FaultPlan, findStep, hasPayload, STEPS } from "./steps.ts";

/** Which cell of the tables a plan is. */
export function cellName({ step, fault, region }: Pick<FaultPlan, "step" | "fault" | "region">): string {
  return `${step} × ${fault}${region === "head" ? "" : ` (${region})`}`;
}

/**
 * Cells with more than one right end. A process that was killed keeps its end of a pipe until the system has cleared it
 * away: what was written to it just then may have arrived or not. A commit that has not left when the channel ends is taken
 * back. A length that was made greater makes its reader wait.
 */
const ENDS: Record<string, readonly string[]> = {
  "accepted × kill target": ["target-died → source", "committed → nobody"],
  "accept-received × kill target": ["target-died → source", "committed → nobody"],
  "accept-received × close control socket": ["target-died → source", "committed → target"],
  "claimed × close stdin": ["target-died → source", "committed → nobody"],
  "rejected × kill target": ["rejected → source", "target-died → source"],
  "ready-sent × flip bytes (length)": ["channel-broken → source", "expired → source"],
  "offered × flip bytes (length)": ["target-died → source", "expired → source", "rejected → source"],
  "rejected × flip bytes (length)": ["channel-broken → source", "expired → source", "rejected → source"],
};

/** What a cell says that was found to end this way. */
export function cellOf(plan: FaultPlan, found: string): string {
  const ends = ENDS[cellName(plan)];
  return ends?.includes(found) ? ends.join(" or ") : found;
}

const OFFER_LOST = STEPS.filter(({ frame }) => frame === "OFFER").map(({ name }) => name);
const LINGERING = new Set([
  "duplicated × kill source",
  ...OFFER_LOST.flatMap((step) => [`${step} × truncate frame`, `${step} × flip bytes`]),
  "offered × flip bytes (length)",
  "offered × flip bytes (payload)",
  "hello-sent × duplicate frame",
  "hello-sent × flip bytes (payload)",
  ...["hello-sent", "hello-received", "ready-sent", "ready-received", "duplicated"].map((step) =>
    `${step} × close stdin`
  ),
]);

/**
 * Whether on Windows the peer may see the end only when the target process has ended: a duplicate is in the target from
 * the moment it is made, and nobody can close it there who has not read of it.
 */
export function mayLinger(plan: Pick<FaultPlan, "step" | "fault" | "region">): boolean {
  return LINGERING.has(cellName(plan));
}

/** Short where the deadline may be what ends the hand-off, so long elsewhere that it is not. */
export function timeoutOf({ step, fault, region }: Pick<FaultPlan, "step" | "fault" | "region">): number {
  const { frame } = findStep(step);
  const waits = region === "length" ? hasPayload(frame) : frame === "HELLO" && region !== "sequence";
  return fault === "freeze target" || fault === "flip bytes" && waits ? 3_000 : 15_000;
}
