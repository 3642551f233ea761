/**
 * Replaces a server again and again under load: `deno task upgrades [--upgrades N]`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { taskArguments } from "../kit/run.ts";
import { type LoadReport, printReport, runUpgrades, startReusePort, startVersions } from "./load.ts";

const options = parseArgs(taskArguments(), { string: ["upgrades"], default: { upgrades: "20" } });
const upgrades = Number(options.upgrades);

const lost = printReport(`upgrade() and inherit(), ${upgrades} upgrades`, await run(startVersions));
if (Deno.build.os === "linux") printReport("SO_REUSEPORT, for comparison", await run(startReusePort));
Deno.exit(lost === 0 ? 0 : 1);

async function run(start: typeof startVersions): Promise<LoadReport> {
  await using server = await start();
  return await runUpgrades(server, upgrades);
}
