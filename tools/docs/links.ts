/**
 * Relative links: every file and every heading they name must be there. Links to other hosts are not followed.
 *
 *     deno run -A tools/docs/links.ts
 *
 * @module
 */
import Slugger from "npm:github-slugger@^2.0.0";
import { toString } from "npm:mdast-util-to-string@^4.0.0";
import { visit } from "npm:unist-util-visit@^5.1.0";
import { exists } from "../commands.ts";
import { type Page, pagePaths, parsePage, type Problem, readPage, report } from "./pages.ts";

/** Folders whose docstrings are read. */
const CODE = ["structs", "ffi", "spi", "sockets", "handoff", "interop", "http", "cli", "examples"];
const IN_HTML = /\b(?:src|srcset|href)="([^"]+)"/g;
const IN_DOCSTRING = /\]\((\.{1,2}\/[^)\s]+)\)/g;

/** The links of a page, in markdown and in HTML. */
export function linksOf({ tree }: Page): { url: string; line: number }[] {
  const links: { url: string; line: number }[] = [];
  visit(tree, (node) => {
    const line = node.position?.start.line ?? 0;
    if (node.type === "link" || node.type === "image" || node.type === "definition") {
      links.push({ url: node.url, line });
    }
    if (node.type === "html") { for (const [, url] of node.value.matchAll(IN_HTML)) links.push({ url: url!, line }); }
  });
  return links.filter(({ url }) => !/^[a-z]+:/.test(url));
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsOf({ tree }: Page): Set<string> {
  const slugger = new Slugger();
  const anchors = new Set<string>();
  visit(tree, "heading", (heading) => void anchors.add(slugger.slug(toString(heading))));
  return anchors;
}

/** What is wrong with a link from one file to another, if anything is. */
export async function problemOf(from: string, url: string, read = Deno.readTextFile): Promise<string | undefined> {
  const [path = "", anchor] = decodeURI(url).split("#");
  const target = path === "" ? from : new URL(path, `file:///${from}`).pathname.slice(1);
  if (!await exists(target)) return `${url} leads to no file`;
  if (anchor === undefined) return undefined;
  if (!target.endsWith(".md")) return `${url} leads into a file that has no headings`;
  return anchorsOf(parsePage(target, await read(target))).has(anchor)
    ? undefined
    : `${target} has no heading #${anchor}`;
}

async function* codeFiles(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) yield* codeFiles(`${folder}/${name}`);
    else if (name.endsWith(".ts")) yield `${folder}/${name}`;
  }
}

async function* allLinks(): AsyncGenerator<{ from: string; url: string; line: number }> {
  for (const from of await pagePaths()) for (const link of linksOf(await readPage(from))) yield { from, ...link };
  for (const folder of CODE) {
    for await (const from of codeFiles(folder)) {
      for (const [index, text] of (await Deno.readTextFile(from)).split("\n").entries()) {
        for (const [, url] of text.matchAll(IN_DOCSTRING)) yield { from, url: url!, line: index + 1 };
      }
    }
  }
}

if (import.meta.main) {
  const problems: Problem[] = [];
  for await (const { from, url, line } of allLinks()) {
    const text = await problemOf(from, url);
    if (text !== undefined) problems.push({ path: from, line, text });
  }
  report(problems);
}
