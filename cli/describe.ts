/**
 * Values of fields, as a person reads them.
 *
 * @module
 */
import type { Field } from "../structs/codec.ts";
import type { WSAPROTOCOLCHAIN } from "../structs/wsaprotocol_info.ts";

/** A field's value and what it is called. */
export interface Description {
  /** The value as text. */
  readonly text: string;
  /** Names of the value, or of its bits; bits without a name as a number. */
  readonly names: readonly string[];
}

/** Describes the value of a field. */
export function describe(field: Field, value: unknown): Description {
  if (typeof value === "number") {
    const flags = field.type.names?.kind === "flags" || field.name.startsWith("dwServiceFlags") ||
      field.name === "dwProviderReserved";
    const text = flags ? `0x${(value >>> 0).toString(16).padStart(8, "0")}` : String(value);
    return { text, names: namesOf(field, value) };
  }
  if (typeof value === "string") return { text: field.type.cType === "GUID" ? `{${value}}` : quoted(value), names: [] };
  if (field.type.cType === "WSAPROTOCOLCHAIN") return { text: chainText(value as WSAPROTOCOLCHAIN), names: [] };
  return { text: String(value), names: [] };
}

/** The names of a number: one for a value, one a bit for flags. */
function namesOf(field: Field, value: number): string[] {
  const { names } = field.type;
  if (names === undefined) return [];
  const entries = Object.entries(names.names);
  if (names.kind === "value") return entries.filter(([, number]) => number === value).map(([name]) => name);
  const known = entries.filter(([, bit]) => (value & bit) !== 0);
  const rest = known.reduce((rest, [, bit]) => rest & ~bit, value) >>> 0;
  return [...known.map(([name]) => name), ...(rest === 0 ? [] : [`0x${rest.toString(16)} without a name`])];
}

/** What a chain is, and of which entries: `chain of 3: 1003 → 1002 → 1001`. */
export function chainText({ ChainLen, ChainEntries }: WSAPROTOCOLCHAIN): string {
  if (ChainLen === 0) return "layer";
  if (ChainLen === 1) return "base";
  return `chain of ${ChainLen}: ${ChainEntries.slice(0, ChainLen).join(" → ")}`;
}

/** A text in quotes, with what cannot be seen written out. */
function quoted(text: string): string {
  return JSON.stringify(text).replace(/[\ud800-\udfff\u007f-\u009f]/g, (unit) => {
    return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}
