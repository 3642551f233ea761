// Whether the defects of `deno task mutants` still fit the code. That tests find them, only the task itself shows.
import { assert, assertEquals } from "@std/assert";
import { MUTANTS } from "./mutants.ts";
import { changed } from "../../tools/copy.ts";

Deno.test("each defect has a name of its own, its place in the code, and tests that exist", async () => {
  assertEquals(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
  for (const mutant of MUTANTS) {
    assert((await changed(mutant)).includes(mutant.replacement));
    for (const file of mutant.tests.files) await Deno.stat(new URL(`../../${file}`, import.meta.url));
  }
});
