// The page about shared sockets names a test for each documented statement; the tests must be there.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";

const ROOT = new URL("../../", import.meta.url);

async function readText(path: string): Promise<string> {
  return (await Deno.readTextFile(new URL(path, ROOT))).replaceAll("\r\n", "\n");
}

/** The rows of the table of statements: page, statement, test. */
async function statements(): Promise<string[][]> {
  const [, table = ""] = (await readText("docs/shared-sockets.md")).split("| page | statement | test |\n");
  return table.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| ---"))
    .map((line) => line.slice(2, -2).split(" | "));
}

Deno.test("every documented statement has a test that exists, or says why it has none", async () => {
  const rows = await statements();
  assert(rows.length > 30);
  for (const [page, statement, proof = ""] of rows) {
    assert(/^[DSHC]( [DSHC])*$/.test(page!) && statement !== "", `${page} | ${statement}`);
    if (proof.startsWith("no test: ")) continue;
    const [, file, name] = /^`([a-z_/]+_test\.ts)`: (.+)$/.exec(proof) ?? [];
    assert(file !== undefined && name !== undefined, `"${proof}" names no test`);
    assertStringIncludes(await readText(`tests/${file}`), name, `${file} has no test for "${statement}"`);
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
