/** Where a system decides how a cell ends, or who of two processes is first; and how long a source waits in a cell. */
import { cellName, type FaultPlan, isFrameFault } from "./steps.ts";

type Cell = Pick<FaultPlan, "step" | "fault">;

/** Cells that end differently on Windows, where OFFER brings the socket itself, and opening it takes a moment. */
const ON_WINDOWS: Record<string, readonly [elsewhere: string, windows: string]> = {
  "offered × duplicate frame": ["handed off → target", "rejected → source"],
  "offered × flip sequence": ["channel-broken → source", "handed off → target"],
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

/** What a cell says that was found to end this way. */
export function cellOf(plan: Cell, found: string): string {
  const ends = RACES[cellName(plan)];
  if (ends?.includes(found)) return ends.join(" or ");
  const [elsewhere, windows] = ON_WINDOWS[cellName(plan)] ?? [];
  if (found !== (Deno.build.os === "windows" ? windows : elsewhere)) return found;
  return `${elsewhere}; on Windows ${windows}`;
}

/**
 * How many duplicates may stay in a target on Windows until its process ends: of the socket, and of its end of the pair of
 * loopback sockets. They are there from the moment they are made, and nobody can close them who has not read of them.
 */
export function mostLeftBehind({ step }: Cell): number {
  const mayBeUnread = ["hello-sent", "hello-received", "ready-sent", "ready-received", "offered"].includes(step);
  return Deno.build.os === "windows" && mayBeUnread ? 2 : 0;
}

/** Short where the deadline may be what ends the hand-off, so long elsewhere that it is not. */
export function timeoutOf({ step, fault }: Cell): number {
  const waits = isFrameFault(fault) && (step === "hello-sent" || fault === "raise length");
  return fault.startsWith("freeze") || waits ? 3_000 : 15_000;
}
