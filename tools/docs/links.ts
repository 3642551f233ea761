/**
 * Checks relative links: each file and heading that they name must exist. Links to other hosts are not followed.
 *
 *     deno run -A tools/docs/links.ts [PAGE…]
 *
 * @module
 */
import type { Root } from "npm:@types/mdast@^4.0.4";
import validateLinks from "npm:remark-validate-links@^13.1.0";
import { engine } from "npm:unified-engine@^11.2.2";
import { visit } from "npm:unist-util-visit@^5.1.0";
import process from "node:process";
import { MARKDOWN, pagePaths } from "./pages.ts";

const IN_HTML = /\b(?:src|srcset|href)="([^"]+)"/g;

/** Converts links in HTML, which the check would not find, into links of Markdown. */
function linksOfHtml(): (tree: Root) => void {
  return (tree) =>
    visit(tree, "html", ({ value, position }, index, parent) => {
      const links = [...value.matchAll(IN_HTML)].map(([, url]) => {
        return { type: "link" as const, url: url!, children: [], ...position && { position } };
      });
      parent?.children.splice(index! + 1, 0, ...links);
    });
}

/**
 * Checks pages, and prints the problems.
 *
 * @param pages The paths of the pages.
 * @param to The stream to print to.
 * @returns Whether all links are valid.
 */
export function checkLinks(pages: readonly string[], to: NodeJS.WritableStream): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  engine({
    processor: MARKDOWN().use(linksOfHtml),
    // The address of the repository is unknown, so a link with a host is an external link.
    plugins: [[validateLinks as (...options: unknown[]) => void, { repository: false }]],
    files: [...pages],
    frail: true,
    quiet: true,
    out: false,
    streamError: to,
  }, (error, code) => error ? reject(error) : resolve(code === 0));
  return promise;
}

if (import.meta.main) {
  Deno.chdir(new URL("../..", import.meta.url));
  const pages = Deno.args.length > 0 ? Deno.args : await pagePaths();
  Deno.exit(await checkLinks(pages, process.stderr) ? 0 : 1);
}
