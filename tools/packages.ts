/**
 * Fetches the npm packages of the project, and writes deno.lock. Tests and examples need the packages, because their
 * processes run with `--cached-only`.
 *
 *     deno run -A --no-lock tools/packages.ts
 *
 * Writes deno.lock again, with the newest versions that the imports allow.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };

const PROJECT = new URL("..", import.meta.url);
const LOCK = new URL("deno.lock", PROJECT);
/** The folders of modules whose packages must be available while tests run. */
const TESTED = ["tests", "examples", "links"];

/**
 * Fetches the missing packages.
 *
 * @param env The environment variables that choose the cache of Deno. Defaults to the cache of this Deno.
 */
export async function fetchPackages(env: Record<string, string> = {}): Promise<void> {
  const entryPoints: string[] = [];
  for (const folder of TESTED) entryPoints.push(...await modulesIn(folder));
  await install(entryPoints, env);
  // A project without this lock file chooses versions itself, from lists that are only fetched when they are needed.
  await install([...Object.values(project.exports), ...await modulesIn("links")], env, "--no-lock");
}

/** Writes deno.lock again. */
async function lockPackages(): Promise<void> {
  const entryPoints: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(PROJECT)) {
    if (isDirectory && !name.startsWith(".") && !project.exclude.includes(name)) {
      entryPoints.push(...await modulesIn(name));
    }
  }
  await Deno.remove(LOCK).catch(() => {});
  await install([...Object.values(project.exports), ...entryPoints.sort()], {}, "--frozen=false");
}

async function install(entryPoints: string[], env: Record<string, string>, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["install", "--quiet", ...args, "--entrypoint", ...entryPoints],
    cwd: PROJECT,
    env,
  }).output();
  if (!success) throw new Error(`Cannot fetch the packages: ${new TextDecoder().decode(stderr)}`);
}

async function modulesIn(folder: string): Promise<string[]> {
  const modules: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, PROJECT))) {
    if (isDirectory) modules.push(...await modulesIn(`${folder}/${name}`));
    else if (name.endsWith(".ts")) modules.push(`${folder}/${name}`);
  }
  return modules;
}

if (import.meta.main) await lockPackages();
