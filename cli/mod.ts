/**
 * The command line: `deno run @winsock/handoff/cli --help`, in a project that has added the package.
 *
 * `serve` serves a module with several processes: `serve --help` lists its options, and `docs/deploying.md` its permissions.
 * The other commands show the fields of a blob and the protocol
 * catalog of the system, check whether sockets can be handed off on this system, and explain the errors of Winsock.
 *
 * `inspect FILE` needs `--allow-read=FILE`. `inspect -` and `errors` need no permissions. `doctor`, and on Windows
 * `catalog`, need ffi access to the system's socket library (on Windows: ws2_32.dll and kernel32.dll). `upgrade FILE`
 * needs `--allow-read=FILE` and ffi access to the system's socket library.
 *
 * @example Call it as a function, with a terminal of your own
 * ```ts
 * import { main } from "@winsock/handoff/cli";
 * import { assertEquals } from "@std/assert";
 *
 * const lines: string[] = [];
 * const code = await main(["errors", "WSAENOTSOCK", "--json"], {
 *   read: (path) => Deno.readFile(path),
 *   print: (line) => void lines.push(line),
 *   printError: (line) => void lines.push(line),
 *   columns: 80,
 *   color: false,
 * });
 * assertEquals([code, JSON.parse(lines.join("\n")).code], [0, 10038]);
 * ```
 *
 * @module
 */
import { describeWinsockError, WSA_ERRORS } from "../structs/constants.ts";
import { processTerminal, styled, type Terminal } from "./terminal.ts";
import { errorMessage } from "../handoff/errors.ts";
import { requestUpgrade } from "../handoff/upgrade/upgrade_requests.ts";
import { parseArgs } from "@std/cli/parse-args";
import project from "../deno.json" with { type: "json" };
import { catalog } from "./catalog.ts";
import { doctor } from "./doctor.ts";
import { inspect } from "./inspect.ts";
import { serveCommand, UsageError } from "./serve.ts";

/**
 * Explains an error of Winsock. The prefix `WSA` can be omitted, and case is ignored.
 *
 * @param terminal The terminal to print to.
 * @param query The number or the name of the error.
 * @param json Whether to print JSON.
 * @returns The exit code: 0, or 1 if Winsock does not have this error.
 */
export function errors(terminal: Terminal, query: string, json: boolean): number {
  const code = codeOf(query);
  const known = code === undefined ? undefined : describeWinsockError(code);
  if (code === undefined || known === undefined) {
    terminal.printError(`"${query}" is not a Winsock error`);
    return 1;
  }
  if (json) terminal.print(JSON.stringify({ code, ...known }));
  else terminal.print(`${styled(terminal, "heading", `${known.name} (${code})`)}  ${known.meaning}`);
  return 0;
}

function codeOf(query: string): number | undefined {
  if (/^\d+$/.test(query)) return Number(query);
  const name = query.toUpperCase();
  const errors: Readonly<Record<string, number>> = WSA_ERRORS;
  return errors[name] ?? errors[`WSA${name}`];
}

/** Asks the server that wrote the control file to upgrade, and prints the result. */
export async function upgrade(terminal: Terminal, controlFile: string, json: boolean): Promise<number> {
  const result = await requestUpgrade(controlFile);
  const remaining = result.remaining === 0
    ? ""
    : `; ${result.remaining} connections of the old version were still open`;
  terminal.print(json ? JSON.stringify(result) : `Process ${result.processId} serves now${remaining}`);
  return 0;
}

const HELP = `Serves a module with several processes, and looks into shared sockets.

  handoff serve MAIN        serves a module as \`deno serve\` does, with several
                            processes; see \`handoff serve --help\`
  handoff upgrade FILE      replaces a running server by a new version; FILE is
                            the server's control file
  handoff inspect FILE|-    shows the fields of a WSAPROTOCOL_INFO of 628 or 372
                            bytes
  handoff catalog           lists the protocol catalog of the system
  handoff doctor            says whether sockets can be handed off here, and if
                            not, why
  handoff errors CODE|NAME  explains a Winsock error

  --json      prints JSON, for programs
  --help      prints this text
  --version   prints the version

Exit codes: 0 success, 1 what was examined is invalid or the command failed,
2 the command was wrong.`;

export type { Terminal };

/**
 * Runs a command.
 *
 * @example The meaning of an error code
 * ```ts
 * import { main } from "@winsock/handoff/cli";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await main(["errors", "10038"]), 0);
 * ```
 *
 * @param args The command and its arguments.
 * @param terminal The terminal to read from and write to. Defaults to the terminal of this process.
 * @returns The exit code: 0, 1 if what the command examined is invalid or failed, or 2 if the arguments are invalid.
 */
export async function main(args: readonly string[], terminal: Terminal = processTerminal()): Promise<number> {
  if (args[0] === "serve") return await attempt(terminal, () => serveCommand(terminal, args.slice(1)));
  const unknown: string[] = [];
  const options = parseArgs([...args], {
    boolean: ["help", "version", "json"],
    string: ["_"],
    unknown: (arg: string) => {
      if (arg.startsWith("-") && arg !== "-") unknown.push(arg);
      return !arg.startsWith("-") || arg === "-";
    },
  });
  const [command, ...operands] = options._.map(String);
  if (options.help) return terminal.print(HELP), 0;
  if (options.version) return terminal.print(project.version), 0;
  if (unknown.length > 0) return misused(terminal, `${unknown[0]} is not an option`);
  return await attempt(terminal, async () => {
    switch (command) {
      case "inspect":
        if (operands.length !== 1) return misused(terminal, "inspect takes one file, or - for standard input");
        return await inspect(terminal, operands[0]!, options.json);
      case "catalog":
        if (operands.length !== 0) return misused(terminal, "catalog takes no arguments");
        return catalog(terminal, options.json);
      case "doctor":
        if (operands.length !== 0) return misused(terminal, "doctor takes no arguments");
        return await doctor(terminal, options.json);
      case "errors":
        if (operands.length !== 1) return misused(terminal, "errors takes one code or name");
        return errors(terminal, operands[0]!, options.json);
      case "upgrade":
        if (operands.length !== 1) return misused(terminal, "upgrade takes one control file");
        return await upgrade(terminal, operands[0]!, options.json);
      default:
        return misused(terminal, command === undefined ? "a command is missing" : `${command} is not a command`);
    }
  });
}

/** Runs a command. If it throws, prints the error and returns the exit code for it. */
async function attempt(terminal: Terminal, command: () => Promise<number>): Promise<number> {
  try {
    return await command();
  } catch (error) {
    if (error instanceof UsageError) return misused(terminal, error.message);
    terminal.printError(`handoff: ${errorMessage(error)}`);
    return 1;
  }
}

function misused(terminal: Terminal, problem: string): number {
  terminal.printError(`handoff: ${problem}; --help tells more`);
  return 2;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
