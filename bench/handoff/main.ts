/**
 * Hand-offs per second and the time until one is taken, this library against what else hands connections to another
 * process, all in one run:
 *
 *     deno task bench:handoff [--lane linux|windows] [--quick] [--only NAMES] [--profile] [--save]
 *
 * A source accepts real connections and hands each to its child, which writes the first byte and ends it. A client in a
 * process of its own, the same for all, keeps 1, 16 and 64 of them in flight. The contestants take turns, each with
 * fresh processes every round, so that what slows the machine slows all; figures are medians of the rounds. Compare
 * within one run only.
 *
 * `--only "handoff,Bun"` leaves out contestants whose names contain none of these. With `--profile` this library alone
 * runs at 64 in flight, and prints in which functions its source and target were. With `--save` the results are kept in
 * `bench/results.json`, and the pictures of the documentation are drawn anew.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { ClientProcess } from "./client_process.ts";
import { goalLines } from "./goals.ts";
import { type Contestant, type Lane, Unavailable } from "./lane.ts";
import { linuxLane } from "./linux_lane.ts";
import { drawSaved } from "./plot.ts";
import { printProfile } from "./profile.ts";
import { Results } from "./results.ts";
import { type Plan, sampleChannel, sampleHandoffs } from "./samples.ts";
import { machine, saveLane } from "./saved.ts";
import { channelTable, handoffTable } from "./tables.ts";
import { windowsLane } from "./windows_lane.ts";

const FULL: Plan = { rounds: 5, inFlight: [1, 16, 64], seconds: 1.5, warmSeconds: 2 };
const QUICK: Plan = { rounds: 1, inFlight: [1, 16, 64], seconds: 0.3, warmSeconds: 0.2 };
const LANES: Record<string, () => Promise<Lane>> = { linux: linuxLane, windows: windowsLane };

const TAKEN_NOTE =
  "taken: until the source's send has resolved; C: until the child's answer; others: until send's callback, which waits for nobody";

const options = parseArgs(Deno.args, { string: ["lane", "only"], boolean: ["quick", "profile", "save"] });
if (options.save && options.only !== undefined) {
  throw new TypeError("--save keeps whole lanes, and --only leaves some out");
}
const plan = options.quick ? QUICK : FULL;
const lanes = options.lane === undefined ? Object.keys(LANES) : [options.lane];

const thisMachine = await machine();
console.log(`${thisMachine}, load ${Deno.loadavg()[0]?.toFixed(1)}`);
console.log(`${plan.rounds} rounds, samples of ${plan.seconds} s, ${plan.warmSeconds} s to warm up`);
for (const name of lanes) {
  const prepare = LANES[name];
  if (prepare === undefined) throw new TypeError(`There is no lane ${name}, only ${Object.keys(LANES).join(" and ")}`);
  try {
    const lane = selected(await prepare());
    if (options.profile) {
      await printProfile(lane, plan);
      continue;
    }
    const results = await run(lane);
    print(lane, results);
    if (options.save) await saveLane(lane, results, plan, thisMachine);
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.log(`\n== ${name}: skipped: ${error.message}`);
  }
}
if (options.save) await drawSaved();

/** The lane with the contestants that were asked for. */
function selected(lane: Lane): Lane {
  const names: string[] | undefined = options.only?.split(",");
  const keep = ({ name }: Contestant) => names === undefined || names.some((part) => name.includes(part));
  return { ...lane, contestants: lane.contestants.filter(keep), channel: lane.channel.filter(keep) };
}

async function run(lane: Lane): Promise<Results> {
  const results = new Results();
  await using client = new ClientProcess(lane.clientUnder);
  const attempt = async (what: string, sample: () => Promise<void>) => {
    try {
      await sample();
    } catch (error) {
      results.addFailure(what, error instanceof Error ? error.message : String(error));
    }
  };
  for (let round = 1; round <= plan.rounds; round++) {
    console.error(`${lane.name}: round ${round} of ${plan.rounds}`);
    for (const contestant of lane.contestants) {
      await attempt(contestant.name, async () => {
        const { version, samples } = await sampleHandoffs(contestant, client, plan);
        results.addHandoffs(contestant.name, version, samples);
      });
    }
    for (const contestant of lane.channel) {
      await attempt(`the channel alone of ${contestant.name}`, async () => {
        results.addChannel(contestant.name, await sampleChannel(contestant, plan.seconds));
      });
    }
  }
  return results;
}

function print(lane: Lane, results: Results): void {
  console.log(`\n== ${lane.name}: ${lane.note}`);
  console.log([...results.versions].map(([name, version]) => `${name}: ${version}`).join("; "));
  console.log(TAKEN_NOTE);
  for (const missing of lane.missing) console.log(`Skipped ${missing}`);
  for (const [name, reasons] of results.failures()) {
    console.log(`Failed: ${name}, in ${reasons.length} of ${plan.rounds} rounds: ${reasons[0]}`);
  }
  for (const inFlight of plan.inFlight) console.log(`\n${handoffTable(results, inFlight)}`);
  console.log(`\n${channelTable(results)}`);
  console.log(`\nGoals\n${goalLines(lane.name, results).join("\n")}`);
}
