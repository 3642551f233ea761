/**
 * GUIDs, in memory and as text.
 *
 * @module
 */
import type { FieldType } from "./codec.ts";

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Where each byte of the text form stands in memory: the first three groups are little-endian numbers. */
const TEXT_ORDER = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15] as const;

const PATTERN = /^\{?([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})\}?$/i;

/**
 * A `GUID` member (16 bytes). Its value is the lower-case text without braces, such as
 * `e70f1aa0-ab8b-11cf-8ca3-00805f48a192`; writing takes upper case and braces too.
 */
export const guid: FieldType<string> = {
  cType: "GUID",
  size: 16,
  align: 4,
  read(view, offset) {
    let text = "";
    for (let index = 0; index < 16; index++) {
      if (index === 4 || index === 6 || index === 8 || index === 10) text += "-";
      text += HEX[view.getUint8(offset + TEXT_ORDER[index]!)];
    }
    return text;
  },
  write(view, offset, text) {
    const groups = PATTERN.exec(text);
    if (groups === null) throw new RangeError(`"${text}" is no GUID`);
    const digits = groups.slice(1).join("");
    for (let index = 0; index < 16; index++) {
      view.setUint8(offset + TEXT_ORDER[index]!, parseInt(digits.slice(index * 2, index * 2 + 2), 16));
    }
  },
};

/**
 * The text of a GUID's 16 bytes.
 *
 * @param bytes Exactly 16 bytes, as they stand in memory.
 * @returns Lower-case text without braces.
 * @throws {RangeError} If there are not exactly 16 bytes.
 */
export function formatGuid(bytes: Uint8Array): string {
  if (bytes.byteLength !== 16) throw new RangeError(`Cannot format GUID: expected 16 bytes, got ${bytes.byteLength}`);
  return guid.read(new DataView(bytes.buffer, bytes.byteOffset, 16), 0);
}

/**
 * The 16 bytes of a GUID's text.
 *
 * @param text A GUID of 36 characters, or 38 with braces, in either case.
 * @returns The bytes as they stand in memory.
 * @throws {RangeError} If the text is no GUID.
 */
export function parseGuid(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16);
  guid.write(new DataView(bytes.buffer), 0, text);
  return bytes;
}
