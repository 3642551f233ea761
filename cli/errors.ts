/**
 * `errors`: explains Winsock's errors.
 *
 * @module
 */
import { describeWinsockError, WSA_ERRORS } from "../structs/winsock_errors.ts";
import { styled, type Terminal } from "./terminal.ts";

/**
 * Explains an error, given as number or name; the prefix `WSA` may be left out, and case does not matter.
 *
 * @param terminal Where.
 * @param query The number or name.
 * @param json Whether for a program.
 * @returns 0, or 1 if Winsock has no such error.
 */
export function errors(terminal: Terminal, query: string, json: boolean): number {
  const code = codeOf(query);
  const known = code === undefined ? undefined : describeWinsockError(code);
  if (code === undefined || known === undefined) {
    terminal.complain(`"${query}" is no Winsock error`);
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
