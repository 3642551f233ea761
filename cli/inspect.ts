/**
 * `inspect`: prints a blob as an annotated hex dump.
 *
 * @module
 */
import type { Field, Struct } from "../structs/codec.ts";
import { errorMessage } from "../handoff/errors.ts";
import { WSAPROTOCOL_INFOA, WSAPROTOCOL_INFOW, type WSAPROTOCOLCHAIN } from "../structs/wsaprotocol_info.ts";
import { styled, type Terminal } from "./terminal.ts";

/** The value of a field, and its names. */
interface Description {
  /** The value as text. */
  readonly text: string;
  /** The names of the value or of its bits. Bits without a name are shown as a number. */
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

/** Returns the names of a number: one name for a value, one name for each bit of flags. */
function namesOf(field: Field, value: number): string[] {
  const { names } = field.type;
  if (names === undefined) return [];
  const entries = Object.entries(names.names);
  if (names.kind === "value") return entries.filter(([, number]) => number === value).map(([name]) => name);
  const known = entries.filter(([, bit]) => (value & bit) !== 0);
  const rest = known.reduce((rest, [, bit]) => rest & ~bit, value) >>> 0;
  return [...known.map(([name]) => name), ...(rest === 0 ? [] : [`0x${rest.toString(16)} without a name`])];
}

/** Describes the type and the entries of a chain, such as `chain of 3: 1003 → 1002 → 1001`. */
export function chainText({ ChainLen, ChainEntries }: WSAPROTOCOLCHAIN): string {
  if (ChainLen === 0) return "layer";
  if (ChainLen === 1) return "base";
  return `chain of ${ChainLen}: ${ChainEntries.slice(0, ChainLen).join(" → ")}`;
}

/** Puts a text in quotes, and escapes invisible characters. */
function quoted(text: string): string {
  return JSON.stringify(text).replace(/[\ud800-\udfff\u007f-\u009f]/g, (unit) => {
    return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

const NIL = "00000000-0000-0000-0000-000000000000";
const NAME_WIDTH = 18;
const GAP = 2;
const WIDE = 110;

/** A field and its bytes in the blob. */
interface Row {
  readonly field: Field;
  readonly bytes: Uint8Array;
  readonly value?: unknown;
  readonly text: string;
  readonly names: readonly string[];
  /** The reason why the field is invalid. */
  readonly problem?: string;
}

/**
 * Prints a blob, field by field.
 *
 * @param terminal The terminal to print to.
 * @param path The path of the file, or `-` for standard input.
 * @param json Whether to print JSON.
 * @returns The exit code: 0, or 1 if the blob is invalid.
 */
export async function inspect(terminal: Terminal, path: string, json: boolean): Promise<number> {
  const bytes = await terminal.read(path);
  const struct = [WSAPROTOCOL_INFOW, WSAPROTOCOL_INFOA].find(({ size }) => size === bytes.byteLength);
  if (struct === undefined) {
    terminal.printError(
      `${path}: expected 628 bytes (WSAPROTOCOL_INFOW) or 372 (WSAPROTOCOL_INFOA), got ${bytes.byteLength}`,
    );
    return 1;
  }
  const rows = readRows(struct, bytes);
  if (json) terminal.print(JSON.stringify(asJson(struct, rows), undefined, 2));
  else dump(terminal, struct, rows);
  const problems = rows.filter(({ problem }) => problem !== undefined);
  for (const { field, problem } of problems) {
    terminal.printError(`${path}: ${field.name} at offset ${field.offset}: ${problem}`);
  }
  return problems.length === 0 ? 0 : 1;
}

function readRows(struct: Struct<WSAPROTOCOL_INFOW>, blob: Uint8Array): Row[] {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  return struct.fields.map((field) => {
    const bytes = blob.subarray(field.offset, field.offset + field.type.size);
    try {
      const value = field.type.read(view, field.offset);
      const description = describe(field, value);
      const problem = implausible(field, value, description.names);
      return { field, bytes, value, ...description, ...(problem === undefined ? {} : { problem }) };
    } catch (error) {
      const problem = errorMessage(error);
      return { field, bytes, text: "", names: [], problem };
    }
  });
}

/** Returns the reason why a provider cannot have written a value. */
function implausible(field: Field, value: unknown, names: readonly string[]): string | undefined {
  if (field.name === "ProviderId" && value === NIL) return "a provider cannot have the GUID of zeros";
  if ((field.name === "iAddressFamily" || field.name === "iSocketType") && names.length === 0) {
    return `${String(value)} is not ${field.name === "iSocketType" ? "a socket type" : "an address family"}`;
  }
  return undefined;
}

function asJson(struct: Struct<WSAPROTOCOL_INFOW>, rows: readonly Row[]): unknown {
  return {
    struct: struct.name,
    size: struct.size,
    fields: rows.map(({ field, bytes, value, names, problem }) => ({
      name: field.name,
      offset: field.offset,
      size: field.type.size,
      type: field.type.cType,
      bytes: bytes.toHex(),
      value,
      ...(names.length > 0 ? { names } : {}),
      ...(problem === undefined ? {} : { problem }),
    })),
  };
}

function dump(terminal: Terminal, struct: Struct<WSAPROTOCOL_INFOW>, rows: readonly Row[]): void {
  const perLine = terminal.columns >= WIDE ? 16 : 8;
  const hexWidth = perLine * 3 - 1;
  const room = Math.max(20, terminal.columns - (4 + GAP + hexWidth + GAP + NAME_WIDTH + GAP));
  terminal.print(styled(terminal, "heading", `${struct.name}, ${struct.size} bytes`));
  for (const row of rows) {
    const hex = hexLines(row.bytes, perLine);
    const notes = noteLines(terminal, row, room);
    for (let line = 0; line < Math.max(hex.length, notes.length); line++) {
      const bytes = hex[line];
      const offset = bytes === undefined ? "    " : (row.field.offset + bytes.offset).toString(16).padStart(4, "0");
      const parts = [
        styled(terminal, "dim", offset),
        (bytes?.text ?? "").padEnd(hexWidth),
        styled(terminal, "name", (line === 0 ? row.field.name : "").padEnd(NAME_WIDTH)),
        notes[line] ?? "",
      ];
      terminal.print(parts.join(" ".repeat(GAP)).trimEnd());
    }
  }
}

/**
 * Returns the value and its names. A single name is on the line of the value if it fits; otherwise each has its own
 * line.
 */
function noteLines(terminal: Terminal, { text, names, problem }: Row, room: number): string[] {
  if (problem !== undefined) return wrap(problem, room).map((line) => styled(terminal, "wrong", line));
  const [name = ""] = names;
  if (names.length === 1 && text.length + GAP + name.length <= room) {
    return [`${text}${" ".repeat(GAP)}${styled(terminal, "flag", name)}`];
  }
  return [...wrap(text, room), ...names.map((name) => styled(terminal, "flag", name))];
}

/** Splits a text into lines of at most `room` characters, after a space or a dash if possible. */
function wrap(text: string, room: number): string[] {
  const lines: string[] = [];
  for (let rest = text; rest !== "";) {
    const head = rest.slice(0, room);
    const end = rest.length <= room ? rest.length : Math.max(head.lastIndexOf(" "), head.lastIndexOf("-")) + 1 || room;
    lines.push(rest.slice(0, end).trimEnd());
    rest = rest.slice(end);
  }
  return lines.length === 0 ? [""] : lines;
}

/** Formats bytes as lines. Lines of zeros at the end are counted and not shown. */
function hexLines(bytes: Uint8Array, perLine: number): { offset: number; text: string }[] {
  const used = bytes.findLastIndex((byte) => byte !== 0) + 1;
  const shown = Math.min(bytes.byteLength, Math.max(perLine, Math.ceil(used / perLine) * perLine));
  const lines = [];
  for (let offset = 0; offset < shown; offset += perLine) {
    const line = bytes.subarray(offset, Math.min(offset + perLine, bytes.byteLength));
    lines.push({ offset, text: Array.from(line, (byte) => byte.toString(16).padStart(2, "0")).join(" ") });
  }
  if (shown < bytes.byteLength) lines.push({ offset: shown, text: `${bytes.byteLength - shown} zero bytes` });
  return lines;
}
