/** One fault at one step: what becomes of the connection, and of the two processes' descriptors. */
import { connect } from "@winsock/handoff";
import { openStreams } from "../descriptors.ts";
import { until, within } from "../process.ts";
import { kill } from "./acts.ts";
import { comesLate, garbles } from "./fault_point.ts";
import { Peer } from "./peer.ts";
import type { SourceProcess } from "./source_process.ts";
import { type FaultPlan, findStep } from "./steps.ts";

/** A hand-off's end, as a cell of the table has it. */
export function cellText(outcome: string, owner: string): string {
  return `${outcome} → ${owner}`;
}

/**
 * Runs a hand-off into its fault.
 *
 * @param lingers Whether the peer can see the end only when the target process has ended.
 * @returns The outcome as the source's caller was told, and who has the connection in the end.
 * @throws {Error} If two processes have it, its peer does not see it end, or a process keeps a descriptor of it.
 */
export async function runCell(source: SourceProcess, plan: FaultPlan, lingers = false): Promise<string> {
  const { events } = source;
  events.clear();
  source.tell({ do: "cell", plan });
  using client = (await connect({ hostname: "127.0.0.1", port: source.port })).toConn();
  const { target } = (await events.next("spawned"))!;
  const peer = new Peer(client);
  let ended = false;
  try {
    await events.next("started");
    const before = openStreams(target).length;
    source.tell({ do: "go" });
    if (findStep(plan.step).course === "withdraw") {
      await events.next("received");
      source.tell({ do: "abort" });
    }
    const outcome = (await events.next("outcome", source.exited))?.outcome;
    await whenFaultHasCome(source, plan);
    const killed = plan.fault.startsWith("kill") && !comesLate(plan) ? plan.fault.slice("kill ".length) : undefined;
    const silent = lingers && killed === "source";
    const owner = silent ? "nobody" : await peer.converse(killed);
    if (!lingers) await peer.readEnd();
    await finish(source, plan);
    if (plan.fault !== "kill target") {
      await events.next("loop");
      // Duplicates it has never read of stay with it on Windows: of the socket, and of its end of the control socket.
      await streamsReturn("target", target, lingers ? before + 2 : before);
    }
    ended = true;
    await endTarget(source, target, plan);
    if (lingers) await peer.readEnd();
    if (source.streams !== undefined) await streamsReturn("source", source.pid, source.streams);
    return cellText(plan.fault === "kill source" ? "source killed" : `${outcome}`, owner);
  } finally {
    if (!ended) await endTarget(source, target, plan);
  }
}

/** Waits for a fault that comes before the socket is closed again, and for what it does to a process. */
async function whenFaultHasCome(source: SourceProcess, plan: FaultPlan): Promise<void> {
  if (findStep(plan.step).course === "end") await source.events.next("closed", source.exited);
  if (plan.fault === "none" || comesLate(plan)) return;
  await source.events.next("fault");
  if (plan.fault === "kill source") await within(20_000, source.exited);
  if (plan.fault === "freeze target") await source.events.next("thawed");
}

/** Ends the channel, after or with the fault. */
async function finish(source: SourceProcess, plan: FaultPlan): Promise<void> {
  const { events } = source;
  const withEnd = garbles(plan) && findStep(plan.step).frame === "END";
  if (plan.fault !== "none" && !withEnd) await events.next("fault");
  if (plan.fault === "kill source") await within(20_000, source.exited);
  source.tell({ do: "finish" });
  await events.next("finished", source.exited);
  if (withEnd) await events.next("fault");
}

async function endTarget(source: SourceProcess, target: number, plan: FaultPlan): Promise<void> {
  if (plan.fault === "kill source") return kill(target);
  source.tell({ do: "end" });
  await source.events.next("ended", source.exited);
}

async function streamsReturn(who: string, processId: number, before: number): Promise<void> {
  try {
    await until(() => openStreams(processId).length <= before, `the ${who} has ${before} descriptors again`);
  } catch (cause) {
    throw new Error(`The ${who} had ${before} descriptors and has ${openStreams(processId).join(", ")}`, { cause });
  }
}
