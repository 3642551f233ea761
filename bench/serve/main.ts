/**
 * Requests per second of servers of several processes, in one run:
 *
 *     deno task bench:serve [--lane linux|windows] [--workers 2] [--rounds 5] [--seconds 1] [--only NAMES] [--save]
 *
 * All answer the same few bytes, to 32 connections of `wrk`: on connections that are kept, and with a new connection for
 * each request. In each round every server has its turn, so that what slows the machine slows all; figures are medians.
 * Compare within one run only. With `--save` the results are kept in `bench/results.json`, and the pictures of the
 * documentation are drawn anew.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { Unavailable } from "../handoff/lane.ts";
import { machine } from "../handoff/saved.ts";
import { LISTENER, openLane, PARALLEL, ROUND_ROBIN, type Running, SHARED } from "./contestants.ts";
import { drawServe } from "./plot.ts";
import { KINDS, saveServe, type ServeKind, type ServeSample } from "./saved.ts";

const HEADERS: Record<ServeKind, string[]> = { [KINDS[0]]: [], [KINDS[1]]: ["-H", "Connection: close"] };
/** The units of time of wrk, in milliseconds. */
const UNITS = { us: 0.001, ms: 1, s: 1_000, m: 60_000 };
const CLIENTS = 32;
const WARM_SECONDS = 2;

/** What wrk measured: requests per second, and the time for 99 of 100 in milliseconds. */
interface Sample {
  readonly rate: number;
  readonly p99: number;
}

/** At least so many times the rate of the fastest of the others. */
type Goal = [kind: ServeKind, others: readonly string[], least: number];
const NODE = [ROUND_ROBIN, SHARED];
const GOALS: Record<string, readonly Goal[]> = {
  Linux: [[KINDS[0], [PARALLEL], 0.95], [KINDS[1], [PARALLEL], 0.75], [KINDS[0], NODE, 2]],
  Wine: [[KINDS[0], NODE, 1.5], [KINDS[1], NODE, 1.5]],
};

const options = parseArgs(Deno.args, {
  string: ["lane", "workers", "rounds", "seconds", "only"],
  boolean: ["save"],
  default: { workers: "2", rounds: "5", seconds: "1" },
});
if (options.save && options.only !== undefined) {
  throw new TypeError("--save keeps whole lanes, and --only leaves some out");
}
const [workers, rounds, seconds] = [options.workers, options.rounds, options.seconds].map(Number) as [
  number,
  number,
  number,
];
const lanes = options.lane === undefined ? ["linux", "windows"] : [options.lane];
const thisMachine = await machine();
/** What else the machine did before. */
const load = Deno.loadavg()[0]!.toFixed(1);
console.log(`${thisMachine}, load ${load}; ${rounds} rounds, samples of ${seconds} s`);
for (const lane of lanes) {
  try {
    await runLane(lane);
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.log(`\n== ${lane}: skipped: ${error.message}`);
  }
}
if (options.save) await drawServe();

