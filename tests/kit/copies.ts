/** A second copy of the library, as another version of it would be: the same modules at another path. */
import project from "../../deno.json" with { type: "json" };

/** A copy of the library in a folder of the project, which is removed at the end. */
export interface LibraryCopy extends AsyncDisposable {
  /** The URL of its `mod.ts`. */
  readonly url: string;
}

/** Copies the published modules. */
export async function copyLibrary(): Promise<LibraryCopy> {
  const root = new URL("../../", import.meta.url);
  const folder = new URL(`.cache/copy-${crypto.randomUUID()}/`, root);
  for (const path of project.publish.include) {
    if (path === "mod.ts" || !path.includes(".") && path !== "docs") await copyModules(path, root, folder);
  }
  return {
    url: new URL("mod.ts", folder).href,
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

async function copyModules(path: string, from: URL, to: URL): Promise<void> {
  if (path.endsWith(".ts")) {
    await Deno.mkdir(new URL(".", new URL(path, to)), { recursive: true });
    await Deno.copyFile(new URL(path, from), new URL(path, to));
  } else if (!path.split("/").at(-1)!.includes(".")) {
    if (!(await Deno.stat(new URL(path, from))).isDirectory) return;
    for await (const { name } of Deno.readDir(new URL(path, from))) await copyModules(`${path}/${name}`, from, to);
  }
}
