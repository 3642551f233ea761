/**
 * The pages of the documentation, parsed.
 *
 * @module
 */
import type { Root } from "npm:@types/mdast@^4.0.4";
import { remark } from "npm:remark@^15.0.1";
import remarkGfm from "npm:remark-gfm@^4.0.1";

/** Reads the markdown of GitHub, which is JSR's too. */
export const MARKDOWN = remark().use(remarkGfm).freeze();

/** A page, as it is written and as a tree. */
export interface Page {
  /** From the project's folder, with slashes. */
  readonly path: string;
  readonly tree: Root;
}

/** What is wrong with a page, and where. */
export interface Problem {
  readonly path: string;
  readonly line: number;
  readonly text: string;
}

/** Where pages are; folders under them are not looked into. */
const FOLDERS = [".", "docs", "examples/live_view", ".github", ".github/ISSUE_TEMPLATE"];

/** The paths of all pages, from the project's folder. */
export async function pagePaths(): Promise<string[]> {
  const paths: string[] = [];
  for (const folder of FOLDERS) {
    for await (const { name } of Deno.readDir(folder)) {
      if (name.endsWith(".md")) paths.push(folder === "." ? name : `${folder}/${name}`);
    }
  }
  return paths.sort();
}

/** Reads a page. */
export async function readPage(path: string): Promise<Page> {
  return parsePage(path, await Deno.readTextFile(path));
}

/** Parses a page. */
export function parsePage(path: string, text: string): Page {
  return { path, tree: MARKDOWN.parse(text) };
}
