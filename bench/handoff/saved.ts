/**
 * Results that are kept: `bench/results.json`, from which the pictures of the documentation are drawn.
 *
 * @module
 */
import type { SavedServe } from "../serve/saved.ts";
import type { Lane } from "./lane.ts";
import type { Results } from "./results.ts";
import type { Plan, Sample } from "./samples.ts";

const FILE = new URL("../results.json", import.meta.url);

/** What was measured of a contestant at a number in flight: medians, and the rates they were taken of. */
export interface SavedSample extends Omit<Sample, "cpu" | "trouble"> {
  readonly rates: readonly number[];
}

/** What was measured in one lane, at one time. */
export interface SavedLane {
  readonly date: string;
  readonly machine: string;
  readonly note: string;
  readonly rounds: number;
  /** How long a sample was. */
  readonly seconds: number;
  /** What ran each contestant. */
  readonly versions: Record<string, string>;
  /** Who was not measured, or not in every round, and why. */
  readonly missing: readonly string[];
  /** By the number in flight, and the contestant. */
  readonly handoffs: Record<string, Record<string, SavedSample>>;
  /** Sockets a second through the channel alone, by contestant. */
  readonly channel: Record<string, number>;
  /** What was measured of servers, by `bench:serve`. */
  readonly serve?: SavedServe;
}

/** The results of all lanes that were kept, by their names. */
export async function readSaved(): Promise<Record<string, SavedLane>> {
  return JSON.parse(await Deno.readTextFile(FILE).catch(() => "{}"));
}

/** Keeps the results of a lane instead of those it had; the other lanes' stay. */
export async function saveLane(lane: Lane, results: Results, plan: Plan, machine: string): Promise<void> {
  const failures = results.failures().map(([what, reasons]) => `${what}, in ${reasons.length} rounds: ${reasons[0]}`);
  const handoffs = plan.inFlight.map((inFlight) => [inFlight, savedSamples(results, inFlight)]);
  const saved: SavedLane = {
    date: new Date().toISOString().slice(0, 10),
    machine,
    note: lane.note,
    rounds: plan.rounds,
    seconds: plan.seconds,
    versions: Object.fromEntries(results.versions),
    missing: [...lane.missing, ...failures],
    handoffs: Object.fromEntries(handoffs),
    channel: Object.fromEntries(results.channel()),
  };
  await keepInLane(lane.name, saved);
}

/** Keeps results instead of those of the same names that a lane had. */
export async function keepInLane(name: string, results: Partial<SavedLane>): Promise<void> {
  // Figures have four digits that mean something, at most.
  const rounded = (_: string, value: unknown) => typeof value === "number" ? Number(value.toPrecision(4)) : value;
  const lanes = await readSaved();
  const all = { ...lanes, [name]: { ...lanes[name], ...results } };
  await Deno.writeTextFile(FILE, `${JSON.stringify(all, rounded, 2)}\n`);
}

/** What this runs on. */
export async function machine(): Promise<string> {
  const info = await Deno.readTextFile("/proc/cpuinfo").catch(() => "");
  const model = /^model name\s*:\s*(.+)$/m.exec(info)?.[1] ?? "unknown";
  const release = Deno.osRelease().match(/^\d+\.\d+/)?.[0] ?? Deno.osRelease();
  return `${navigator.hardwareConcurrency} CPUs (${model}), ${Deno.build.os} ${release}, ${Deno.build.arch}`;
}

function savedSamples(results: Results, inFlight: number): Record<string, SavedSample> {
  const samples = [...results.handoffs(inFlight)].map(([name, sample]): [string, SavedSample] => {
    const { perSecond, firstByteP50, firstByteP99, takenP50, takenP99 } = sample;
    const rates = results.rates(name, inFlight);
    return [name, { perSecond, rates, firstByteP50, firstByteP99, takenP50, takenP99 }];
  });
  return Object.fromEntries(samples);
}
