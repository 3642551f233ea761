/**
 * Everything that can be checked without running the tests: `deno task check`.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };
import { pagePaths } from "./docs/pages.ts";

const PACKAGE = ".cache/publish/package";
const ENTRY_POINTS = Object.values(project.exports);
const TIME_LIMIT_MS = 180_000;
/** Stand-ins for JSR's packages; none where the real ones are used. */
const LINKS: readonly string[] = Reflect.get(project, "links") ?? [];

Deno.chdir(new URL("..", import.meta.url));

const CHECKS: [name: string, ...args: string[]][] = [
  ["format", "fmt", "--check", "--quiet"],
  ["lint", "lint", "--quiet"],
  ["types", "check", "--quiet", "."],
  ["documentation pages", "check", "--quiet", "--doc-only", ...await pagePaths()],
  ["links", "run", "--quiet", "--allow-all", "tools/docs/links.ts"],
  ["names", "run", "--quiet", "--allow-all", "tools/docs/names.ts"],
  ["documentation", "doc", "--lint", ...ENTRY_POINTS],
  ["documentation examples", "test", "--quiet", "--doc", "--allow-all", ...ENTRY_POINTS],
  ["workflows", "run", "--quiet", "--allow-all", "tools/workflows.ts"],
  ["publishing", "publish", "--dry-run", "--allow-dirty", "--quiet"],
];

await layOutPackage();
let failed = 0;
for (const [name, ...args] of CHECKS) {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: name === "publishing" ? PACKAGE : ".",
    signal: AbortSignal.timeout(TIME_LIMIT_MS),
  }).output();
  console.log(`${success ? "ok    " : "FAILED"} ${name}`);
  if (success) continue;
  failed++;
  await Deno.stdout.write(stdout);
  await Deno.stdout.write(stderr);
}
Deno.exit(failed === 0 ? 0 : 1);

/**
 * Copies what is published, and puts the stand-ins for JSR's packages beside it: in the project's folder they would be
 * taken for a part of the package.
 */
async function layOutPackage(): Promise<void> {
  await Deno.remove(".cache/publish", { recursive: true }).catch(() => {});
  if (LINKS.length > 0) await copy("links", ".cache/publish/links");
  for (const path of project.publish.include) await copy(path, `${PACKAGE}/${path}`);
  const config = { ...project, links: LINKS.map((link) => link.replace("./", "../")) };
  await Deno.writeTextFile(`${PACKAGE}/deno.json`, JSON.stringify(config, undefined, 2));
}

async function copy(from: string, to: string): Promise<void> {
  const { isDirectory } = await Deno.stat(from);
  await Deno.mkdir(isDirectory ? to : to.replace(/\/[^/]*$/, ""), { recursive: true });
  if (!isDirectory) return await Deno.copyFile(from, to);
  for await (const { name } of Deno.readDir(from)) await copy(`${from}/${name}`, `${to}/${name}`);
}
