/**
 * Finds the prose in a file: in pages everything, and in TypeScript modules the comments and the literals of several
 * words.
 *
 * @module
 */
import { parse, type ParseResult } from "npm:@babel/parser@^8.1.3";
import { traverseFast } from "npm:@babel/types@^8.1.3";
import { visit } from "npm:unist-util-visit@^5.1.0";
import { parsePage } from "../docs/pages.ts";

/** A text, and the position of its lines in the file. */
export interface Prose {
  /** The text, as Markdown. */
  readonly text: string;
  /** The line number in the file for each line of the text, from 1. */
  readonly lines: readonly number[];
}

/** A comment or a literal. */
interface Piece {
  /** The number of its first line. */
  readonly line: number;
  readonly text: string;
}

/** The characters before the text in a line of a comment. */
const MARGIN = /^[*/]?\s*\*? ?/;
const SEVERAL_WORDS = /\p{L}\S*\s+\S*\p{L}/u;

/** Reads the prose of a page or a module. */
export function proseOf(path: string, source: string): Prose[] {
  if (!path.endsWith(".md")) return [proseOfModule(source)];
  const prose: Prose[] = [{ text: source, lines: source.split("\n").map((_, index) => index + 1) }];
  visit(parsePage(path, source).tree, "code", ({ lang, value, position }) => {
    if (lang === "ts") prose.push(proseOfModule(value, position!.start.line));
  });
  return prose;
}

/**
 * Reads the prose of a module as one text. Each comment and literal is one paragraph or more.
 *
 * @param source The text of the module.
 * @param before The number of lines before it in the file.
 */
function proseOfModule(source: string, before = 0): Prose {
  const module = parse(source, { sourceType: "module", plugins: ["typescript", "decoratorAutoAccessors"] });
  const text: string[] = [];
  const lines: number[] = [];
  for (const piece of [...comments(module), ...literals(module)]) {
    for (const [index, line] of [...piece.text.split("\n"), ""].entries()) {
      text.push(line);
      lines.push(before + piece.line + index);
    }
  }
  return { text: text.join("\n"), lines };
}

/** Returns the comments of a module, without their margins. Consecutive `//` lines are one comment. */
function comments(module: ParseResult): Piece[] {
  const pieces: { line: number; text: string; next: number }[] = [];
  for (const { type, value, loc } of module.comments ?? []) {
    const { start, end } = loc!;
    const text = value.split("\n").map((line) => line.replace(MARGIN, "").trimEnd()).join("\n");
    const last = pieces.at(-1);
    if (type === "CommentLine" && last?.next === start.line) last.text += `\n${text}`;
    else pieces.push({ line: start.line, text, next: 0 });
    pieces.at(-1)!.next = type === "CommentLine" ? end.line + 1 : 0;
  }
  return pieces;
}

/**
 * Returns the strings and templates of several words, such as error messages. In templates, `…` replaces the
 * expressions.
 */
function literals(module: ParseResult): Piece[] {
  const pieces: Piece[] = [];
  traverseFast(module, (node) => {
    const text = node.type === "StringLiteral"
      ? node.value
      : node.type === "TemplateLiteral"
      ? node.quasis.map(({ value }) => value.cooked).join("…")
      : "";
    if (SEVERAL_WORDS.test(text)) pieces.push({ line: node.loc!.start.line, text });
  });
  return pieces;
}
