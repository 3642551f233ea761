/**
 * The npm packages that tests and examples use. Their processes run with `--cached-only`, so they must be there.
 *
 * @module
 */
const PROJECT = new URL("..", import.meta.url);
const FOLDERS = ["tests", "examples", "links"];

/**
 * Fetches what is not there yet.
 *
 * @param env Where to, as Deno's environment variables say it. Default: this Deno's own cache.
 */
export async function fetchPackages(env: Record<string, string> = {}): Promise<void> {
  const entryPoints: string[] = [];
  for (const folder of FOLDERS) for await (const file of typescriptFiles(folder)) entryPoints.push(file);
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["install", "--quiet", "--entrypoint", ...entryPoints],
    cwd: PROJECT,
    env,
  }).output();
  if (!success) throw new Error(`Cannot fetch the packages: ${new TextDecoder().decode(stderr)}`);
}

async function* typescriptFiles(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, PROJECT))) {
    if (isDirectory) yield* typescriptFiles(`${folder}/${name}`);
    else if (name.endsWith(".ts")) yield `${folder}/${name}`;
  }
}
