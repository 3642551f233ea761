/**
 * The samples of a lane, and their medians.
 *
 * @module
 */
import type { Role } from "./cpu.ts";
import type { CpuPerHandoff, Sample } from "./samples.ts";

/** Every sample of a lane, by contestant. */
export class Results {
  readonly versions = new Map<string, string>();
  readonly #handoffs = new Map<string, Map<number, Sample[]>>();
  readonly #channel = new Map<string, number[]>();
  readonly #failures = new Map<string, string[]>();

  addHandoffs(contestant: string, version: string, samples: Map<number, Sample>): void {
    this.versions.set(contestant, version);
    const all = this.#handoffs.getOrInsertComputed(contestant, () => new Map());
    for (const [inFlight, sample] of samples) all.getOrInsertComputed(inFlight, () => []).push(sample);
  }

  addChannel(contestant: string, perSecond: number): void {
    this.#channel.getOrInsertComputed(contestant, () => []).push(perSecond);
  }

  addFailure(what: string, reason: string): void {
    this.#failures.getOrInsertComputed(what, () => []).push(reason);
  }

  /** Sessions that came to nothing, and why. */
  failures(): [what: string, reasons: string[]][] {
    return [...this.#failures];
  }

  /** Medians of the contestants at a number in flight, in the order in which they were first measured. */
  handoffs(inFlight: number): Map<string, Sample> {
    const medians = new Map<string, Sample>();
    for (const [contestant, samples] of this.#handoffs) {
      const taken = samples.get(inFlight);
      if (taken !== undefined) medians.set(contestant, medianSample(taken));
    }
    return medians;
  }

  channel(): Map<string, number> {
    return new Map([...this.#channel].map(([contestant, samples]) => [contestant, median(samples)]));
  }

  /** What the median was taken of. */
  rates(contestant: string, inFlight: number): number[] {
    return this.#handoffs.get(contestant)?.get(inFlight)?.map(({ perSecond }) => perSecond) ?? [];
  }

  channelRates(contestant: string): number[] {
    return this.#channel.get(contestant) ?? [];
  }
}

/** The median of each figure by itself. */
function medianSample(samples: readonly Sample[]): Sample {
  const of = (figure: (sample: Sample) => number) => median(samples.map(figure));
  const role = (name: Role): CpuPerHandoff[Role] => ({
    user: of(({ cpu }) => cpu[name].user),
    system: of(({ cpu }) => cpu[name].system),
  });
  return {
    perSecond: of((sample) => sample.perSecond),
    firstByteP50: of((sample) => sample.firstByteP50),
    firstByteP99: of((sample) => sample.firstByteP99),
    takenP50: of((sample) => sample.takenP50),
    takenP99: of((sample) => sample.takenP99),
    cpu: { source: role("source"), target: role("target"), client: role("client"), wineserver: role("wineserver") },
    trouble: samples.map(({ trouble }) => trouble).filter((trouble) => trouble !== "").join("; "),
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
