/**
 * Looks for the phrases in `tools/prose/rules.ts` in pages, and in the comments and messages of published modules.
 *
 *     deno run -A tools/prose.ts [--counts] [FILE…]
 *
 * `--counts` prints a table of files and rules instead of lines. It uses textlint, which does not need the network.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { TextlintKernel, type TextlintKernelRule } from "npm:@textlint/kernel@^15.8.0";
import markdown from "npm:@textlint/textlint-plugin-markdown@^15.8.0";
import pattern from "npm:@textlint-rule/textlint-rule-pattern@^2.0.2";
import { pagePaths } from "./docs/pages.ts";
import { readModuleGraph } from "./module_graph.ts";
import { RULES } from "./prose/rules.ts";
import { proseOf } from "./prose/sources.ts";

/** A phrase that is not plain English. */
export interface ProseProblem {
  readonly path: string;
  readonly line: number;
  /** The name of the rule. */
  readonly rule: string;
  readonly advice: string;
  /** The phrase in the file. */
  readonly found: string;
}

const textlint = new TextlintKernel();
const PLUGINS = [{ pluginId: "markdown", plugin: markdown.default }];
const TEXTLINT_RULES = RULES.map((rule) => {
  const options = { patterns: [{ pattern: `${rule.pattern}`, message: rule.advice }] };
  // The types of textlint do not declare these options.
  return { ruleId: rule.name, rule: pattern.default, options } as TextlintKernelRule;
});

/**
 * Looks for phrases in a file.
 *
 * @param path The path of a page or a module.
 * @param source The content of the file.
 */
export async function proseProblems(path: string, source: string): Promise<ProseProblem[]> {
  const problems: ProseProblem[] = [];
  for (const { text, lines } of proseOf(path, source)) {
    const { messages } = await textlint.lintText(text, {
      ext: ".md",
      filePath: path,
      plugins: PLUGINS,
      rules: TEXTLINT_RULES,
    });
    for (const { ruleId: rule, message: advice, range, loc } of messages) {
      const found = text.slice(...range).replace(/\s+/g, " ");
      problems.push({ path, line: lines[loc.start.line - 1]!, rule, advice, found });
    }
  }
  return problems;
}

/** Returns a table with the number of problems by file and rule, and the totals. */
function countsOf(problems: readonly ProseProblem[]): string {
  const names = RULES.map(({ name }) => name);
  const row = (title: string, of: readonly ProseProblem[]) => {
    const counts = names.map((name) => `${of.filter(({ rule }) => rule === name).length || ""}`.padStart(name.length));
    return [`${of.length}`.padStart(5), ...counts, title].join("  ");
  };
  const byFile = [...Map.groupBy(problems, ({ path }) => path)].toSorted(([, a], [, b]) => b.length - a.length);
  return [
    ["  all", ...names, "file"].join("  "),
    ...byFile.map(([path, of]) => row(path, of)),
    row("in all files", problems),
  ].join("\n");
}

if (import.meta.main) {
  Deno.chdir(new URL("..", import.meta.url));
  const { counts, _: files } = parseArgs(Deno.args, { boolean: ["counts"], string: ["_"] });
  const paths = files.length > 0 ? files.map(String) : [...await pagePaths(), ...(await readModuleGraph()).keys()];
  const problems: ProseProblem[] = [];
  for (const path of paths) problems.push(...await proseProblems(path, await Deno.readTextFile(path)));
  if (counts) console.log(countsOf(problems));
  else {for (const { path, line, rule, found, advice } of problems) {
      console.error(`${path}:${line}: ${rule}: “${found}”: ${advice}`);
    }}
  Deno.exit(problems.length === 0 ? 0 : 1);
}
