/**
 * What a command sees of the world, so that tests can be one.
 *
 * @module
 */
import { styleText } from "node:util";

/** Where a command reads and writes. */
export interface Terminal {
  /** Reads a file, or standard input for `-`. */
  read(path: string): Promise<Uint8Array>;
  /** Writes a line to standard output. */
  print(line: string): void;
  /** Writes a line to standard error. */
  printError(line: string): void;
  /** Columns there are for a line. */
  readonly columns: number;
  /** Whether to use colours. */
  readonly color: boolean;
}

/** Styles of the output, by what they mean. */
const STYLES = { heading: "bold", dim: "gray", name: "cyan", flag: "green", wrong: "red" } as const;

/** A text in one of the styles, where there are colours. */
export function styled(terminal: Terminal, style: keyof typeof STYLES, text: string): string {
  return terminal.color ? styleText(STYLES[style], text, { validateStream: false }) : text;
}

/** This process's terminal. Colours only where a person reads, and NO_COLOR is not set. */
export function processTerminal(): Terminal {
  return {
    async read(path) {
      return path === "-" ? await new Response(Deno.stdin.readable).bytes() : await Deno.readFile(path);
    },
    print: (line) => console.log(line),
    printError: (line) => console.error(line),
    columns: Deno.stdout.isTerminal() ? Deno.consoleSize().columns : 80,
    color: Deno.stdout.isTerminal() && !Deno.noColor,
  };
}
