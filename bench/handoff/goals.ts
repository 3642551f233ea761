/**
 * What this library is meant to reach, and whether it does.
 *
 * @module
 */
import type { Results } from "./results.ts";
import { bestOther } from "./tables.ts";

interface Goal {
  readonly what: string;
  readonly atLeast: number;
  /** What was reached; `undefined` if it was not measured. */
  ratio(results: Results, ours: string): number | undefined;
}

const GOALS: Record<string, readonly Goal[]> = {
  "Linux": [
    { what: "serial, to the best of the three", atLeast: 1, ratio: (results, ours) => toBest(results, ours, 1) },
    {
      what: "64 in flight, to the best of the three",
      atLeast: 1.5,
      ratio: (results, ours) => toBest(results, ours, 64),
    },
  ],
  "Wine": [
    { what: "serial, to Node", atLeast: 1.5, ratio: (results, ours) => toOther(results, ours, 1, "Node send") },
    { what: "16 in flight, to Node", atLeast: 3, ratio: (results, ours) => toOther(results, ours, 16, "Node send") },
    { what: "64 in flight, to Node", atLeast: 3, ratio: (results, ours) => toOther(results, ours, 64, "Node send") },
    { what: "the channel alone, to C", atLeast: 0.9, ratio: channelToBest },
  ],
};

/** The goals of a lane, one a line. */
export function goalLines(lane: string, results: Results, ours: string): string[] {
  return (GOALS[lane] ?? []).map(({ what, atLeast, ratio }) => {
    const reached = ratio(results, ours);
    const verdict = reached === undefined
      ? "not measured"
      : `${reached.toFixed(2)}×, ${reached >= atLeast ? "reached" : "not reached"}`;
    return `  ${what}: at least ${atLeast.toFixed(1)}×: ${verdict}`;
  });
}

function toBest(results: Results, ours: string, inFlight: number): number | undefined {
  const rates = new Map([...results.handoffs(inFlight)].map(([name, { perSecond }]) => [name, perSecond]));
  return quotient(rates.get(ours), bestOther(rates, ours)?.perSecond);
}

function toOther(results: Results, ours: string, inFlight: number, other: string): number | undefined {
  const medians = results.handoffs(inFlight);
  return quotient(medians.get(ours)?.perSecond, medians.get(other)?.perSecond);
}

function channelToBest(results: Results, ours: string): number | undefined {
  const rates = results.channel();
  return quotient(rates.get(ours), bestOther(rates, ours)?.perSecond);
}

function quotient(value: number | undefined, base: number | undefined): number | undefined {
  return value === undefined || base === undefined ? undefined : value / base;
}
