/**
 * The input and output of a command, which tests can replace.
 *
 * @module
 */
import { styleText } from "node:util";

/** The terminal that a command reads from and writes to. */
export interface Terminal {
  /** Reads a file, or standard input for `-`. */
  read(path: string): Promise<Uint8Array>;
  /** Writes a line to standard output. */
  print(line: string): void;
  /** Writes a line to standard error. */
  printError(line: string): void;
  /** The number of columns of a line. */
  readonly columns: number;
  /** Whether to use colors. */
  readonly color: boolean;
}

/** The styles of the output, by their meaning. */
const STYLES = { heading: "bold", dim: "gray", name: "cyan", flag: "green", wrong: "red" } as const;

/** Applies a style to a text if the terminal uses colors. */
export function styled(terminal: Terminal, style: keyof typeof STYLES, text: string): string {
  return terminal.color ? styleText(STYLES[style], text, { validateStream: false }) : text;
}

/** Returns the terminal of this process. It uses colors if stdout is a terminal and `NO_COLOR` is not set. */
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
