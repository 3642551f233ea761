/**
 * Makes a dry run of publishing: `deno task package` prints the size of the published package, and `--list` prints its
 * files.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };
import { cp } from "node:fs/promises";
import { readModuleGraph } from "./module_graph.ts";

const PROJECT = new URL("..", import.meta.url);
const LAID_OUT = new URL(".cache/publish/", PROJECT);
/** The published files besides the modules; a folder stands for all its files. */
const DOCUMENTS = ["CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md", "deno.json", "docs/"];
/** The stand-ins for JSR packages. Empty if the real packages are used. */
export const LINKS: readonly string[] = Reflect.get(project, "links") ?? [];

/** A file of the package: its path in the package, and its size in bytes. */
interface PublishedFile {
  readonly path: string;
  readonly size: number;
}

/**
 * Copies the published files, and puts the stand-ins for JSR packages next to them. In the project's folder they would
 * be treated as a part of the package. Nothing is fetched.
 *
 * @param folder The folder for `package` and `links`. Its URL ends with a slash.
 * @param include The published files and folders. Defaults to those in deno.json.
 */
export async function layOutPackage(folder: URL, include: string[] = project.publish.include): Promise<void> {
  const from = [...LINKS.map((link) => [link, link]), ...include.map((path) => [path, `package/${path}`])];
  for (const [path, to] of from) await cp(new URL(path!, PROJECT), new URL(to!, folder), { recursive: true });
  const config = { ...project, lock: false, links: LINKS.map((link) => link.replace("./", "../")) };
  await Deno.writeTextFile(new URL("package/deno.json", folder), JSON.stringify(config, undefined, 2));
}

/** Makes the dry run, and returns the files that would be published. */
async function tryPublishing(): Promise<PublishedFile[]> {
  await Deno.remove(LAID_OUT, { recursive: true }).catch(() => {});
  await layOutPackage(LAID_OUT);
  const folder = new URL("package/", LAID_OUT);
  const output = await deno(folder, "publish", "--dry-run", "--allow-dirty");
  const listed = [...output.matchAll(/^ +(file:\S+) \(/gm)].map(([, url]) => url!.slice(folder.href.length));
  return await Promise.all(
    listed.sort().map(async (path) => {
      return { path, size: (await Deno.stat(new URL(path, folder))).size };
    }),
  );
}

/**
 * Returns the files that should be published: the modules that the entry points import, and no other files of their
 * folders.
 */
async function neededFiles(): Promise<string[]> {
  const needed = new Set(DOCUMENTS.filter((path) => !path.endsWith("/")));
  for (const folder of DOCUMENTS.filter((path) => path.endsWith("/"))) {
    for await (const { name } of Deno.readDir(new URL(folder, PROJECT))) needed.add(folder + name);
  }
  return [...needed, ...(await readModuleGraph()).keys()];
}

async function deno(cwd: URL, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd,
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder();
  const output = text.decode(stdout) + text.decode(stderr);
  if (!success) throw new Error(`deno ${args.join(" ")} failed:\n${output}`);
  return output;
}

if (import.meta.main) {
  const files = await tryPublishing();
  const listed = new Set(files.map(({ path }) => path));
  const needed = new Set(await neededFiles());
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  console.log(`${files.length} files, ${bytes} bytes`);
  if (Deno.args.includes("--list")) {
    for (const { path, size } of files) console.log(`${`${size}`.padStart(7)} ${path}`);
  }
  for (const path of listed.difference(needed)) console.error(`${path} is published, and no entry point imports it`);
  for (const path of needed.difference(listed)) console.error(`${path} is needed, and not published`);
  // Pages of the package only have drawings, because a screenshot is larger than all of the text.
  const bitmaps = [...listed].filter((path) => /\.(?:png|jpe?g|gif|webp)$/.test(path));
  for (const path of bitmaps) console.error(`${path} is too large to be published: link to it outside of the package`);
  Deno.exit(listed.symmetricDifference(needed).size + bitmaps.length === 0 ? 0 : 1);
}
