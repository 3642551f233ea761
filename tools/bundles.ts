/**
 * Programs as one file each, made by `deno bundle`: by this Deno for the Windows lane too, where there is no bundler.
 *
 * @module
 */
const PROJECT = new URL("..", import.meta.url);
const FOLDER = ".cache/bundles";
const PROGRAMS = ["source", "worker", "http_worker"];

/** Where those of the tests are. */
export const BUNDLES: URL = new URL(`${FOLDER}/`, PROJECT);

/** Makes them anew. */
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
