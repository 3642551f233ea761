/**
 * Memory that native code points at. Needs full `--allow-ffi`.
 *
 * @module
 */

/**
 * Native memory as an array: what is written into it, native code sees.
 *
 * @param pointer Where it begins.
 * @param length How many bytes.
 */
export function bytesAt(pointer: Deno.PointerObject, length: number): Uint8Array<ArrayBuffer> {
  // An array of no bytes cannot be had from the memory itself.
  return length === 0 ? new Uint8Array(0) : new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer, length));
}

/** Reads an `int`. */
export function readInt(pointer: Deno.PointerObject): number {
  return new Deno.UnsafePointerView(pointer).getInt32();
}

/** Writes an `int`, or nothing where there is no place for it. */
export function writeInt(pointer: Deno.PointerValue, value: number): void {
  if (pointer !== null) new DataView(Deno.UnsafePointerView.getArrayBuffer(pointer, 4)).setInt32(0, value, true);
}

/** Writes a `DWORD_PTR` or a pointer. */
export function writePointer(pointer: Deno.PointerObject, value: bigint): void {
  new DataView(Deno.UnsafePointerView.getArrayBuffer(pointer, 8)).setBigUint64(0, value, true);
}

/** Reads a text of UTF-16 up to its NUL. */
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
 * @param pointer Where.
 * @param room How many UTF-16 units there is room for.
 * @returns Whether it fits; if not, nothing is written.
 */
export function writeWide(pointer: Deno.PointerObject, room: number, text: string): boolean {
  if (text.length + 1 > room) return false;
  const view = new DataView(Deno.UnsafePointerView.getArrayBuffer(pointer, (text.length + 1) * 2));
  for (let index = 0; index <= text.length; index++) {
    view.setUint16(index * 2, index === text.length ? 0 : text.charCodeAt(index), true);
  }
  return true;
}

/**
 * Calls the native function at an address.
 *
 * @param pointer Its address.
 * @param definition Its types.
 * @param args What it is given.
 * @returns What it returns.
 */
export function callAt(
  pointer: Deno.PointerObject,
  definition: Deno.ForeignFunction,
  args: readonly unknown[],
): unknown {
  const native = new Deno.UnsafeFnPointer(pointer as Deno.PointerObject<typeof definition>, definition);
  return Reflect.apply(native.call as (...args: unknown[]) => unknown, native, args);
}
