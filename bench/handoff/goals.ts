/**
 * What this library is meant to reach, and whether it does.
 *
 * @module
 */
import { OURS } from "./lane.ts";
import type { Results } from "./results.ts";
import { bestOther } from "./tables.ts";

interface Goal {
  readonly what: string;
  readonly least?: number;
  readonly most?: number;
  /** What was reached; `undefined` if it was not measured. */
  ratio(results: Results): number | undefined;
}

const NODE = "Node send";
const DENO = "Deno send";
const BUN = "Bun send";

/** At least so many times as many hand-offs a second as another. */
const rate = (inFlight: number, other: string, least: number): Goal => ({
  what: `${inFlight} in flight, to ${other}`,
  least,
  ratio: (results) => toOther(results, inFlight, other),
});

const GOALS: Record<string, readonly Goal[]> = {
  "Linux": [
    rate(1, NODE, 1),
    rate(1, DENO, 1),
    rate(16, NODE, 1.5),
    rate(16, BUN, 0.9),
    rate(64, NODE, 1.5),
    rate(64, BUN, 0.9),
    ...[1, 16, 64].map((inFlight) => ({
      what: `${inFlight} in flight, to the best of the three (the stretch)`,
      least: 1,
      ratio: (results: Results) => toBest(results, inFlight),
    })),
    { what: "processor time of source and target at 64 in flight, to Node's", most: 1.2, ratio: processorTime },
  ],
  "Wine": [
    rate(1, NODE, 1.2),
    rate(16, NODE, 2.5),
    rate(64, NODE, 2.5),
    { what: "the channel alone, to C", least: 0.4, ratio: channelToBest },
  ],
};

/** The goals of a lane, one a line. */
export function goalLines(lane: string, results: Results): string[] {
  return (GOALS[lane] ?? []).map(({ what, least, most, ratio }) => {
    const limit = least === undefined ? `at most ${most?.toFixed(1)}×` : `at least ${least.toFixed(1)}×`;
    const value = ratio(results);
    if (value === undefined) return `  ${what}: ${limit}: not measured`;
    const reached = value >= (least ?? -Infinity) && value <= (most ?? Infinity);
    return `  ${what}: ${limit}: ${value.toFixed(2)}×, ${reached ? "reached" : "not reached"}`;
  });
}

function toBest(results: Results, inFlight: number): number | undefined {
  const rates = new Map([...results.handoffs(inFlight)].map(([name, { perSecond }]) => [name, perSecond]));
  return quotient(rates.get(OURS), bestOther(rates)?.perSecond);
}

function toOther(results: Results, inFlight: number, other: string): number | undefined {
  const medians = results.handoffs(inFlight);
  return quotient(medians.get(OURS)?.perSecond, medians.get(other)?.perSecond);
}

/** Of source and target together, a hand-off. */
function processorTime(results: Results): number | undefined {
  const samples = results.handoffs(64);
  const microseconds = (name: string) => {
    const { source, target } = samples.get(name)?.cpu ?? {};
    return source === undefined || target === undefined
      ? undefined
      : source.user + source.system + target.user + target.system;
  };
  return quotient(microseconds(OURS), microseconds(NODE));
}

function channelToBest(results: Results): number | undefined {
  const rates = results.channel();
  return quotient(rates.get(OURS), bestOther(rates)?.perSecond);
}

function quotient(value: number | undefined, base: number | undefined): number | undefined {
  return value === undefined || base === undefined ? undefined : value / base;
}
