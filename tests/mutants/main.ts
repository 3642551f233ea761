/**
 * Puts defects into a copy of the project, one at a time, and expects a test to fail of each:
 * `deno task mutants [NAME…] [--lane native|windows]`, on Linux.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { taskArguments } from "../kit/run.ts";
import { Tree } from "../../tools/copy.ts";
import { type Mutant, MUTANTS } from "./mutants.ts";
import { runTests, type Tests } from "./run.ts";

/** How long tests may take without a defect, and how much longer with one: some wait in vain then. */
const LIMIT_MS = 300_000;
const WAITING_MS = 60_000;

const options = parseArgs(taskArguments(), { string: ["lane"] });
const names: string[] = options._.map(String);
const unknown = names.filter((name) => !MUTANTS.some((mutant) => mutant.name === name));
if (unknown.length > 0) throw new Error(`There is no defect named ${unknown.join(", ")}`);
const chosen = MUTANTS.filter(({ name, tests: { lane = "native" } }) =>
  (names.length === 0 || names.includes(name)) && (options.lane === undefined || options.lane === lane)
);

/** How long tests take without a defect, in milliseconds; the same tests are run once. */
const clean = new Map<string, number>();
let killed = 0;
{
  await using tree = await Tree.copy();
  for (const mutant of chosen) {
    const milliseconds = await timeWithoutDefect(tree, mutant.tests);
    const { killer, seconds } = await tryOut(tree, mutant, milliseconds + WAITING_MS);
    if (killer !== undefined) killed++;
    const time = `${seconds.toFixed(0)} s`.padStart(6);
    console.log(`${mutant.name.padEnd(28)} ${time}  ${killer ?? `SURVIVES: ${mutant.breaks}`}`);
  }
}
console.log(`\n${killed} of ${chosen.length} defects made a test fail`);
Deno.exit(chosen.length > 0 && killed === chosen.length ? 0 : 1);

async function timeWithoutDefect(tree: Tree, tests: Tests): Promise<number> {
  const key = JSON.stringify(tests);
  const known = clean.get(key);
  if (known !== undefined) return known;
  const { passed, failed, timedOut, seconds } = await runTests(tree, tests, LIMIT_MS);
  if (passed === 0 || failed.length > 0 || timedOut) {
    const what = timedOut ? "take too long" : failed.length > 0 ? `fail (${failed.join(", ")})` : "do not run";
    throw new Error(`Without a defect, the tests ${what}: ${key}`);
  }
  clean.set(key, seconds * 1000);
  return seconds * 1000;
}

/** The test that failed, if one did. */
async function tryOut(
  tree: Tree,
  mutant: Mutant,
  limit: number,
): Promise<{ killer: string | undefined; seconds: number }> {
  await using _defect = await tree.change(mutant);
  const { passed, failed, timedOut, seconds } = await runTests(tree, mutant.tests, limit);
  // A defect that keeps the modules from loading says nothing about the tests.
  if (passed + failed.length === 0 && !timedOut) throw new Error(`With the defect ${mutant.name} no test runs`);
  return { killer: timedOut ? "the tests no longer end" : failed[0], seconds };
}
