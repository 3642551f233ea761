// Everything that names the version of the library names the same one.
import { assert, assertEquals } from "@std/assert";
import project from "../../deno.json" with { type: "json" };
import { pagePaths } from "../../tools/docs/pages.ts";
import { readModuleGraph } from "../../tools/module_graph.ts";

/** The files are the same on every system. */
const once = { ignore: Deno.build.os === "windows" };

Deno.test(
  "pages, forms and comments name the version of deno.json, and the changelog begins with it",
  once,
  async () => {
    const forms = [...Deno.readDirSync(".github/ISSUE_TEMPLATE")].map(({ name }) => `.github/ISSUE_TEMPLATE/${name}`);
    let named = 0;
    for (const file of [...await pagePaths(), ...forms, ...(await readModuleGraph()).keys()]) {
      for (const [, version] of (await Deno.readTextFile(file)).matchAll(/@winsock\/handoff@\^?(\d[\w.-]*)/g)) {
        assertEquals(version, project.version, file);
        named++;
      }
    }
    assert(named > 5);
    assertEquals(/^## (.*)$/m.exec(await Deno.readTextFile("CHANGELOG.md"))?.[1], project.version);
  },
);
