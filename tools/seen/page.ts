/**
 * The page with the table: writing it, and reading it again.
 *
 * @module
 */
import project from "../../deno.json" with { type: "json" };
import type { PublicFunction } from "./public.ts";
import { reasonFor, REASONS } from "./reasons.ts";

/** The lanes, in the order of the table's columns. */
export const LANES = ["linux", "windows", "macos"] as const;
/** Where tests run. */
export type Lane = typeof LANES[number];
/** A row → the lanes in which it was seen. Each function and each option has a row. */
export type Seen = Map<string, Set<Lane>>;

const HEAD = `# What the tests use

Written by \`deno task seen\`, which runs the tests on a copy of the library in which every public function notes its
calls. A function is *seen* if a test, or a program that it starts, has called it. An option is seen if it was given.
\`tests/docs/options_test.ts\`, which gives every option values that are refused, does not count.

* **Linux**: the native lane.
* **Windows**: the Windows build of Deno. On Linux, that is under Wine.
* **macOS**: the code paths of macOS, on Linux (\`tests/kit/darwin_style.ts\`). Nothing in this column ran on a Mac.
`;
const COLUMNS = "| | Linux | Windows | macOS |\n| --- | --- | --- | --- |\n";
const SEEN = "seen";
const NOT_SEEN = "**not seen**";

/** Returns the rows of a function: its own, and one for each option. */
export function rowsOf({ entry, name, options }: PublicFunction): string[] {
  return [`${entry}\t${name}`, ...options.map((option) => `${entry}\t${name}\t${option.name}`)];
}

/** Writes the page. */
export function printPage(functions: readonly PublicFunction[], seen: Seen): string {
  const sections = Map.groupBy(functions, ({ entry }) => entry);
  const rows = functions.flatMap(rowsOf);
  const totals = LANES.map((lane) => rows.filter((row) => seen.get(row)?.has(lane)).length);
  const page = [
    HEAD,
    `Of ${rows.length} functions and options, ${totals[0]} are seen on Linux, ${totals[1]} in the Windows lane and ${
      totals[2]
    } in the\ncode paths of macOS. For the others, the table has the number of a reason:\n`,
    REASONS.map(({ reason }, index) => `${index + 1}. ${reason}\n`).join(""),
  ];
  for (const [entry, functions] of sections) {
    const lines = functions.flatMap(rowsOf).map((row) => {
      const [, name, option] = row.split("\t");
      const label = option === undefined ? `\`${name}\`` : `\`${name}\`, \`${option}\``;
      return `| ${[label, ...LANES.map((lane) => cellOf(row, lane, seen))].join(" | ")} |\n`;
    });
    page.push(`## ${titleOf(entry)}\n\n${COLUMNS}${lines.join("")}`);
  }
  return page.join("\n");
}

/** Reads the page again. */
export function readPage(text: string): Seen {
  const seen: Seen = new Map();
  let entry = "";
  for (const line of text.split("\n")) {
    entry = /^## (.*)/.exec(line)?.[1]?.replace(titleOf("."), ".") ?? entry;
    const [, label, rest] = /^\| `(.*?)` \| (.*) \|$/.exec(line) ?? [];
    if (label === undefined || rest === undefined) continue;
    const cells = rest.split(" | ");
    const row = [entry, ...label.split("`, `")].join("\t");
    seen.set(row, new Set(LANES.filter((_, index) => cells[index] === SEEN)));
  }
  return seen;
}

function titleOf(entry: string): string {
  return entry.replace(".", project.name);
}

function cellOf(row: string, lane: Lane, seen: Seen): string {
  if (seen.get(row)?.has(lane)) return SEEN;
  const reason = reasonFor(lane, row);
  return reason === undefined ? NOT_SEEN : `${REASONS.indexOf(reason) + 1}`;
}
