// The prose linter finds what it is there to find, in pages, comments and messages, and leaves code alone.
import { assertEquals } from "@std/assert";
import { proseProblems } from "../../tools/prose.ts";

/** What is found in a file: the line and the rule. */
async function found(path: string, source: string): Promise<string[]> {
  return (await proseProblems(path, source)).map(({ line, rule }) => `${line} ${rule}`);
}

const PAGE = `\
# Whoever reads this

It is
no page, there is no page, and it is no longer one. \`nobody\` is a name; nobody is not.

\`\`\`ts
// Nobody reads this.
const nobody = 1;
\`\`\`
`;

const MODULE = `\
/**
 * It was given
 * up.
 *
 *     const nobody = 1;
 *
 * @param options How.
 * @param path The path.
 *
 * @example With a title
 * \`\`\`ts
 * whoever({}, "");
 * \`\`\`
 *
 * @example
 * \`\`\`ts
 * whoever({}, "");
 * \`\`\`
 */
export function whoever(options: unknown, path: string): void {
  // On two lines: it is
  // none.
  if (path === "nobody") throw new Error(\`\${path} is no path\`, { cause: "of those on their way" });
}
`;

Deno.test("words of a page are found, and not those in code", async () => {
  assertEquals(await found("docs/page.md", PAGE), ["1 whoever", "3 is-no", "4 nobody", "7 nobody"]);
});

Deno.test("words in comments and messages of a module are found, and not those in code", async () => {
  assertEquals(await found("sockets/module.ts", MODULE), [
    "2 given-up",
    "7 one-word-param",
    "15 example-title",
    "21 is-none",
    "23 is-no",
    "23 on-its-way",
  ]);
});
