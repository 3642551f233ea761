// The page about shared sockets names a test for each documented statement; the tests must be there.
import { assert, assertEquals } from "@std/assert";
import { assertTestExists, tableRows } from "../kit/named_tests.ts";

/** The rows of the table of statements: page, statement, test. */
async function statements(): Promise<string[][]> {
  return await tableRows("docs/shared-sockets.md", "| page | statement | test |");
}

Deno.test("every documented statement has a test that exists, or says why it has none", async () => {
  const rows = await statements();
  assert(rows.length > 30);
  for (const [page, statement, proof = ""] of rows) {
    assert(/^[DSHC]( [DSHC])*$/.test(page!) && statement !== "", `${page} | ${statement}`);
    if (!proof.startsWith("no test: ")) await assertTestExists(proof, statement!);
  }
});

Deno.test("every documented error is in the table", async () => {
  const named = (await statements()).map(([, statement]) => statement);
  const errors = named.filter((statement) => /^WSA[A-Z]+$/.test(statement!));
  assertEquals(errors, [
    "WSANOTINITIALISED",
    "WSAENETDOWN",
    "WSAEINVAL",
    "WSAEINPROGRESS",
    "WSAEMFILE",
    "WSAENOBUFS",
    "WSAENOTSOCK",
    "WSAEFAULT",
    "WSASYSCALLFAILURE",
  ]);
});
