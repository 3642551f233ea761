/**
 * The codec of every structure: one table of fields, from which size, offsets, decoding and encoding follow.
 *
 * @module
 */

/** `DWORD`, `ULONG`: unsigned 32-bit, little-endian. */
export const u32: FieldType<number> = {
  cType: "DWORD",
  size: 4,
  align: 4,
  read: (view, offset) => view.getUint32(offset, true),
  write(view, offset, value) {
    if (value >>> 0 !== value) throw new RangeError(`${value} is not an unsigned 32-bit integer`);
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
    if ((value | 0) !== value) throw new RangeError(`${value} is not a signed 32-bit integer`);
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

/** `__int64` as 64 unsigned bits, little-endian. */
export const u64: FieldType<bigint> = {
  cType: "__int64",
  size: 8,
  align: 8,
  read: (view, offset) => view.getBigUint64(offset, true),
  write(view, offset, value) {
    if (BigInt.asUintN(64, value) !== value) throw new RangeError(`${value} is not an unsigned 64-bit integer`);
    view.setBigUint64(offset, value, true);
  },
};

/** A pointer of a 64-bit process, as a number; 0 for NULL. It is meaningful only in the process that wrote it. */
export const pointer: FieldType<bigint> = { ...u64, cType: "PVOID" };

/**
 * Adds names to the numbers of a field type.
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
 * Returns the type of an array of numbers.
 *
 * @param type The type of one element.
 * @param length The number of elements.
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
 * Returns the type of an array of bytes.
 *
 * @param length The number of bytes.
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
 * Returns the type of a fixed `WCHAR` array. Its value is the UTF-16 code units without trailing zeros. Nothing else is
 * lost: the text after an embedded NUL and unpaired surrogates are kept.
 *
 * @param length The size in code units; must be even.
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
 * Returns the type of a fixed `CHAR` array. The bytes are in the ANSI code page of the system that wrote them, and do
 * not say which one that is. Each byte becomes the character with the same number (ISO 8859-1), so every byte is kept
 * and ASCII text is readable. Trailing zeros are dropped; the text after an embedded NUL is kept.
 *
 * @param length The size in bytes.
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
        if (code > 0xff) throw new RangeError(`Character ${index} (U+${code.toString(16)}) does not fit in one byte`);
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
  if ((value & 0xffff) !== value) throw new RangeError(`${value} is not an unsigned 16-bit integer`);
}

/** Names for the values of a member: bits that are set together, or one value of several. */
export interface FieldNames {
  /** Whether the names stand for bits or for whole values. */
  readonly kind: "flags" | "value";
  /** The names, as in the Windows headers, with their numbers. */
  readonly names: Readonly<Record<string, number>>;
}

/**
 * The layout of one kind of field: its size and alignment in bytes, and the conversion to a JavaScript value and back.
 */
export interface FieldType<V> {
  /** The C spelling of the type, such as `DWORD`. */
  readonly cType: string;
  /** Size in bytes. */
  readonly size: number;
  /** Alignment in bytes, as a C compiler for 64-bit Windows uses it. */
  readonly align: number;
  /** The names of its numbers, if they have names. */
  readonly names?: FieldNames;
  /** Reads the value at `offset`. Throws a `RangeError` with the reason if the bytes are not a valid value. */
  read(view: DataView, offset: number): V;
  /** Writes `value` at `offset`. Throws a `RangeError` with the reason if the value does not fit. */
  write(view: DataView, offset: number, value: V): void;
}

/** One row of the field table of a structure. */
export interface Field<V = unknown> {
  /** The member's name, as in the Windows headers. */
  readonly name: string;
  /** Offset from the structure's first byte. */
  readonly offset: number;
  /** The member's layout. */
  readonly type: FieldType<V>;
}

/** A structure: its field table as data, and the codec that reads and writes it. */
export interface Struct<T> {
  /** The structure's name, as in the Windows headers. */
  readonly name: string;
  /** Size in bytes, padding included. */
  readonly size: number;
  /** The field table, in memory order. */
  readonly fields: readonly Field[];
  /**
   * Decodes exactly {@linkcode Struct.size} bytes.
   *
   * @throws {TypeError} If it is not a `Uint8Array`.
   * @throws {RangeError} If the length differs, or the bytes of a field are not a valid value of its type. The message
   * has the field, its offset and the value.
   */
  decode(bytes: Uint8Array): T;
  /**
   * Encodes into a new array, or into the first {@linkcode Struct.size} bytes of `into`. Padding is written as zeros.
   *
   * @throws {RangeError} If a value does not fit its field, or `into` is too short.
   */
  encode(value: T, into?: Uint8Array): Uint8Array<ArrayBuffer>;
  /**
   * Returns a function that reads only one field, for hot paths. The function copies nothing but the field.
   *
   * @throws {TypeError} If the structure does not have this field.
   */
  reader<Name extends keyof T & string>(name: Name): (bytes: Uint8Array) => T[Name];
}

/** The field types of a structure `T`, one for each of its members, in memory order. */
type FieldTypes<T> = { readonly [K in keyof T]-?: FieldType<T[K]> };

/** Reads and writes the members of a structure without a loop, for a structure whose speed matters. */
interface UnrolledCodec<T> {
  decode(view: DataView): T;
  encode(view: DataView, value: T): void;
}

/**
 * Makes a {@linkcode Struct} from its field types. The offsets follow from order, size and alignment, as in C.
 *
 * @param name The name of the structure, for error messages.
 * @param types One field type for each member of `T`, in memory order.
 * @param straight The same members without a loop over the table. Tests compare it with the table.
 * @returns The structure.
 */
export function struct<T extends object>(name: string, types: FieldTypes<T>, straight?: UnrolledCodec<T>): Struct<T> {
  const { fields, size, padded } = layOut(types);
  const loop: UnrolledCodec<T> = {
    decode(view) {
      const value: Record<string, unknown> = {};
      for (const field of fields) {
        value[field.name] = naming("decode", field, () => field.type.read(view, field.offset));
      }
      return value as T;
    },
    encode(view, value) {
      for (const field of fields) {
        naming("encode", field, () => field.type.write(view, field.offset, value[field.name as keyof T]));
      }
    },
  };
  const codec = straight ?? loop;

  return {
    name,
    size,
    fields,
    decode(bytes) {
      if (bytes?.byteLength !== size || !ArrayBuffer.isView(bytes)) throw notDecodable(bytes);
      const view = new DataView(bytes.buffer, bytes.byteOffset, size);
      try {
        return codec.decode(view);
      } catch (error) {
        // The loop can tell which field failed.
        if (straight !== undefined) loop.decode(view);
        throw error;
      }
    },
    encode(value, into) {
      if (into !== undefined && into.byteLength < size) {
        throw new RangeError(`Cannot encode ${name}: expected room for ${size} bytes, got ${into.byteLength}`);
      }
      const bytes = roomIn(into, size);
      if (padded && into !== undefined) bytes.fill(0);
      const view = new DataView(bytes.buffer, bytes.byteOffset, size);
      try {
        codec.encode(view, value);
      } catch (error) {
        if (straight !== undefined) loop.encode(view, value);
        throw error;
      }
      return bytes;
    },
    reader(fieldName) {
      const field = fields.find((field) => field.name === fieldName);
      if (field === undefined) throw new TypeError(`Cannot read ${name}: it does not have a field ${fieldName}`);
      const { type, offset } = field as Field<T[typeof fieldName]>;
      return (bytes) => {
        if (bytes?.byteLength !== size || !ArrayBuffer.isView(bytes)) throw notDecodable(bytes);
        return type.read(new DataView(bytes.buffer, bytes.byteOffset, size), offset);
      };
    },
  };

  function notDecodable(bytes: unknown): Error {
    if (!(bytes instanceof Uint8Array)) return new TypeError(`Cannot decode ${name}: expected a Uint8Array`);
    return new RangeError(`Cannot decode ${name}: expected ${size} bytes, got ${bytes.byteLength}`);
  }

  function naming<V>(verb: string, field: Field, use: () => V): V {
    try {
      return use();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new RangeError(`Cannot ${verb} ${name}: ${field.name} at offset ${field.offset}: ${reason}`, { cause });
    }
  }
}

/** Returns the first `size` bytes of a buffer, or of a new one. */
function roomIn(into: Uint8Array | undefined, size: number): Uint8Array<ArrayBuffer> {
  if (into === undefined) return new Uint8Array(size);
  return (into.byteLength === size ? into : into.subarray(0, size)) as Uint8Array<ArrayBuffer>;
}

/** Places members in order, each at a multiple of its alignment, as a C compiler does. */
function layOut(types: object): { fields: Field[]; size: number; padded: boolean } {
  const fields: Field[] = [];
  let end = 0;
  let used = 0;
  let align = 1;
  for (const [name, type] of Object.entries(types) as [string, FieldType<unknown>][]) {
    const offset = alignUp(end, type.align);
    fields.push({ name, offset, type });
    end = offset + type.size;
    used += type.size;
    align = Math.max(align, type.align);
  }
  const size = alignUp(end, align);
  return { fields, size, padded: size !== used };
}

function alignUp(offset: number, align: number): number {
  return Math.ceil(offset / align) * align;
}
