/**
 * The one codec design every structure of the subject uses: a table of fields, written once, from which size, offsets,
 * decoding and encoding follow.
 *
 * @module
 */

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
export type FieldTypes<T> = { readonly [K in keyof T]-?: FieldType<T[K]> };

/** A structure's members read and written one after the other, for a structure whose speed matters. */
export interface StraightCodec<T> {
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
export function struct<T extends object>(name: string, types: FieldTypes<T>, straight?: StraightCodec<T>): Struct<T> {
  const { fields, size, padded } = layOut(types);
  const loop: StraightCodec<T> = {
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
