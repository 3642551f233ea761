/**
 * Kills workers for minutes: `deno task chaos [--connections N] [--seed N]`. With `--storm` sources and targets of 10 000
 * hand-offs are killed and stopped instead.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { runChaos } from "./chaos.ts";
import { runStorm } from "./storm.ts";

const options = parseArgs(Deno.args, {
  string: ["connections", "seed"],
  boolean: ["storm"],
  default: { seed: "1" },
});
if (options.storm) await storm(Number(options.connections ?? 10_000), Number(options.seed));
const report = await runChaos({
  connections: Number(options.connections ?? 100_000),
  seed: Number(options.seed),
  log: (line) => console.log(line),
});
const { connections, answered, diedWithWorker, lost, wrong, kills, returned, seconds, timeToTake, memory } = report;
console.log(`
${connections} connections in ${seconds.toFixed(0)} s, ${
  (connections / seconds).toFixed(0)
} a second; seed ${options.seed}
${kills} workers killed; ${returned} offers came back and went to another worker
answered once                     ${answered}
went down with their worker       ${diedWithWorker}
lost before being taken             ${lost.length}
answered twice, or another's way  ${wrong.length}
time to commit                    p50 ${timeToTake.p50.toFixed(2)} ms, p99 ${timeToTake.p99.toFixed(2)} ms, longest ${
  timeToTake.max.toFixed(0)
} ms
descriptors of the source         ${report.descriptors[0]} before, ${report.descriptors[1]} after
memory of the source, MiB         ${memory.join(" ")}`);
const { length } = [...lost, ...wrong];
for (const key of [...lost, ...wrong]) console.log(key);
Deno.exit(length === 0 && kills > 0 && report.descriptors[1] <= report.descriptors[0] ? 0 : 1);

/** Prints what became of the connections, and ends. */
async function storm(connections: number, seed: number): Promise<never> {
  const blows = Math.ceil(connections / 200);
  const report = await runStorm({ connections, seed, blows, log: (line) => console.log(line) });
  console.log(report);
  const { lost, wrong, hung, descriptors: [before, after] } = report;
  Deno.exit(lost.length + wrong.length + hung.length === 0 && after <= before ? 0 : 1);
}
