/**
 * Runs all checks except the tests: `deno task check`.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };
import { pagePaths } from "./docs/pages.ts";

const ENTRY_POINTS = Object.values(project.exports);
const TIME_LIMIT_MS = 180_000;

Deno.chdir(new URL("..", import.meta.url));

const CHECKS: [name: string, ...args: string[]][] = [
  ["format", "fmt", "--check", "--quiet"],
  ["lint", "lint", "--quiet"],
  ["types", "check", "--quiet", "."],
  ["documentation pages", "check", "--quiet", "--doc-only", ...await pagePaths()],
  ["structure", "run", "--quiet", "--allow-all", "tools/structure.ts"],
  ["public API", "run", "--quiet", "--allow-all", "tools/api.ts"],
  ["what tests use", "run", "--quiet", "--allow-all", "tools/seen.ts", "--check"],
  ["links", "run", "--quiet", "--allow-all", "tools/docs/links.ts"],
  ["names", "run", "--quiet", "--allow-all", "tools/docs/names.ts"],
  ["prose", "run", "--quiet", "--allow-all", "tools/prose.ts"],
  ["documentation", "doc", "--lint", ...ENTRY_POINTS],
  ["API reference", "doc", "--html", `--name=${project.name}`, "--output=.cache/reference", ...ENTRY_POINTS],
  ["documentation examples", "test", "--quiet", "--doc", "--allow-all", ...ENTRY_POINTS],
  ["workflows", "run", "--quiet", "--allow-all", "tools/workflows.ts"],
  ["publishing", "run", "--quiet", "--allow-all", "tools/package.ts"],
];

let failed = 0;
for (const [name, ...args] of CHECKS) {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    signal: AbortSignal.timeout(TIME_LIMIT_MS),
  }).output();
  const size = success && name === "publishing" ? `: ${new TextDecoder().decode(stdout).trim()}` : "";
  console.log(`${success ? "ok    " : "FAILED"} ${name}${size}`);
  if (success) continue;
  failed++;
  await Deno.stdout.write(stdout);
  await Deno.stdout.write(stderr);
}
Deno.exit(failed === 0 ? 0 : 1);
