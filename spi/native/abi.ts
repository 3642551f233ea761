/**
 * Access to memory and functions by native pointers. Needs full `--allow-ffi`.
 *
 * @module
 */
import {
  asCallback,
  failure,
  type SpiFunctionName,
  WSPPROC_FUNCTIONS,
  WSPUPCALL_FUNCTIONS,
} from "../../ffi/spi_functions.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { spiError } from "../service_provider.ts";

/**
 * Returns native memory as an array. Native code sees the bytes that are written into it.
 *
 * @param pointer The first byte.
 * @param length The number of bytes.
 */
export function bytesAt(pointer: Deno.PointerObject, length: number): Uint8Array<ArrayBuffer> {
  // Native memory cannot be viewed as an array of no bytes.
  return length === 0 ? new Uint8Array(0) : new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer, length));
}

/** Reads an `int`. */
export function readInt(pointer: Deno.PointerObject): number {
  return new Deno.UnsafePointerView(pointer).getInt32();
}

/** Writes an `int`. Does nothing if the pointer is NULL. */
export function writeInt(pointer: Deno.PointerValue, value: number): void {
  if (pointer !== null) new DataView(Deno.UnsafePointerView.getArrayBuffer(pointer, 4)).setInt32(0, value, true);
}

/** Writes a `DWORD_PTR` or a pointer. */
export function writePointer(pointer: Deno.PointerObject, value: bigint): void {
  new DataView(Deno.UnsafePointerView.getArrayBuffer(pointer, 8)).setBigUint64(0, value, true);
}

/** Reads a UTF-16 text up to its NUL. */
export function readWide(pointer: Deno.PointerObject): string {
  const view = new Deno.UnsafePointerView(pointer);
  let text = "";
  for (let unit = view.getUint16(0); unit !== 0; unit = view.getUint16(text.length * 2)) {
    text += String.fromCharCode(unit);
  }
  return text;
}

/**
 * Writes a text with its NUL.
 *
 * @param pointer The address to write to.
 * @param room The size of the buffer in UTF-16 units.
 * @returns Whether the text fits. If not, nothing is written.
 */
export function writeWide(pointer: Deno.PointerObject, room: number, text: string): boolean {
  if (text.length + 1 > room) return false;
  const view = new DataView(Deno.UnsafePointerView.getArrayBuffer(pointer, (text.length + 1) * 2));
  for (let index = 0; index <= text.length; index++) {
    view.setUint16(index * 2, index === text.length ? 0 : text.charCodeAt(index), true);
  }
  return true;
}

/** The offset of the array in the `fd_set` of winsock2.h. Its length is at 0. */
const FD_ARRAY_OFFSET = 8;

/** Reads the sockets of an `fd_set` of winsock2.h. */
export function readSet(set: Deno.PointerObject): BigUint64Array {
  const size = readInt(set) * 8;
  return new BigUint64Array(bytesAt(set, FD_ARRAY_OFFSET + size).slice(FD_ARRAY_OFFSET).buffer);
}

/** Writes the sockets of an `fd_set` of winsock2.h, which must have room for them. */
function writeSet(set: Deno.PointerObject, sockets: BigUint64Array<ArrayBuffer>): void {
  writeInt(set, sockets.length);
  bytesAt(set, FD_ARRAY_OFFSET + sockets.byteLength).set(new Uint8Array(sockets.buffer), FD_ARRAY_OFFSET);
}

/**
 * Calls a `select` with other sockets than those in the sets of native code. Then leaves those in the sets for which it
 * has left the other one.
 *
 * @param sets The sets, each NULL or a pointer to an `fd_set` of winsock2.h.
 * @param other Returns the other socket for one of native code.
 * @param select Calls the function with the sets of the other sockets.
 * @returns The result of the function.
 */
