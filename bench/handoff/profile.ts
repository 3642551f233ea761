/**
 * Where this library's time goes: `--profile`.
 *
 * @module
 */
import { ClientProcess } from "./client_process.ts";
import { type Lane, OURS, Unavailable } from "./lane.ts";
import type { Plan } from "./samples.ts";
import { Session } from "./session.ts";

const IN_FLIGHT = 64;
const ANSWER_TIMEOUT_MS = 60_000;

/** Runs this library alone, with V8's profiler in its source and its target; they print their tables to stderr. */
export async function printProfile(lane: Lane, plan: Plan): Promise<void> {
  console.log(`\n== ${lane.name}: ${OURS} at ${IN_FLIGHT} in flight`);
  const ours = lane.contestants.find(({ name }) => name === OURS);
  if (ours === undefined) throw new Unavailable(`${OURS} is not among the contestants`);
  await using client = new ClientProcess(lane.clientUnder);
  await using session = await Session.start(ours, { stderr: "inherit", args: ["--profile"] });
  const { port } = session;
  await client.sample({ port, inFlight: IN_FLIGHT, seconds: plan.warmSeconds });
  await session.ask("report", ANSWER_TIMEOUT_MS);
  const { perSecond } = await client.sample({ port, inFlight: IN_FLIGHT, seconds: plan.seconds * 2 });
  await session.ask("report", ANSWER_TIMEOUT_MS);
  console.log(`${perSecond.toFixed(0)} hand-offs a second while profiled`);
}
