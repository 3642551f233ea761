/**
 * Plain English: looks for what `tools/prose/rules.ts` lists in the pages of the documentation, and in the comments and
 * messages of the modules that are published.
 *
 *     deno run -A tools/prose.ts [--counts] [FILE…]
 *
 * `--counts` prints a table of files and rules in place of every line. textlint does the work, without the network.
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

/** Something that is not plain. */
export interface ProseProblem {
  readonly path: string;
  readonly line: number;
  /** The name of the rule. */
  readonly rule: string;
  readonly advice: string;
  /** What the file says. */
  readonly found: string;
}

const textlint = new TextlintKernel();
const PLUGINS = [{ pluginId: "markdown", plugin: markdown.default }];
const TEXTLINT_RULES = RULES.map((rule) => {
  const options = { patterns: [{ pattern: `${rule.pattern}`, message: rule.advice }] };
  // Its types do not say that these are the options it is for.
  return { ruleId: rule.name, rule: pattern.default, options } as TextlintKernelRule;
});

/**
 * Looks through a file.
 *
 * @param path Its path, of a page or a module.
 * @param source What is in it.
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

/** A table of how many problems each file has by each rule, and of all. */
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
