/**
 * Compares the public API with the snapshot in `tools/api`, which has one file for each entry point.
 *
 *     deno run -A tools/api.ts [--update]
 *
 * Prints the differences, and fails if there are any. `--update` writes the snapshot again.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { createTwoFilesPatch } from "npm:diff@^9.0.0";
import { printExports } from "./api/declarations.ts";
import { readApi } from "./api/doc.ts";
import { exists } from "./commands.ts";

const FOLDER = "tools/api";

/** Returns the difference of two texts, in the format of `diff -u`; empty if they are equal. */
export function difference(path: string, before: string, after: string): string {
  if (before === after) return "";
  return createTwoFilesPatch(path, path, before, after, "written down", "exported", { context: 0 });
}

if (import.meta.main) {
  Deno.chdir(new URL("..", import.meta.url));
  const { update } = parseArgs(Deno.args, { boolean: ["update"] });
  const reports = new Map<string, string>();
  for (const [name, exports] of await readApi()) {
    reports.set(`${FOLDER}/${name === "." ? "mod" : name.slice("./".length)}.txt`, printExports(exports));
  }
  for await (const { name } of Deno.readDir(FOLDER)) {
    // An entry point that was removed does not export anything.
    const path = `${FOLDER}/${name}`;
    if (name.endsWith(".txt") && !reports.has(path)) reports.set(path, "");
  }

  let differs = false;
  for (const [path, after] of reports) {
    const before = await exists(path) ? await Deno.readTextFile(path) : "";
    if (before === after) continue;
    differs = true;
    if (!update) console.error(difference(path, before, after));
    else if (after === "") await Deno.remove(path);
    else await Deno.writeTextFile(path, after);
  }
  if (differs && !update) {
    console.error("The public API differs from what is written down. If that is meant, run tools/api.ts --update");
    Deno.exit(1);
  }
}