async function runLane(laneName: string): Promise<void> {
  const { name, note, contestants, missing } = await openLane(laneName, workers);
  const wanted: string[] | undefined = options.only?.split(",");
  await using servers = new AsyncDisposableStack();
  const running = new Map<string, Running>();
  for (const [contestant, start] of Object.entries(contestants)) {
    if (wanted !== undefined && !wanted.some((part) => contestant.includes(part))) continue;
    running.set(contestant, servers.use(await start()));
  }
  console.log(`\n== ${name}: ${note}`);
  for (const reason of missing) console.log(`Skipped ${reason}`);
  const results: Record<string, Record<string, ServeSample>> = {};
  for (const kind of KINDS) {
    const samples = await measure(running, kind);
    results[kind] = Object.fromEntries(samples);
    console.log(`\n${kind}`);
    console.log("                        per second   p99 ms   ours to it");
    const ours = samples.get(LISTENER)?.perSecond;
    for (const [contestant, { perSecond, p99, rates }] of samples) {
      const ratio = contestant === LISTENER || ours === undefined ? "" : (ours / perSecond).toFixed(2);
      const range = `(${Math.min(...rates).toFixed(0)} to ${Math.max(...rates).toFixed(0)})`;
      const columns = [perSecond.toFixed(0).padStart(10), p99.toFixed(1).padStart(8), ratio.padStart(12)];
      console.log(`  ${contestant.padEnd(22)}${columns.join(" ")}   ${range}`);
    }
  }
  const goals = (GOALS[name] ?? []).map(([kind, others, least]) => {
    const best = Math.max(...others.map((other) => results[kind]?.[other]?.perSecond ?? 0));
    const ratio = (results[kind]?.[LISTENER]?.perSecond ?? 0) / best;
    const verdict = best === 0 ? "not measured" : `${ratio.toFixed(2)}×, ${ratio >= least ? "reached" : "not reached"}`;
    return `${kind}, to ${others.join(" or ")}: at least ${least}×: ${verdict}`;
  });
  console.log(`\nGoals\n${goals.map((goal) => `  ${goal}`).join("\n")}`);
  if (!options.save) return;
  const date = new Date().toISOString().slice(0, 10);
  const circumstances = `${note}; load average before: ${load}`;
  const run = { date, machine: thisMachine, note: circumstances, rounds, seconds, missing };
  await saveServe(name, { ...run, goals, requests: results });
}

/** Measures the servers. One whose clients never get an answer is named, and has no figures. */
async function measure(running: Map<string, Running>, kind: ServeKind): Promise<Map<string, ServeSample>> {
  const samples = new Map<string, Sample[]>();
  const sample = async (name: string, duration: number): Promise<Sample | undefined> => {
    try {
      return await wrk(name, running.get(name)!.port, kind, duration);
    } catch (error) {
      if (error instanceof Unavailable) throw error;
      console.log(`  ${name}: no figures of ${duration} s: ${error instanceof Error ? error.message : error}`);
      return undefined;
    }
  };
  for (const name of running.keys()) {
    samples.set(name, []);
    await sample(name, WARM_SECONDS);
  }
  const names = [...running.keys()];
  for (let round = 0; round < rounds; round++) {
    console.error(`${kind}: round ${round + 1} of ${rounds}`);
    // Whoever comes first, or after a busy one, must not always be the same.
    const first = round % names.length;
    for (const name of [...names.slice(first), ...names.slice(0, first)]) {
      const taken = await sample(name, seconds);
      if (taken !== undefined) samples.get(name)!.push(taken);
    }
  }
  const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;
  return new Map(
    [...samples].filter(([, taken]) => taken.length > 0).map(([name, taken]) => {
      const rates = taken.map(({ rate }) => rate);
      return [name, { perSecond: median(rates), p99: median(taken.map(({ p99 }) => p99)), rates }];
    }),
  );
}

/** @throws {Error} If no request was answered. It has the output of wrk. */
async function wrk(name: string, port: number, kind: ServeKind, duration: number): Promise<Sample> {
  const args = ["-t1", `-c${CLIENTS}`, `-d${duration}s`, "--latency", ...HEADERS[kind]];
  const command = new Deno.Command("wrk", { args: [...args, `http://127.0.0.1:${port}/`] });
  const { stdout, stderr } = await command.output().catch((error) => {
    throw error instanceof Deno.errors.NotFound ? new Unavailable("there is no wrk; Debian has it") : error;
  });
  const text = new TextDecoder().decode(stdout);
  const failed = /Non-2xx.*|Socket errors: .*/.exec(text)?.[0];
  // A server that ends the connection after its response is what wrk calls a read error.
  if (failed !== undefined && !/connect 0, read \d+, write 0, timeout 0/.test(failed)) {
    console.log(`  ${name}: ${failed}`);
  }
  const rate = Number(/Requests\/sec: *([\d.]+)/.exec(text)?.[1] ?? 0);
  const [, value, unit] = /99% *([\d.]+)(us|ms|s|m)\b/.exec(text) ?? [];
  if (rate === 0 || unit === undefined) throw new Error((new TextDecoder().decode(stderr) + text).trim());
  return { rate, p99: Number(value) * UNITS[unit as keyof typeof UNITS] };
}
