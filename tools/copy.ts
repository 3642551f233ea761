/**
 * A copy of the project that may be changed.
 *
 * @module
 */
import type { CommandStreams } from "./windows.ts";

const PROJECT = new URL("../", import.meta.url);
/** What the lanes have built for the tests. */
const BUILT = ["c", "native"];

/** The project's cache, with Wine in it. */
const CACHE: string = new URL(".cache", PROJECT).pathname;

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
    const tree = new Tree(await Deno.makeTempDir({ prefix: "project-" }));
    for (const file of await files()) {
      const to = `${tree.folder}/${file}`;
      await Deno.mkdir(to.replace(/\/[^/]*$/, ""), { recursive: true });
      await Deno.copyFile(new URL(file, PROJECT), to);
    }
    await Deno.mkdir(`${tree.folder}/.cache`);
    for (const name of BUILT) await Deno.symlink(`${CACHE}/${name}`, `${tree.folder}/.cache/${name}`);
    return tree;
  }

  /**
   * A program in the copy, which may leave processes behind. As root each run has namespaces of its own, and what is left
   * goes with them.
   *
   * @param needsCache Whether it has the project's cache in the copy, as Wine needs it, which follows no link out of it.
   */
  command(program: string[], streams: CommandStreams, needsCache: boolean): Deno.Command {
    const options: Deno.CommandOptions = { ...streams, cwd: this.folder };
    if (Deno.uid() !== 0) return new Deno.Command(program[0]!, { ...options, args: program.slice(1) });
    // The shell stays, for the first process of a namespace is to be none of the program's.
    const script = `${needsCache ? 'mount --bind "$0" .cache &&' : ""} "$@"; exit $?`;
    const namespaces = ["--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "--propagation", "private"];
    const args = [...namespaces, "sh", "-c", script, CACHE, ...program];
    return new Deno.Command("unshare", { ...options, args });
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
