/**
 * The codec of every structure: a table of fields, written once, from which size, offsets, decoding and encoding follow.
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

/** Names for the values of a member: bits that are set together, or one value of several. */
export interface FieldNames {
  /** Whether the names stand for bits or for whole values. */
  readonly kind: "flags" | "value";
  /** The names, as in the Windows headers, with their numbers. */
  readonly names: Readonly<Record<string, number>>;
}

/** How one kind of field is laid out: its size and alignment in bytes and its way to a JavaScript value and back. */
export interface FieldType<V> {
  /** The C spelling of the type, such as `DWORD`. */
  readonly cType: string;
  /** Size in bytes. */
  readonly size: number;
  /** Alignment in bytes, as a C compiler for 64-bit Windows uses it. */
  readonly align: number;
  /** What its numbers are called, where they have names. */
  readonly names?: FieldNames;
  /** Reads the value at `offset`; throws a `RangeError` that says what is wrong when the bytes hold none. */
  read(view: DataView, offset: number): V;
  /** Writes `value` at `offset`; throws a `RangeError` that says what is wrong when it does not fit. */
  write(view: DataView, offset: number, value: V): void;
}

/** One row of a structure's field table. */
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
   * @throws {RangeError} If the length differs, or a field's bytes hold no value of its type; it names the field, its
   * offset and the value.
   */
  decode(bytes: Uint8Array): T;
  /**
   * Encodes into a new array, or into the first {@linkcode Struct.size} bytes of `into`. Padding is written as zeros.
   *
   * @throws {RangeError} If a value does not fit its field, or `into` is too short.
   */
  encode(value: T, into?: Uint8Array): Uint8Array<ArrayBuffer>;
  /**
   * Makes a function that reads one field and nothing else, for hot paths. The function copies nothing but the field.
   *
   * @throws {TypeError} If the structure has no such field.
   */
  reader<Name extends keyof T & string>(name: Name): (bytes: Uint8Array) => T[Name];
}

/** The field types of a structure `T`, one for each of its members, in memory order. */
type FieldTypes<T> = { readonly [K in keyof T]-?: FieldType<T[K]> };

/** A structure's members read and written one after the other, for a structure whose speed matters. */
interface UnrolledCodec<T> {
  decode(view: DataView): T;
  encode(view: DataView, value: T): void;
}

/**
 * Makes a {@linkcode Struct} from its field types; offsets follow from order, size and alignment, as in C.
 *
 * @param name The structure's name, for error messages.
 * @param types One field type for each member of `T`, in memory order.
 * @param straight The same members without a loop over the table; tests hold it against the table.
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
      if (bytes.byteLength !== size) throw wrongSize(bytes);
      const view = new DataView(bytes.buffer, bytes.byteOffset, size);
      try {
        return codec.decode(view);
      } catch (error) {
        // The loop knows which field it was.
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
      if (field === undefined) throw new TypeError(`${name} has no field ${fieldName}`);
      const { type, offset } = field as Field<T[typeof fieldName]>;
      return (bytes) => {
        if (bytes.byteLength !== size) throw wrongSize(bytes);
        return type.read(new DataView(bytes.buffer, bytes.byteOffset, size), offset);
      };
    },
  };

  function wrongSize(bytes: Uint8Array): RangeError {
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

/** The first `size` bytes of a buffer, or a new one. */
function roomIn(into: Uint8Array | undefined, size: number): Uint8Array<ArrayBuffer> {
  if (into === undefined) return new Uint8Array(size);
  return (into.byteLength === size ? into : into.subarray(0, size)) as Uint8Array<ArrayBuffer>;
}

/** Places members one behind the other, each at a multiple of its alignment, as a C compiler does. */
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
