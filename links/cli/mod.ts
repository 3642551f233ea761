/** The functions of `@std/cli` this project uses, where JSR cannot be reached. */
import * as std from "npm:deno-std@1.4.0/cli/parse_args.js";

export interface ParseOptions {
  boolean?: readonly string[];
  string?: readonly string[];
  default?: Readonly<Record<string, unknown>>;
  alias?: Readonly<Record<string, string>>;
  stopEarly?: boolean;
  "--"?: boolean;
  unknown?: (name: string, key?: string, value?: unknown) => unknown;
}

// deno-lint-ignore no-explicit-any -- the real package infers this type from the options
export const parseArgs: (args: readonly string[], options?: ParseOptions) => any = std.parseArgs;
