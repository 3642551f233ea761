/**
 * `catalog`: the system's protocol catalogue.
 *
 * @module
 */
import { protocolCatalog, providerPath } from "../spi/system_catalog.ts";
import type { Field } from "../structs/codec.ts";
import { XP1 } from "../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { describeBrokenHandoffs, type PathOf } from "./doctor.ts";
import { chainText, describe } from "./inspect.ts";
import { styled, type Terminal } from "./terminal.ts";

/**
 * Lists the catalogue as a table, and says which layered provider breaks hand-offs.
 *
 * @param terminal Where.
 * @param json Whether for a program.
 * @param entries What to list.
 * @param pathOf Where libraries are.
 * @returns 0.
 */
export function catalog(
  terminal: Terminal,
  json: boolean,
  entries: WSAPROTOCOL_INFOW[] = protocolCatalog(),
  pathOf: PathOf = providerPath,
): number {
  if (json) {
    terminal.print(JSON.stringify(entries, undefined, 2));
    return 0;
  }
  const head = ["ID", "FAMILY", "TYPE", "PROTOCOL", "KIND", "NAME"];
  const rows = entries.map((entry) => [
    String(entry.dwCatalogEntryId),
    name(entry, "iAddressFamily", "AF_"),
    name(entry, "iSocketType", "SOCK_"),
    name(entry, "iProtocol", "IPPROTO_"),
    kind(entry),
    entry.szProtocol.split("\0")[0]!,
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const line = (cells: string[]) => cells.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd();
  terminal.print(styled(terminal, "heading", line(head)));
  for (const row of rows) terminal.print(line(row));
  for (const broken of describeBrokenHandoffs(entries, pathOf)) terminal.print(styled(terminal, "wrong", broken));
  return 0;
}

/** Base, layer, or the chain drawn from top to base; and whether its handles are real ones. */
function kind(entry: WSAPROTOCOL_INFOW): string {
  const text = chainText(entry.ProtocolChain);
  return (entry.dwServiceFlags1 & XP1.XP1_IFS_HANDLES) !== 0 ? text : `${text}, not IFS`;
}

/** The name of a field's value without its prefix, or the number. */
function name(entry: WSAPROTOCOL_INFOW, fieldName: keyof WSAPROTOCOL_INFOW, prefix: string): string {
  const field = WSAPROTOCOL_INFOW.fields.find(({ name }) => name === fieldName) as Field;
  const { text, names } = describe(field, entry[fieldName]);
  return names[0]?.replace(prefix, "") ?? text;
}
