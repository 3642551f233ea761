/**
 * Replaces the workers of `handoff serve`, and all of it, again and again under load:
 * `deno task restarts [--restarts N] [--upgrades N] [--workers N] [--distribute HOW]`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { taskArguments } from "../kit/run.ts";
import { printReport, runUpgrades } from "../upgrade/load.ts";
import { type Replacement, startServe } from "./replaceable.ts";

const options = parseArgs(taskArguments(), {
  string: ["restarts", "upgrades", "workers", "distribute"],
  default: { restarts: "20", upgrades: "5", workers: "2" },
});
const [restarts, upgrades] = [Number(options.restarts), Number(options.upgrades)];
const plan = Array.from({ length: restarts + upgrades }, (_, index): Replacement => {
  // Upgrades are spread evenly among the restarts.
  const share = upgrades / (restarts + upgrades);
  return Math.floor((index + 1) * share) > Math.floor(index * share) ? "upgrade" : "restart";
});
let lost = 0;
for (const how of options.distribute === undefined ? ["listener", "connections"] : [options.distribute]) {
  await using server = await startServe(how, Number(options.workers), plan);
  const report = await runUpgrades(server, plan.length);
  lost += printReport(`handoff serve --distribute ${how}: ${restarts} rolling restarts, ${upgrades} upgrades`, report);
}
Deno.exit(lost === 0 ? 0 : 1);
