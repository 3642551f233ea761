// The paths of libraries that pages, tasks and comments name are those that the library looks for.
import { assert, assertEquals } from "@std/assert";
import { KERNEL32_PATH, WS2_32_PATH } from "../../ffi/library.ts";
import { DARWIN } from "../../ffi/unix/darwin.ts";
import { GLIBC_PATHS } from "../../ffi/unix/linux.ts";
import { pagePaths } from "../../tools/docs/pages.ts";
import { readModuleGraph } from "../../tools/module_graph.ts";

/** The files are the same on every system. */
const once = { ignore: Deno.build.os === "windows" };

/** Every path on every system. */
const PATHS = new Set([
  GLIBC_PATHS.x86_64[0],
  ...GLIBC_PATHS.aarch64,
  ...DARWIN.libraryPaths,
  WS2_32_PATH,
  KERNEL32_PATH,
]);

/** The paths in each `--allow-ffi=` of a text, without those that a shell or a template fills in. */
function grants(text: string): string[][] {
  return [...text.matchAll(/--allow-ffi=((?:\/|[A-Z]:)[^\s`"')]+)/g)].map(([, paths]) => paths!.split(","));
}

Deno.test(
  "a task that runs on every system is granted every path, in the order in which the library looks for them",
  once,
  async () => {
    const { tasks } = JSON.parse(await Deno.readTextFile("deno.json")) as {
      tasks: Record<string, { command: string }>;
    };
    for (const name of ["demo", "live-view"]) assertEquals(grants(tasks[name]!.command), [[...PATHS]], name);
    assertEquals(grants(tasks["demo:windows"]!.command), [[WS2_32_PATH, KERNEL32_PATH]]);
  },
);

Deno.test("pages, examples and comments name paths that the library looks for", once, async () => {
  const examples = [...Deno.readDirSync("examples")].filter(({ isFile }) => isFile).map(({ name }) =>
    `examples/${name}`
  );
  const files = [...await pagePaths(), ...(await readModuleGraph()).keys(), ...examples];
  let named = 0;
  for (const file of files) {
    for (const path of grants(await Deno.readTextFile(file)).flat()) {
      assert(PATHS.has(path), `${file} names ${path}`);
      named++;
    }
  }
  assert(named > 20);
});

Deno.test("the pages have the whole list for Linux", once, async () => {
  const page = await Deno.readTextFile("docs/permissions.md");
  for (const path of [...GLIBC_PATHS.x86_64, ...GLIBC_PATHS.aarch64]) assert(page.includes(`\`${path}\``), path);
});
