/**
 * Replaces a server again and again under load: `deno task upgrades [--upgrades N]`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { type LoadReport, runUpgrades, startReusePort, startVersions } from "./load.ts";

const options = parseArgs(Deno.args, { string: ["upgrades"], default: { upgrades: "20" } });
const upgrades = Number(options.upgrades);

const lost = print("upgrade() and inherit()", await run(startVersions));
if (Deno.build.os === "linux") print("SO_REUSEPORT, for comparison", await run(startReusePort));
Deno.exit(lost === 0 ? 0 : 1);

async function run(start: typeof startVersions): Promise<LoadReport> {
  await using server = await start();
  return await runUpgrades(server, upgrades);
}

function print(title: string, report: LoadReport): number {
  const { before, during, after, problems, processes, descriptors } = report;
  console.log(`\n${title}: ${processes.length - 1} upgrades, 32 clients, half of them with connections that are kept`);
  console.log("            requests   p50 ms   p99 ms   longest ms");
  for (const [name, phase] of Object.entries({ before, during, after })) {
    const numbers = [phase.p50, phase.p99, phase.longest].map((value) => value.toFixed(1).padStart(9));
    console.log(`  ${name.padEnd(8)}${String(phase.requests).padStart(10)}${numbers.join("")}`);
  }
  const failed = Object.values(problems).reduce((sum, count) => sum + count, 0);
  console.log(`  failed: ${failed}${failed > 0 ? ` ${JSON.stringify(problems)}` : ""}`);
  console.log(`  descriptors: ${descriptors[0]} of the first version, ${descriptors[1]} of the last`);
  return failed;
}
