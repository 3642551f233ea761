/**
 * Kills workers for minutes: `deno task chaos [--connections N] [--seed N]`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { runChaos } from "./chaos.ts";

const options = parseArgs(Deno.args, {
  string: ["connections", "seed"],
  default: { connections: "100000", seed: "1" },
});
const report = await runChaos({
  connections: Number(options.connections),
  seed: Number(options.seed),
  log: (line) => console.log(line),
});
const { connections, answered, diedWithWorker, lost, wrong, kills, returned, seconds, timeToCommit, memory } = report;
console.log(`
${connections} connections in ${seconds.toFixed(0)} s, ${
  (connections / seconds).toFixed(0)
} a second; seed ${options.seed}
${kills} workers killed; ${returned} offers came back and went to another worker
answered once                     ${answered}
went down with their worker       ${diedWithWorker}
lost before commit                ${lost.length}
answered twice, or another's way  ${wrong.length}
time to commit                    p50 ${timeToCommit.p50.toFixed(2)} ms, p99 ${
  timeToCommit.p99.toFixed(2)
} ms, longest ${timeToCommit.max.toFixed(0)} ms
descriptors of the source         ${report.descriptors[0]} before, ${report.descriptors[1]} after
memory of the source, MiB         ${memory.join(" ")}`);
const { length } = [...lost, ...wrong];
for (const key of [...lost, ...wrong]) console.log(key);
Deno.exit(length === 0 && kills > 0 && report.descriptors[1] <= report.descriptors[0] ? 0 : 1);
