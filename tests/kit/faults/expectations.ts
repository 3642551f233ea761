/** Where a system decides how a cell ends, or who of two processes is first; and how long a source waits in a cell. */
import { cellName, type FaultPlan, findStep, isFrameFault, isOfListener } from "./steps.ts";

type Cell = Pick<FaultPlan, "step" | "fault">;

/** Cells that end differently on Windows, where OFFER brings the socket itself, and opening it takes a moment. */
const ON_WINDOWS: Record<string, readonly [elsewhere: string, windows: string]> = {
  "offered × duplicate frame": ["handed off → target", "rejected → source"],
  "offered × flip sequence": ["channel-broken → source", "handed off → target"],
  "listener-offered × flip sequence": ["channel-broken → source", "timeout → source"],
};

/**
 * Cells with two right ends. When a frozen source runs on, its deadline has passed and READY has come, and either may be
 * first in its event loop. When OFFER has just left, the target may take the socket before the fault reaches it.
 */
const RACES: Record<string, readonly string[]> = {
  "offered × kill target": ["target-exited → source", "handed off → target †"],
  "offered × kill both": ["source and target killed → source †", "source and target killed → target †"],
  "offered × close answers": ["channel-broken → source", "handed off → target"],
  "offered × freeze target": ["timeout → source", "handed off → target"],
  "hello-sent × freeze source": ["timeout → source", "handed off → target"],
  "hello-received × freeze source": ["timeout → source", "handed off → target"],
};

/** Cells of a shared listener with several right ends: the outcomes, and who may accept the next connection. */
const LISTENER_RACES: readonly (readonly [cells: RegExp, outcomes: readonly string[], accept: readonly string[]])[] = [
  // A target that cannot read ACCEPT closes the listener. That may still be told.
  [/^(accept|resume)-sent × (truncate|flip|raise)/, ["closed", "timeout"], ["source"]],
  // What waits is accepted just before the target is killed, or not.
  [/^accept.* × kill target/, ["accepts", "target-exited"], ["source", "no process"]],
  [/^resume.* × kill target/, ["resumed", "target-exited"], ["source", "no process"]],
  // A target accepts until it notices that the source has ended, or that a way has.
  [/^(accept|resume).* × kill source/, ["source killed"], ["target", "no process"]],
  [/^(accepting.*|accept-sent) × (close|truncate|flip)/, ["accepts", "timeout"], ["target", "source"]],
  [/^(resumed.*|resume-sent) × (close|truncate|flip)/, ["resumed", "timeout"], ["target", "source"]],
  // What a frozen process is sent is handled when it runs again: before the deadline is, or after.
  [/^accept.* × freeze/, ["accepts", "timeout"], ["target"]],
  [/^listener.* × freeze/, ["accepts", "timeout"], ["target", "source"]],
  [/^resume.* × freeze/, ["resumed", "timeout"], ["target"]],
  // On Windows a thread of a frozen target may be in accept, and gets the next connection.
  [/^(counts|pause).* × freeze target/, ["paused", "timeout"], ["source", "target"]],
  [/^stop.* × freeze target/, ["stopped", "timeout"], ["source", "target"]],
  [/^(counts|pause).* × freeze/, ["paused", "timeout"], ["source"]],
  [/^stop.* × freeze/, ["stopped", "timeout"], ["source"]],
  // COUNTS leaves before PAUSE is read, or after.
  [/^counts-sent × (close|truncate|flip|raise)/, ["paused", "timeout"], ["source"]],
  // A target that is told of the end of the source rejects what it has not taken, and leaves.
  [/^listener.* × close frames/, ["closed", "rejected", "timeout"], ["source"]],
];

/** What a cell says that was found to end this way. */
export function cellOf(plan: Cell, found: string): string {
  const ends = RACES[cellName(plan)];
  if (ends?.includes(found)) return ends.join(" or ");
  const [, outcomes = [], accept = []] = LISTENER_RACES.find(([cells]) => cells.test(cellName(plan))) ?? [];
  const [outcome = "", who = ""] = found.split(" → ");
  if (outcomes.includes(outcome) && accept.includes(who)) return `${outcomes.join(" or ")} → ${accept.join(" or ")}`;
  const [elsewhere, windows] = ON_WINDOWS[cellName(plan)] ?? [];
  if (found !== (Deno.build.os === "windows" ? windows : elsewhere)) return found;
  return `${elsewhere}; on Windows ${windows}`;
}

/**
 * How many duplicates may stay in a target on Windows until its process ends: of the socket, and of its end of the pair of
 * loopback sockets. They are there from the moment they are made, and nobody can close them who has not read of them.
 */
export function mostLeftBehind({ step }: Cell): number {
  const mayBeUnread = ["hello-sent", "hello-received", "ready-sent", "ready-received", "offered", "listener-offered"]
    .includes(step);
  return Deno.build.os === "windows" && mayBeUnread ? 2 : 0;
}

/** Short where the deadline may be what ends the hand-off, so long elsewhere that it is not. */
export function timeoutOf({ step, fault }: Cell): number {
  if (isOfListener(findStep(step))) return Deno.build.os === "windows" ? 6_000 : 3_000;
  const waits = isFrameFault(fault) && (step === "hello-sent" || fault === "raise length");
  return fault.startsWith("freeze") || waits ? 3_000 : 15_000;
}
