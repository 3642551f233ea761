/**
 * Writes `docs/seen.md`: which public functions the tests call, and which options they give, on each system.
 *
 *     deno task seen [--lane linux|windows|macos] [FILE…]
 *     deno run -A tools/seen.ts --check
 *
 * A lane runs its tests in a copy of the project, in which each public function notes its calls. With test files, what
 * they add is added to the page; without, all tests run, and what none of them calls any more is taken away.
 *
 * `--check` compares the page with the public functions and options. Each must be seen on each system, or there must be
 * a reason in `tools/seen/reasons.ts`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { readApi } from "./api/doc.ts";
import { exists } from "./commands.ts";
import { Tree } from "./copy.ts";
import { readModuleGraph } from "./module_graph.ts";
import { markFunctions, RECORDER } from "./seen/marks.ts";
import { type Lane, LANES, printPage, readPage, rowsOf, type Seen } from "./seen/page.ts";
import { type PublicFunction, publicFunctions } from "./seen/public.ts";
import { reasonFor, REASONS } from "./seen/reasons.ts";

const PAGE = "docs/seen.md";
/** It gives each option a value that is refused. */
const NOT_SEEN_BY = ["tests/docs/options_test.ts"];
const ARGUMENTS: Readonly<Record<Lane, readonly string[]>> = {
  linux: ["--lane", "native"],
  windows: ["--lane", "windows"],
  macos: ["--lane", "native", "--preload", "tests/kit/darwin_style.ts"],
};

/** Returns the modules of the library in which the functions note their calls. */
async function markedModules(functions: readonly PublicFunction[]): Promise<Map<string, string>> {
  const paths = [...(await readModuleGraph()).keys()];
  const sources = await Promise.all(paths.map(async (path) => [path, await Deno.readTextFile(path)] as const));
  return markFunctions(new Map(sources), functions);
}

/** Runs the tests of a lane in a marked copy, and returns the rows that were seen. */
async function runLane(
  lane: Lane,
  functions: readonly PublicFunction[],
  files: readonly string[],
): Promise<Set<string>> {
  await using tree = await Tree.copy();
  for (const [path, text] of await markedModules(functions)) await Deno.writeTextFile(`${tree.folder}/${path}`, text);
  await Deno.copyFile("tools/seen/recorder.ts", `${tree.folder}/${RECORDER}`);
  for (const path of NOT_SEEN_BY) await Deno.remove(`${tree.folder}/${path}`);
  const notes = `${tree.folder}/seen`;
  await Deno.mkdir(notes);
  const program = [Deno.execPath(), "run", "--allow-all", "--no-check", "tools/test.ts", ...ARGUMENTS[lane], ...files];
  const { success } = await tree.command(program, { stdin: "null", stdout: "inherit", stderr: "inherit" }, true).spawn()
    .status;
  // What failing tests have called was called.
  if (!success) console.log(`Some tests of the lane ${lane} failed`);
  const seen = new Set<string>();
  for await (const { name } of Deno.readDir(notes)) {
    for (const line of (await Deno.readTextFile(`${notes}/${name}`)).split("\n")) seen.add(line);
  }
  return seen;
}

/** Returns what is wrong with the page. */
function problemsOf(functions: readonly PublicFunction[], seen: Seen): string[] {
  const problems: string[] = [];
  const used = new Set<unknown>();
  const rows = functions.flatMap(rowsOf);
  for (const row of rows) {
    for (const lane of LANES) {
      const reason = reasonFor(lane, row);
      if (reason !== undefined) used.add(reason);
      const isSeen = seen.get(row)?.has(lane);
      const name = row.split("\t").slice(1).join(", ");
      if (isSeen === undefined) problems.push(`${name} is missing`);
      else if (!isSeen && reason === undefined) problems.push(`${name}: no test of the lane ${lane} uses it`);
      else if (isSeen && reason !== undefined) {
        problems.push(`${name}: is used in the lane ${lane}, in spite of "${reason.reason}"`);
      }
    }
  }
  for (const row of seen.keys()) {
    if (!rows.includes(row)) problems.push(`${row.split("\t").slice(1).join(", ")} is not public`);
  }
  for (const reason of REASONS) if (!used.has(reason)) problems.push(`a reason is not needed: ${reason.reason}`);
  return [...new Set(problems)];
}

if (import.meta.main) {
  Deno.chdir(new URL("..", import.meta.url));
  const { check, lane, _: files } = parseArgs(Deno.args, { boolean: ["check"], string: ["lane"] });
  const functions = publicFunctions(await readApi());
  const seen = await exists(PAGE) ? readPage(await Deno.readTextFile(PAGE)) : new Map();
  if (!check) {
    for (const each of LANES.filter((name) => lane === undefined || name === lane)) {
      const found = await runLane(each, functions, files.map(String));
      for (const row of functions.flatMap(rowsOf)) {
        const lanes = seen.get(row) ?? new Set();
        if (files.length === 0) lanes.delete(each);
        if (found.has(row)) lanes.add(each);
        seen.set(row, lanes);
      }
      await Deno.writeTextFile(PAGE, printPage(functions, seen));
    }
  }
  const problems = problemsOf(functions, seen);
  if (check) {
    // A function whose code is not found could not be seen.
    await markedModules(functions);
    if (problems.length === 0 && printPage(functions, seen) !== await Deno.readTextFile(PAGE)) {
      problems.push("is not what `deno task seen` writes");
    }
  }
  for (const problem of problems) console.error(`${PAGE}: ${problem}`);
  Deno.exit(problems.length === 0 ? 0 : 1);
}
