/**
 * The pages of the documentation, parsed.
 *
 * @module
 */
import type { Root } from "npm:@types/mdast@^4.0.4";
import { fromMarkdown } from "npm:mdast-util-from-markdown@^2.1.0";
import { gfmFromMarkdown } from "npm:mdast-util-gfm@^3.1.0";
import { gfm } from "npm:micromark-extension-gfm@^3.0.0";

/** A page, as it is written and as a tree. */
export interface Page {
  /** From the project's folder, with slashes. */
  readonly path: string;
  readonly text: string;
  readonly tree: Root;
}

/** Where pages are; folders under them are not looked into. */
const FOLDERS = [".", "docs", ".github", ".github/ISSUE_TEMPLATE"];

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

/** Parses a page in the markdown of GitHub, which is JSR's too. */
export function parsePage(path: string, text: string): Page {
  return { path, text, tree: fromMarkdown(text, { extensions: [gfm()], mdastExtensions: [gfmFromMarkdown()] }) };
}

/** What is wrong with a page, and where. */
export interface Problem {
  readonly path: string;
  readonly line: number;
  readonly text: string;
}

/** Prints problems, and ends the process: with 1, if there are any. */
export function report(problems: readonly Problem[]): never {
  for (const { path, line, text } of problems) console.error(`${path}:${line}: ${text}`);
  Deno.exit(problems.length === 0 ? 0 : 1);
}
