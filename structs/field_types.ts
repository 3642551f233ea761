/**
 * The types of the members.
 *
 * @module
 */
import type { FieldNames, FieldType } from "./codec.ts";

/** `DWORD`, `ULONG`: unsigned 32-bit, little-endian. */
export const u32: FieldType<number> = {
  cType: "DWORD",
  size: 4,
  align: 4,
  read: (view, offset) => view.getUint32(offset, true),
  write(view, offset, value) {
    if (value >>> 0 !== value) throw new RangeError(`${value} is no unsigned 32-bit integer`);
    view.setUint32(offset, value, true);
  },
};

/** `int`, `long`: signed 32-bit, little-endian. */
export const i32: FieldType<number> = {
  cType: "int",
  size: 4,
  align: 4,
  read: (view, offset) => view.getInt32(offset, true),
  write(view, offset, value) {
    if ((value | 0) !== value) throw new RangeError(`${value} is no signed 32-bit integer`);
    view.setInt32(offset, value, true);
  },
};

/** `WORD`, `u_short` in host order: unsigned 16-bit, little-endian. */
export const u16: FieldType<number> = {
  cType: "WORD",
  size: 2,
  align: 2,
  read: (view, offset) => view.getUint16(offset, true),
  write(view, offset, value) {
    checkU16(value);
    view.setUint16(offset, value, true);
  },
};

/** `u_short` in network order: unsigned 16-bit, big-endian. */
export const u16be: FieldType<number> = {
  cType: "u_short",
  size: 2,
  align: 2,
  read: (view, offset) => view.getUint16(offset, false),
  write(view, offset, value) {
    checkU16(value);
    view.setUint16(offset, value, false);
  },
};

/** `__int64` as its 64 bits, unsigned, little-endian. */
export const u64: FieldType<bigint> = {
  cType: "__int64",
  size: 8,
  align: 8,
  read: (view, offset) => view.getBigUint64(offset, true),
  write(view, offset, value) {
    if (BigInt.asUintN(64, value) !== value) throw new RangeError(`${value} is no unsigned 64-bit integer`);
    view.setBigUint64(offset, value, true);
  },
};

/** A pointer of a 64-bit process, as a number; 0 for none. It means something in the process that wrote it only. */
export const pointer: FieldType<bigint> = { ...u64, cType: "PVOID" };

/**
 * Gives the numbers of a field type their names.
 *
 * @param type The field type.
 * @param kind Whether the names stand for bits or for whole values.
 * @param names The names with their numbers.
 * @returns The same field type, with names.
 */
export function named(
  type: FieldType<number>,
  kind: FieldNames["kind"],
  names: FieldNames["names"],
): FieldType<number> {
  return { ...type, names: { kind, names } };
}

/**
 * An array of numbers.
 *
 * @param type The type of one.
 * @param length How many.
 * @returns The field type; its values are arrays of exactly `length` numbers.
 */
export function arrayOf(type: FieldType<number>, length: number): FieldType<readonly number[]> {
  return {
    cType: `${type.cType}[${length}]`,
    size: length * type.size,
    align: type.align,
    read(view, offset) {
      const values: number[] = [];
      for (let index = 0; index < length; index++) values.push(type.read(view, offset + index * type.size));
      return values;
    },
    write(view, offset, values) {
      if (values.length !== length) throw new RangeError(`Expected ${length} entries, got ${values.length}`);
      for (let index = 0; index < length; index++) type.write(view, offset + index * type.size, values[index]!);
    },
  };
}

/**
 * Bytes taken as they are.
 *
 * @param length How many.
 * @returns The field type; its values are copies of exactly `length` bytes.
 */
export function byteArray(length: number): FieldType<Uint8Array> {
  return {
    cType: `BYTE[${length}]`,
    size: length,
    align: 1,
    read: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, length).slice(),
    write(view, offset, bytes) {
      if (bytes.byteLength !== length) throw new RangeError(`Expected ${length} bytes, got ${bytes.byteLength}`);
      new Uint8Array(view.buffer, view.byteOffset + offset, length).set(bytes);
    },
  };
}

/**
 * A fixed `WCHAR` array. The value is its UTF-16 code units without the zeros at the end, so that nothing is lost: what
 * follows an embedded NUL stays in the string behind that NUL, unpaired surrogates stay as they are.
 *
 * @param length Room in code units; even.
 * @returns The field type.
 */
export function wcharArray(length: number): FieldType<string> {
  return {
    cType: `WCHAR[${length}]`,
    size: length * 2,
    align: 2,
    read(view, offset) {
      let used = length;
      while (used > 0 && view.getUint32(offset + used * 2 - 4, true) === 0) used -= 2;
      if (used > 0 && view.getUint16(offset + used * 2 - 2, true) === 0) used--;
      let text = "";
      for (let index = 0; index < used; index++) text += String.fromCharCode(view.getUint16(offset + index * 2, true));
      return text;
    },
    write(view, offset, text) {
      if (text.length > length) throw new RangeError(`Expected at most ${length} UTF-16 units, got ${text.length}`);
      for (let index = 0; index < text.length; index++) {
        view.setUint16(offset + index * 2, text.charCodeAt(index), true);
      }
      clear(view, offset + text.length * 2, offset + length * 2);
    },
  };
}

/**
 * A fixed `CHAR` array. Its bytes are in the ANSI code page of the system that wrote them, which the bytes do not tell:
 * each becomes the character with the same number (ISO 8859-1), so that nothing is lost, and ASCII is what it seems.
 * Zeros at the end are dropped, what follows an embedded NUL is kept.
 *
 * @param length Room in bytes.
 * @returns The field type.
 */
export function charArray(length: number): FieldType<string> {
  return {
    cType: `CHAR[${length}]`,
    size: length,
    align: 1,
    read(view, offset) {
      let used = length;
      while (used > 0 && view.getUint8(offset + used - 1) === 0) used--;
      let text = "";
      for (let index = 0; index < used; index++) text += String.fromCharCode(view.getUint8(offset + index));
      return text;
    },
    write(view, offset, text) {
      if (text.length > length) throw new RangeError(`Expected at most ${length} characters, got ${text.length}`);
      for (let index = 0; index < text.length; index++) {
        const code = text.charCodeAt(index);
        if (code > 0xff) throw new RangeError(`Character ${index} (U+${code.toString(16)}) is none of one byte`);
        view.setUint8(offset + index, code);
      }
      clear(view, offset + text.length, offset + length);
    },
  };
}

function clear(view: DataView, from: number, to: number): void {
  let offset = from;
  for (; offset + 8 <= to; offset += 8) view.setFloat64(offset, 0, true);
  for (; offset < to; offset++) view.setUint8(offset, 0);
}

function checkU16(value: number): void {
  if ((value & 0xffff) !== value) throw new RangeError(`${value} is no unsigned 16-bit integer`);
}
