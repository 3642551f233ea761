/**
 * GUIDs, in memory and as text.
 *
 * @module
 */
import type { FieldType } from "./codec.ts";

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** The position of each byte of the text form in memory: the first three groups are little-endian numbers. */
const TEXT_ORDER = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15] as const;

/** The position of the two digits of each byte in the text without braces, in the order of the text. */
const DIGITS = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34] as const;
const DASHES = [8, 13, 18, 23] as const;
const DASH = 0x2d;

/**
 * The value of each hexadecimal digit by its character code. All other characters have 256, which does not fit in a
 * byte.
 */
const NIBBLES = Uint16Array.from({ length: 128 }, (_, code) => {
  const value = parseInt(String.fromCharCode(code), 16);
  return Number.isNaN(value) ? 256 : value;
});

/**
 * A `GUID` member (16 bytes). Its value is lower-case text without braces, such as
 * `e70f1aa0-ab8b-11cf-8ca3-00805f48a192`. Writing also accepts upper case and braces.
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
    const start = textStart(text);
    for (let index = 0; index < 16; index++) {
      const digit = start + DIGITS[index]!;
      const byte = nibble(text, digit) << 4 | nibble(text, digit + 1);
      if (byte > 255) throw noGuid(text);
      view.setUint8(offset + TEXT_ORDER[index]!, byte);
    }
  },
};

/** Returns where the digits begin. Checks only the positions of dashes and braces. */
function textStart(text: string): number {
  const start = text.length === 38 && text[0] === "{" && text[37] === "}" ? 1 : 0;
  if (text.length - 2 * start !== 36) throw noGuid(text);
  for (const dash of DASHES) if (text.charCodeAt(start + dash) !== DASH) throw noGuid(text);
  return start;
}

function nibble(text: string, index: number): number {
  const code = text.charCodeAt(index);
  return code < 128 ? NIBBLES[code]! : 256;
}

function noGuid(text: string): RangeError {
  return new RangeError(`"${text}" is not a GUID`);
}

/**
 * Formats the 16 bytes of a GUID as text.
 *
 * @param bytes Exactly 16 bytes, in memory order.
 * @returns Lower-case text without braces.
 * @throws {RangeError} If there are not exactly 16 bytes.
 */
export function formatGuid(bytes: Uint8Array): string {
  if (bytes.byteLength !== 16) throw new RangeError(`Cannot format GUID: expected 16 bytes, got ${bytes.byteLength}`);
  return guid.read(new DataView(bytes.buffer, bytes.byteOffset, 16), 0);
}

/**
 * Parses the text of a GUID.
 *
 * @param text A GUID of 36 characters, or 38 with braces, in either case.
 * @returns The 16 bytes in memory order.
 * @throws {RangeError} If the text is not a GUID.
 */
export function parseGuid(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16);
  guid.write(new DataView(bytes.buffer), 0, text);
  return bytes;
}
