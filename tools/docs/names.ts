/**
 * Names in the documentation: what looks like a name of this library must be exported, and so must all that is promised to
 * stay.
 *
 *     deno run -A tools/docs/names.ts
 *
 * @module
 */
import { visit } from "npm:unist-util-visit@^5.1.0";
import { type Exports, readExports } from "./exports.ts";
import { FOREIGN_NAMES } from "./foreign_names.ts";
import { type Page, pagePaths, type Problem, readPage, report } from "./pages.ts";
import { PUBLIC_NAMES } from "./public_names.ts";

/** `name`, `Name.member` or `variable.member`, maybe with arguments. */
const NAME = /^(?:new )?([A-Za-z_]\w*)(?:\.([A-Za-z_]\w*))?(\(.*\))?$/s;
/** Native names, constants and what has an underscore are not ours: `WSAEINVAL`, `dwServiceFlags1`, `send_fds`. */
const NATIVE = /^(?:[A-Z0-9_]+|[a-z]+_[a-z_]+|(?:WSA|WSP|WSC|WPU)[A-Z]\w*|(?:dw|sz|lp|i)[A-Z]\w*)$/;
/** The name of a file. */
const FILE = /^(?:ts|js|md|json|exe|dll|py)$/;
/** Every error has these. */
const OF_ERRORS = ["message", "cause", "name", "stack"];

/** What the documentation may name. */
class KnownNames {
  readonly #exported: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #members: ReadonlySet<string>;

  constructor(exports: Exports) {
    const all = [...exports.values()].flatMap((names) => [...names]);
    this.#exported = new Map(all.map(([name, { members }]) => [name, members]));
    this.#members = new Set(all.flatMap(([, { members }]) => [...members]));
  }

  /** What is wrong with a piece of code in a text; `undefined` too if it looks like none of ours. */
  problemOf(code: string): string | undefined {
    const [, head = "", member, call] = NAME.exec(code) ?? [];
    if (
      head === "" || head in globalThis || NATIVE.test(head) || NATIVE.test(member ?? "") || FILE.test(member ?? "")
    ) return;
    if (FOREIGN_NAMES.has(member ?? head)) return;
    if (member === undefined) {
      const ours = /^[a-z]+$/.test(head) && call === undefined;
      return ours || this.#exported.has(head) || this.#members.has(head) ? undefined : `${head} is not exported`;
    }
    const members = this.#exported.get(head);
    // Of a constant the members are not known, of a variable only that somebody has such a member.
    if (members?.size === 0 || members?.has(member) || OF_ERRORS.includes(member)) return;
    if (members !== undefined) return `${head} has no ${member}`;
    return this.#members.has(member) ? undefined : `nothing that is exported has a ${member}`;
  }
}

/** The names in a page that nobody exports. */
export function unknownNames({ path, tree }: Page, exports: Exports): Problem[] {
  const known = new KnownNames(exports);
  const problems: Problem[] = [];
  visit(tree, "inlineCode", ({ value, position }) => {
    const text = known.problemOf(value);
    if (text !== undefined) problems.push({ path, line: position?.start.line ?? 0, text });
  });
  return problems;
}

/** Names that were promised to stay, and are not there. */
export function missingNames(exports: Exports): Problem[] {
  const problems: Problem[] = [];
  for (const [entry, names] of Object.entries(PUBLIC_NAMES)) {
    for (const [name, members] of Object.entries(names)) {
      const exported = exports.get(entry)?.get(name);
      const lacking = exported === undefined ? [name] : members.filter((member) => !exported.members.has(member));
      for (const missing of lacking) {
        problems.push({ path: entry, line: 0, text: `${name}: ${missing} is not exported` });
      }
    }
  }
  return problems;
}

if (import.meta.main) {
  const exports = await readExports();
  const problems = missingNames(exports);
  for (const path of await pagePaths()) {
    // What changed is told in the names of its time.
    if (path !== "CHANGELOG.md" && path !== "docs/renames.md") {
      problems.push(...unknownNames(await readPage(path), exports));
    }
  }
  report(problems);
}