export function selectOther<Result>(
  sets: readonly Deno.PointerValue[],
  other: (s: bigint) => bigint,
  select: (sets: Deno.PointerValue[]) => Result,
): Result {
  const replaced = sets.map((set) => {
    if (set === null) return undefined;
    const originals = new Map([...readSet(set)].map((s) => [other(s), s]));
    const copy = new Uint8Array(FD_ARRAY_OFFSET + originals.size * 8);
    const pointer = Deno.UnsafePointer.of(copy)!;
    writeSet(pointer, BigUint64Array.from(originals.keys()));
    return { set, originals, copy, pointer };
  });
  const result = select(replaced.map((each) => each?.pointer ?? null));
  for (const each of replaced) {
    if (each === undefined) continue;
    const { set, originals, copy } = each;
    const left = readSet(Deno.UnsafePointer.of(copy)!);
    writeSet(set, BigUint64Array.from(left, (s) => originals.get(s)!));
  }
  return result;
}

/**
 * Calls the native function at an address.
 *
 * @param pointer The address of the function.
 * @param definition The types of its parameters and result.
 * @param args The arguments.
 * @returns The result of the function.
 */
export function callAt(
  pointer: Deno.PointerObject,
  definition: Deno.ForeignFunction,
  args: readonly unknown[],
): unknown {
  const native = new Deno.UnsafeFnPointer(pointer as Deno.PointerObject<typeof definition>, definition);
  return Reflect.apply(native.call as (...args: unknown[]) => unknown, native, args);
}

/** The arguments that native code passes: numbers, addresses and handles as bigints, pointers. */
// deno-lint-ignore no-explicit-any -- the types are those of the function's row in the table
type NativeArguments = any[];

/** A function that native code calls. If it throws, the code of the error is written to `lpErrno`. */
type Implementation = (...args: NativeArguments) => number | bigint;

/** Functions of this program as pointers, valid until they are closed. */
export interface CallbackTable extends Disposable {
  /** The pointers, in the order of the names. */
  readonly pointers: BigUint64Array<ArrayBuffer>;
}

/** The functions without `lpErrno`. */
const SILENT: ReadonlySet<SpiFunctionName> = new Set(["lpWPUFDIsSet", "lpWPUPostMessage"]);
const DEFINITIONS = { ...WSPPROC_FUNCTIONS, ...WSPUPCALL_FUNCTIONS };

/**
 * Makes the pointers of a table. A function without an implementation fails with WSAEOPNOTSUPP, so that every entry of
 * the table is valid.
 *
 * Needs full `--allow-ffi`.
 *
 * @param names The functions of the table, in its order.
 * @param implementations The implementation of each function.
 */
export function callbackTable(
  names: readonly SpiFunctionName[],
  implementations: { readonly [Name in SpiFunctionName]?: Implementation },
): CallbackTable {
  const callbacks = names.map((name) => callback(name, implementations[name] ?? (() => unsupported(name))));
  return {
    pointers: BigUint64Array.from(callbacks, ({ pointer }) => Deno.UnsafePointer.value(pointer)),
    [Symbol.dispose]() {
      for (const callback of callbacks) callback.close();
    },
  };
}

/** Returns the code that native code gets for an error. */
export function codeOf(error: unknown): number {
  if (error instanceof WinsockError) return error.code;
  const invalid = error instanceof RangeError || error instanceof TypeError;
  return invalid ? WSA_ERRORS.WSAEINVAL : WSA_ERRORS.WSASYSCALLFAILURE;
}

/** Checks that a pointer is not NULL. */
export function required(pointer: Deno.PointerValue, functionName: string): Deno.PointerObject {
  if (pointer !== null) return pointer;
  throw spiError("WSAEFAULT", functionName, "use a pointer", "it is NULL");
}

function callback(name: SpiFunctionName, implementation: Implementation): Deno.UnsafeCallback {
  const definition = DEFINITIONS[name];
  const call: Implementation = (...args) => {
    try {
      return implementation(...args);
    } catch (error) {
      if (!SILENT.has(name)) writeInt(args.at(-1), codeOf(error));
      return failure(name, definition.result);
    }
  };
  return new Deno.UnsafeCallback(asCallback(definition), call as never) as unknown as Deno.UnsafeCallback;
}

function unsupported(name: SpiFunctionName): never {
  throw spiError("WSAEOPNOTSUPP", name.slice("lp".length), "use a socket through this table");
}
