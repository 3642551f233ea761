/** Tests that a page of documentation names, as `file_test.ts`: name. */
import { assert, assertStringIncludes } from "@std/assert";

const ROOT = new URL("../../", import.meta.url);

/** The text of a file of the project. */
export async function readText(path: string): Promise<string> {
  return (await Deno.readTextFile(new URL(path, ROOT))).replaceAll("\r\n", "\n");
}

/** The rows of the table with this first row, cell by cell. */
export async function tableRows(path: string, head: string): Promise<string[][]> {
  const [, table] = (await readText(path)).split(`${head}\n`);
  assert(table !== undefined, `${path} has no table ${head}`);
  const [rows] = table.split("\n\n");
  return rows!.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| ---"))
    .map((line) => line.slice(2, -2).split(" | "));
}

/** Asserts that the test of a cell is there. */
export async function assertTestExists(cell: string, what: string): Promise<void> {
  const [, file, name] = /^`([a-z_/]+_test\.ts)`: (.+)$/.exec(cell) ?? [];
  assert(file !== undefined && name !== undefined, `"${cell}" names no test`);
  assertStringIncludes(await readText(`tests/${file}`), name, `${file} has no test for "${what}"`);
}
