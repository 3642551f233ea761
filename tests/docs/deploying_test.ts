// The page about deploying names a test for each of its recipes; the tests must be there.
import { assert } from "@std/assert";
import { assertTestExists, tableRows } from "../kit/named_tests.ts";

Deno.test("every recipe of deploying has a test that exists", async () => {
  const rows = await tableRows("docs/deploying.md", "| recipe | test |");
  assert(rows.length > 5);
  for (const [recipe, test] of rows) await assertTestExists(test!, recipe!);
});
