/**
 * The one codec design every structure of the subject uses: a table of fields, written once, from which size, offsets,
 * decoding and encoding follow.
 *
 * @module
 */

/** How one kind of field is laid out: its size and alignment in bytes and its way to a JavaScript value and back. */
export interface FieldType<V> {
  /** The C spelling of the type, such as `DWORD`. */
  readonly cType: string;
  /** Size in bytes. */
  readonly size: number;
  /** Alignment in bytes, as a C compiler for 64-bit Windows uses it. */
  readonly align: number;
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
   * @throws {RangeError} If the length differs, or a field's bytes hold no value of its type.
   */
  decode(bytes: Uint8Array): T;
  /**
   * Encodes into a new array, or into the first {@linkcode Struct.size} bytes of `into`.
   *
   * @throws {RangeError} If a value does not fit its field, or `into` is too short.
   */
  encode(value: T, into?: Uint8Array): Uint8Array<ArrayBuffer>;
}

/** The field types of a structure `T`, one for each of its members, in memory order. */
export type FieldTypes<T> = { readonly [K in keyof T]-?: FieldType<T[K]> };

/**
 * Makes a {@linkcode Struct} from its field types; offsets follow from order, size and alignment, as in C.
 *
 * @param name The structure's name, for error messages.
 * @param types One field type for each member of `T`, in memory order.
 * @returns The structure.
 */
export function struct<T extends object>(name: string, types: FieldTypes<T>): Struct<T> {
  const fields: Field[] = [];
  let end = 0;
  let align = 1;
  for (const [field, type] of Object.entries(types) as [string, FieldType<unknown>][]) {
    const offset = alignUp(end, type.align);
    fields.push({ name: field, offset, type });
    end = offset + type.size;
    align = Math.max(align, type.align);
  }
  const size = alignUp(end, align);

  return {
    name,
    size,
    fields,
    decode(bytes) {
      if (bytes.byteLength !== size) {
        throw new RangeError(`Cannot decode ${name}: expected ${size} bytes, got ${bytes.byteLength}`);
      }
      const view = new DataView(bytes.buffer, bytes.byteOffset, size);
      const value: Record<string, unknown> = {};
      for (const field of fields) {
        try {
          value[field.name] = field.type.read(view, field.offset);
        } catch (error) {
          throw fieldError("decode", name, field, error);
        }
      }
      return value as T;
    },
    encode(value, into) {
      if (into !== undefined && into.byteLength < size) {
        throw new RangeError(`Cannot encode ${name}: expected room for ${size} bytes, got ${into.byteLength}`);
      }
      const bytes = into === undefined
        ? new Uint8Array(size)
        : new Uint8Array(into.buffer as ArrayBuffer, into.byteOffset, size);
      const view = new DataView(bytes.buffer, bytes.byteOffset, size);
      for (const field of fields) {
        try {
          field.type.write(view, field.offset, (value as Record<string, unknown>)[field.name]);
        } catch (error) {
          throw fieldError("encode", name, field, error);
        }
      }
      return bytes;
    },
  };
}

/** `DWORD` and other unsigned 32-bit members, little-endian. */
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

/** `int` and other signed 32-bit members, little-endian. */
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

/** `u_short` in host order, little-endian. */
export const u16: FieldType<number> = {
  cType: "u_short",
  size: 2,
  align: 2,
  read: (view, offset) => view.getUint16(offset, true),
  write(view, offset, value) {
    checkUnsigned(value, 16);
    view.setUint16(offset, value, true);
  },
};

/** `u_short` in network order, big-endian. */
export const u16be: FieldType<number> = {
  cType: "u_short",
  size: 2,
  align: 2,
  read: (view, offset) => view.getUint16(offset, false),
  write(view, offset, value) {
    checkUnsigned(value, 16);
    view.setUint16(offset, value, false);
  },
};

/**
 * An array of `length` unsigned 32-bit members.
 *
 * @param length How many.
 * @returns The field type; its values are arrays of exactly `length` numbers.
 */
export function u32Array(length: number): FieldType<readonly number[]> {
  return {
    cType: `DWORD[${length}]`,
    size: length * 4,
    align: 4,
    read: (view, offset) => Array.from({ length }, (_, index) => view.getUint32(offset + index * 4, true)),
    write(view, offset, values) {
      if (values.length !== length) throw new RangeError(`Expected ${length} entries, got ${values.length}`);
      for (let index = 0; index < length; index++) u32.write(view, offset + index * 4, values[index]!);
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
 * @param length Room in code units.
 * @returns The field type.
 */
export function wcharArray(length: number): FieldType<string> {
  return {
    cType: `WCHAR[${length}]`,
    size: length * 2,
    align: 2,
    read(view, offset) {
      let used = length;
      while (used > 0 && view.getUint16(offset + (used - 1) * 2, true) === 0) used--;
      let text = "";
      for (let index = 0; index < used; index++) text += String.fromCharCode(view.getUint16(offset + index * 2, true));
      return text;
    },
    write(view, offset, text) {
      if (text.length > length) throw new RangeError(`Expected at most ${length} UTF-16 units, got ${text.length}`);
      for (let index = 0; index < text.length; index++) {
        view.setUint16(offset + index * 2, text.charCodeAt(index), true);
      }
      new Uint8Array(view.buffer, view.byteOffset + offset + text.length * 2, (length - text.length) * 2).fill(0);
    },
  };
}

function checkUnsigned(value: number, bits: number): void {
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** bits) {
    throw new RangeError(`${value} is no unsigned ${bits}-bit integer`);
  }
}

function alignUp(offset: number, align: number): number {
  return Math.ceil(offset / align) * align;
}

function fieldError(verb: string, struct: string, field: Field, cause: unknown): RangeError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new RangeError(`Cannot ${verb} ${struct}: ${field.name} at offset ${field.offset}: ${reason}`, { cause });
}
