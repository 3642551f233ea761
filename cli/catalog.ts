/**
 * `catalog`: lists the protocol catalog of the system.
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
 * Lists the catalog as a table, and reports each layer that breaks hand-offs.
 *
 * @param terminal The terminal to print to.
 * @param json Whether to print JSON.
 * @param entries The entries to list. Defaults to the catalog of this system.
 * @param pathOf Finds the library of a provider. Defaults to `providerPath`.
 * @returns The exit code, which is always 0.
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

/**
 * Returns the kind of an entry: base, layer, or the chain from top to base. Also says if its handles are not IFS
 * handles.
 */
function kind(entry: WSAPROTOCOL_INFOW): string {
  const text = chainText(entry.ProtocolChain);
  return (entry.dwServiceFlags1 & XP1.XP1_IFS_HANDLES) !== 0 ? text : `${text}, not IFS`;
}

/** Returns the name of a field's value without its prefix, or the number if it does not have a name. */
function name(entry: WSAPROTOCOL_INFOW, fieldName: keyof WSAPROTOCOL_INFOW, prefix: string): string {
  const field = WSAPROTOCOL_INFOW.fields.find(({ name }) => name === fieldName) as Field;
  const { text, names } = describe(field, entry[fieldName]);
  return names[0]?.replace(prefix, "") ?? text;
}
