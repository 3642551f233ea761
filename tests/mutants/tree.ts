/**
 * A copy of the project to put defects into.
 *
 * @module
 */

const PROJECT = new URL("../../", import.meta.url);
/** What the lanes have built for the tests. */
const BUILT = ["c", "native"];

/** The project's cache, with Wine in it. */
export const CACHE: string = new URL(".cache", PROJECT).pathname;

/** One text of one file, and what stands there instead. */
export interface Change {
  /** Path from the project's folder. */
  readonly file: string;
  /** Occurs there exactly once. */
  readonly text: string;
  readonly replacement: string;
}

/**
 * What the project's file is with the change.
 *
 * @throws {Error} If the text does not occur exactly once: the code has changed since, and the defect must follow.
 */
export async function changed({ file, text, replacement }: Change): Promise<string> {
  const before = await Deno.readTextFile(new URL(file, PROJECT));
  const times = before.split(text).length - 1;
  if (times !== 1) throw new Error(`${file} has ${times} times, and not once: ${text}`);
  return before.replace(text, () => replacement);
}

/** The files of the working tree as they are, in a folder of their own that goes with this object. */
export class Tree implements AsyncDisposable {
  private constructor(readonly folder: string) {}

  static async copy(): Promise<Tree> {
    const tree = new Tree(await Deno.makeTempDir({ prefix: "mutants-" }));
    for (const file of await files()) {
      const to = `${tree.folder}/${file}`;
      await Deno.mkdir(to.replace(/\/[^/]*$/, ""), { recursive: true });
      await Deno.copyFile(new URL(file, PROJECT), to);
    }
    await Deno.mkdir(`${tree.folder}/.cache`);
    for (const name of BUILT) await Deno.symlink(`${CACHE}/${name}`, `${tree.folder}/.cache/${name}`);
    return tree;
  }

  /** Makes a change that lasts as long as the returned object. */
  async change(change: Change): Promise<AsyncDisposable> {
    const path = `${this.folder}/${change.file}`;
    const before = await Deno.readTextFile(path);
    await Deno.writeTextFile(path, await changed(change));
    return { [Symbol.asyncDispose]: () => Deno.writeTextFile(path, before) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** What git knows or would take, and is there. */
async function files(): Promise<string[]> {
  const args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const { success, stdout } = await new Deno.Command("git", { args, cwd: PROJECT, stderr: "inherit" }).output();
  if (!success) throw new Error("git does not tell the project's files");
  const paths = new TextDecoder().decode(stdout).split("\0").filter((path) => path !== "");
  const there = await Promise.all(paths.map((path) => Deno.stat(new URL(path, PROJECT)).then(() => true, () => false)));
  return paths.filter((_, index) => there[index]);
}
