/**
 * Kills workers for minutes: `deno task chaos [--connections N] [--seed N]`. With `--storm` sources and targets of 10 000
 * hand-offs are killed and stopped instead; with `--threads N` one of the targets has threads that open connections by two
 * copies of the library. With `--strangers` a rendezvous is attacked.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { taskArguments } from "../kit/run.ts";
import { buildNativeLibrary } from "../../tools/native_library.ts";
import { runChaos } from "./chaos.ts";
import { runStorm } from "./storm.ts";
import { type Attack, runCycling, runFloods } from "./strangers.ts";

const options = parseArgs(taskArguments(), {
  string: ["connections", "seed", "seconds", "threads"],
  boolean: ["storm", "strangers"],
  default: { seed: "1", seconds: "60" },
});
if (options.strangers) await attack(Number(options.seconds));
if (options.storm) await storm(Number(options.connections ?? 10_000), Number(options.seed), options.threads);
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
async function storm(connections: number, seed: number, threads: string | undefined): Promise<never> {
  const report = await runStorm({
    connections,
    seed,
    blows: Math.ceil(connections / 200),
    log: (line) => console.log(line),
    ...threads === undefined ? {} : { threads: Number(threads) },
  });
  console.log(report);
  const { lost, wrong, hung, processes, descriptors, memoryFiles } = report;
  const grown = [descriptors, memoryFiles].some(([before, after]) => after > before);
  Deno.exit(lost.length + wrong.length + hung.length + processes.length === 0 && !grown ? 0 : 1);
}

/** Prints what strangers at a rendezvous get, and what they cost, and ends. */
async function attack(seconds: number): Promise<never> {
  const missing = await buildNativeLibrary("linux");
  if (missing !== undefined) throw new Error(`The attackers are in C, and cannot be built without ${missing}`);
  const { rounds, stolen } = await runCycling(seconds * 1_000);
  console.log(`${rounds} process ids came round again in ${seconds} s: ${stolen} sockets stolen`);
  const attacks: readonly Attack[] = ["floodOwn", "flood", "search"];
  const seen = await runFloods({
    strangers: 4,
    attacks,
    rounds: 7,
    milliseconds: 1_500,
    log: (line) => console.log(line),
  });
  const median = (attack: Attack) => {
    const claims = seen.filter((round) => round.attack === attack).map((round) => round.claims).sort((a, b) => a - b);
    return claims[claims.length >> 1]!;
  };
  const [own, ...others] = attacks.map(median) as [number, ...number[]];
  console.log(
    `claims a second beside the same load elsewhere ${own}; under a flood ${others[0]} (${
      (others[0]! / own).toFixed(2)
    }); under strangers who look for addresses ${others[1]} (${(others[1]! / own).toFixed(2)})`,
  );
  Deno.exit(stolen === 0 && others.every((claims) => claims >= 0.7 * own) ? 0 : 1);
}
