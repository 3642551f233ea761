/**
 * Reads and parses the pages of the documentation.
 *
 * @module
 */
import type { Root } from "npm:@types/mdast@^4.0.4";
import { remark } from "npm:remark@^15.0.1";
import remarkGfm from "npm:remark-gfm@^4.0.1";

/** Parses the Markdown of GitHub, which JSR also uses. */
export const MARKDOWN = remark().use(remarkGfm).freeze();

/** A page, as text and as a tree. */
export interface Page {
  /** The path from the project's folder, with slashes. */
  readonly path: string;
  readonly tree: Root;
}

/** A problem of a page, and its position. */
export interface Problem {
  readonly path: string;
  readonly line: number;
  readonly text: string;
}

/** The folders of pages, without their subfolders. */
const FOLDERS = [".", "docs", "examples/live_view", ".github", ".github/ISSUE_TEMPLATE"];

/** Returns the paths of all pages, from the project's folder. */
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
