/** One fault at one step: what becomes of the connection, and of the two processes' descriptors. */
import { connect } from "@winsock/handoff";
import { openStreams } from "../descriptors.ts";
import { until, within } from "../process.ts";
import { kill, thaw } from "./acts.ts";
import { comesLate, comesWithEnd } from "./fault_point.ts";
import { mostLeftBehind } from "./expectations.ts";
import { Peer } from "./peer.ts";
import type { SourceProcess } from "./source_process.ts";
import { type FaultPlan, findStep, isFrameFault } from "./steps.ts";

/** How long a process stays stopped when the deadline has passed, in milliseconds. */
export const PAST_THE_DEADLINE_MS = 300;

/** How many pipes and sockets of its channel a target inherits; it closes them with the channel. */
export const INHERITED_STREAMS = 3;

/** Whether the target can open its channel. What it inherited stays with it if it never reads a HELLO that says so. */
export function opensChannel({ step, fault }: FaultPlan): boolean {
  return step !== "hello-sent" || !isFrameFault(fault) || fault === "duplicate frame" || fault === "flip sequence";
}

/** Which processes a fault ends. */
export function killedBy({ fault }: FaultPlan): readonly string[] {
  if (fault === "kill both") return ["source", "target"];
  return fault.startsWith("kill ") ? [fault.slice("kill ".length)] : [];
}

/**
 * Runs a hand-off into its fault.
 *
 * @returns The outcome as the source's caller was told, and who owns the connection; `†` if that process was killed.
 * @throws {Error} If nobody owns it or two processes do, if the decision says otherwise, if the peer does not see it end, or
 * if a process keeps a descriptor of it.
 */
export async function runCell(source: SourceProcess, plan: FaultPlan): Promise<string> {
  const { events } = source;
  events.clear();
  source.tell({ do: "cell", plan });
  using client = (await connect({ hostname: "127.0.0.1", port: source.port })).toConn();
  const { target, inherits, gate } = (await events.next("spawned"))!;
  const peer = new Peer(client);
  const killed = killedBy(plan);
  let ended = false;
  try {
    await events.next("started");
    const before = countStreams(target) - (inherits && opensChannel(plan) ? INHERITED_STREAMS : 0);
    source.tell({ do: "go" });
    const thawing = plan.fault === "freeze source" ? thawSource(source, plan) : undefined;
    if (findStep(plan.step).course === "withdraw") {
      await events.next("received");
      source.tell({ do: "abort" });
    }
    const { side, on } = findStep(plan.step);
    if (plan.fault.startsWith("close") && side === "target" && "trace" in on) actWhenAsked(source);
    const outcome = (await events.next("outcome", source.exited))?.outcome;
    if (!comesLate(plan)) await thawing;
    if (comesWithEnd(plan)) await events.next("closed", source.exited);
    else if (!comesLate(plan)) await whenFaultHasCome(source, plan);
    const answers = await peer.converse(comesLate(plan) ? [] : killed);
    await peer.readEnd();
    await whenFaultHasCome(source, plan);
    source.tell({ do: "finish" });
    if (!killed.includes("source")) await events.next("finished");
    if (!killed.includes("target")) {
      await events.next("loop");
      await streamsReturn("target", target, before + mostLeftBehind(plan));
    }
    ended = true;
    await endTarget(source, target, killed);
    if (!killed.includes("source") && source.streams !== undefined) {
      await streamsReturn("source", source.pid, source.streams);
    }
    return `${outcome ?? `${killed.join(" and ")} killed`} → ${ownerOf(answers, source, outcome, killed)}`;
  } finally {
    if (!ended) await endTarget(source, target, killed);
    await Deno.remove(gate).catch(() => {});
  }
}

/** Who owns the connection by the decision, which must be who answered, unless that process is gone. */
function ownerOf(
  answers: string,
  source: SourceProcess,
  outcome: string | undefined,
  killed: readonly string[],
): string {
  const owner = source.events.has("taken") ? "target" : "source";
  if (outcome !== undefined && (outcome === "handed off") !== (owner === "target")) {
    throw new Error(`The ${owner} has decided, and the source's caller was told: ${outcome}`);
  }
  if (answers === owner) return owner;
  if (answers === "nobody" && killed.includes(owner)) return `${owner} †`;
  throw new Error(`The ${owner} has decided, and who answers is ${answers}`);
}

/** Waits for the fault, and for what it does to a process. */
export async function whenFaultHasCome(source: SourceProcess, plan: FaultPlan): Promise<void> {
  if (plan.fault === "none") return;
  await source.events.next("fault");
  if (killedBy(plan).includes("source")) await within(20_000, source.exited);
  if (plan.fault === "freeze target") await source.events.next("thawed");
}

export async function thawSource(source: SourceProcess, plan: FaultPlan): Promise<void> {
  await source.events.next("fault");
  await new Promise((resolve) => setTimeout(resolve, plan.timeout + PAST_THE_DEADLINE_MS));
  thaw(source.pid);
}

/** A target at its step waits until the source has closed a way: both ends of it are the source's to close. */
export async function actWhenAsked({ events, exited, tell }: SourceProcess): Promise<void> {
  if (await events.next("gate", exited) !== undefined) tell({ do: "act" });
}

export async function endTarget(source: SourceProcess, target: number, killed: readonly string[]): Promise<void> {
  if (killed.includes("source")) return kill(target);
  source.tell({ do: "end" });
  await source.events.next("ended", source.exited);
}

/** How many pipes, sockets and the like a process has open, without those of its stdin, which Deno has once or twice. */
export function countStreams(processId: number): number {
  const streams = openStreams(processId).map((line) => [Number.parseInt(line), line.slice(line.indexOf(" "))]);
  const [, stdin] = streams.find(([number]) => number === 0) ?? [];
  return streams.filter(([, thing]) => thing !== stdin).length;
}

export async function streamsReturn(who: string, processId: number, before: number): Promise<void> {
  try {
    await until(() => countStreams(processId) <= before, `the ${who} has ${before} descriptors again`);
  } catch (cause) {
    throw new Error(`The ${who} had ${before} descriptors and has ${openStreams(processId).join(", ")}`, { cause });
  }
}
