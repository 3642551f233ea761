/**
 * Bundles programs into one file each with `deno bundle`. This Deno also bundles for the Windows lane, which does not
 * have a bundler.
 *
 * @module
 */
const PROJECT = new URL("..", import.meta.url);
const FOLDER = ".cache/bundles";
const PROGRAMS = ["source", "worker", "http_worker"];

/** The folder of the tests' bundles. */
export const BUNDLES: URL = new URL(`${FOLDER}/`, PROJECT);

/** Bundles the programs again. */
export async function bundlePrograms(): Promise<void> {
  await bundle(`--outdir=${FOLDER}`, ...PROGRAMS.map((name) => `tests/consumer/project/${name}.ts`));
}

/** Runs `deno bundle` in the project's folder. */
export async function bundle(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", ...args],
    cwd: PROJECT,
  }).output();
  if (!success) throw new Error(`Cannot bundle: ${new TextDecoder().decode(stderr)}`);
}
