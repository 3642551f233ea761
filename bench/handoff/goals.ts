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
  readonly atLeast: number;
  /** What was reached; `undefined` if it was not measured. */
  ratio(results: Results): number | undefined;
}

const GOALS: Record<string, readonly Goal[]> = {
  "Linux": [
    { what: "serial, to the best of the three", atLeast: 1, ratio: (results) => toBest(results, 1) },
    {
      what: "64 in flight, to the best of the three",
      atLeast: 1.5,
      ratio: (results) => toBest(results, 64),
    },
  ],
  "Wine": [
    { what: "serial, to Node", atLeast: 1.5, ratio: (results) => toOther(results, 1, "Node send") },
    { what: "16 in flight, to Node", atLeast: 3, ratio: (results) => toOther(results, 16, "Node send") },
    { what: "64 in flight, to Node", atLeast: 3, ratio: (results) => toOther(results, 64, "Node send") },
    { what: "the channel alone, to C", atLeast: 0.9, ratio: channelToBest },
  ],
};

/** The goals of a lane, one a line. */
export function goalLines(lane: string, results: Results): string[] {
  return (GOALS[lane] ?? []).map(({ what, atLeast, ratio }) => {
    const reached = ratio(results);
    const verdict = reached === undefined
      ? "not measured"
      : `${reached.toFixed(2)}×, ${reached >= atLeast ? "reached" : "not reached"}`;
    return `  ${what}: at least ${atLeast.toFixed(1)}×: ${verdict}`;
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

function channelToBest(results: Results): number | undefined {
  const rates = results.channel();
  return quotient(rates.get(OURS), bestOther(rates)?.perSecond);
}

function quotient(value: number | undefined, base: number | undefined): number | undefined {
  return value === undefined || base === undefined ? undefined : value / base;
}
