/**
 * Taking samples of a contestant.
 *
 * @module
 */
import type { ClientProcess } from "./client_process.ts";
import { type CpuTimes, cpuTimes, type Role } from "./cpu.ts";
import type { Contestant } from "./lane.ts";
import { Session } from "./session.ts";

/** How long samples are. */
export interface Plan {
  readonly rounds: number;
  readonly inFlight: readonly number[];
  readonly seconds: number;
  /** Before the first sample of a session, so that compilers have done their work. */
  readonly warmSeconds: number;
}

/** Microseconds of processor time a hand-off. */
export type CpuPerHandoff = Record<Role, { user: number; system: number }>;

/** One sample of one contestant. */
export interface Sample {
  readonly perSecond: number;
  /** Milliseconds from the client's connect to its first byte. */
  readonly firstByteP50: number;
  readonly firstByteP99: number;
  /** Milliseconds the source's send takes. */
  readonly takenP50: number;
  readonly takenP99: number;
  readonly cpu: CpuPerHandoff;
  readonly trouble: string;
}

interface SourceReport {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly failed: number;
  readonly failure: string;
}

const ANSWER_TIMEOUT_MS = 20_000;
const CHANNEL_WARM_BATCHES = 20;
const MAX_CHANNEL_BATCHES = 1500;

/** Samples at every number in flight, in one session. */
export async function sampleHandoffs(
  contestant: Contestant,
  client: ClientProcess,
  plan: Plan,
): Promise<{ version: string; samples: Map<number, Sample> }> {
  await using session = await Session.start(contestant);
  const samples = new Map<number, Sample>();
  const { port, version } = session;
  await client.sample({ port, inFlight: Math.max(...plan.inFlight), seconds: plan.warmSeconds });
  for (const inFlight of plan.inFlight) {
    await client.sample({ port, inFlight, seconds: plan.warmSeconds / 4 });
    await session.ask("report", ANSWER_TIMEOUT_MS);
    const before = cpuTimes([session.processId, client.processId]);
    const { perSecond, answered, firstByteP50, firstByteP99, lost, stalled } = await client.sample({
      port,
      inFlight,
      seconds: plan.seconds,
    });
    const after = cpuTimes([session.processId, client.processId]);
    const { p50, p99, failed, failure } = await session.ask<SourceReport>("report", ANSWER_TIMEOUT_MS);
    samples.set(inFlight, {
      perSecond,
      firstByteP50,
      firstByteP99,
      takenP50: p50,
      takenP99: p99,
      cpu: perHandoff(before, after, answered),
      trouble: [
        stalled > 0 ? `${stalled} stalled` : "",
        lost > 0 ? `${lost} lost` : "",
        failed > 0 ? `${failed} failed (${failure})` : "",
      ].filter((text) => text !== "").join(", "),
    });
  }
  return { version, samples };
}

/** Sockets a second through the channel alone, in batches of 64. */
export async function sampleChannel(contestant: Contestant, seconds: number): Promise<number> {
  await using session = await Session.start(contestant);
  const run = (batches: number) =>
    session.ask<{ count: number; seconds: number }>(String(batches), ANSWER_TIMEOUT_MS + seconds * 10_000);
  await run(CHANNEL_WARM_BATCHES);
  const trial = await run(CHANNEL_WARM_BATCHES);
  const batches = Math.ceil(CHANNEL_WARM_BATCHES * seconds / trial.seconds);
  const sample = await run(Math.min(batches, MAX_CHANNEL_BATCHES));
  return sample.count / sample.seconds;
}

function perHandoff(before: CpuTimes, after: CpuTimes, count: number): CpuPerHandoff {
  const role = (name: Role) => ({
    user: (after[name].user - before[name].user) / count * 1e6,
    system: (after[name].system - before[name].system) / count * 1e6,
  });
  return { source: role("source"), target: role("target"), client: role("client"), wineserver: role("wineserver") };
}
