// The page for a security reviewer names a test for each promise, and for each call that can run out of descriptors.
import { assert } from "@std/assert";
import { assertTestExists, readText, tableRows } from "../kit/named_tests.ts";

const PAGE = "docs/security.md";
const TABLES: Readonly<Record<string, number>> = {
  "| promise | what holds it | test |": 30,
  "| where | system call | what happens | test |": 15,
};

for (const [head, least] of Object.entries(TABLES)) {
  Deno.test(`every row of ${head} has a test that exists`, async () => {
    const rows = await tableRows(PAGE, head);
    assert(rows.length >= least, `${rows.length} rows`);
    const cells = head.split(" | ").length;
    for (const row of rows) {
      assert(row.length === cells && row.every((cell) => cell !== ""), row.join(" | "));
      await assertTestExists(row.at(-1)!, row[0]!);
    }
  });
}

Deno.test("what Windows guarantees has its source", async () => {
  const rows = await tableRows(PAGE, "| question | what Windows guarantees, and where | what the library adds |");
  for (const [question, guarantee] of rows) {
    assert(
      /\(https:\/\/learn\.microsoft\.com\//.test(guarantee!) || guarantee!.includes("there is no access list"),
      question,
    );
  }
});

Deno.test("a reviewer finds the page", async () => {
  for (const page of ["README.md", "SECURITY.md", "docs/permissions.md"]) {
    assert(/\]\((?:\.\/)?(?:docs\/)?security\.md\)/.test(await readText(page)), page);
  }
});
