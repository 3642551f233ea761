/**
 * Opening native libraries, by absolute path and at first use; and text as their W functions take it.
 *
 * @module
 */

/**
 * Opens the first of `paths` that exists, and returns its symbols.
 *
 * Paths are absolute: under a restricted grant Deno would join a bare name onto the working directory, which no grant
 * could name and where another's library might wait. Of several paths, one that `--allow-ffi` names is tried first, so
 * that no grant is asked for that is not needed.
 *
 * @param paths Absolute paths of the same library on different systems.
 * @param symbols The functions to bind.
 * @returns The bound functions. They stay bound for the life of the process.
 * @throws {Deno.errors.NotCapable} If ffi access to the library is not granted.
 * @throws {Deno.errors.NotFound} If none of the paths can be opened; the message names them.
 */
export function openLibrary<const Symbols extends Deno.ForeignLibraryInterface>(
  paths: readonly string[],
  symbols: Symbols,
): Deno.DynamicLibrary<Symbols>["symbols"] {
  const granted = paths.filter((path) => Deno.permissions.querySync({ name: "ffi", path }).state === "granted");
  let cause: unknown;
  for (const path of granted.length > 0 ? granted : paths) {
    try {
      return Deno.dlopen(path, symbols).symbols;
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
      cause = error;
    }
  }
  throw new Deno.errors.NotFound(`Cannot open ${paths.join(" or ")}`, { cause });
}

/** A text with its NUL. */
export function encodeUtf16(text: string): Uint16Array<ArrayBuffer> {
  const units = new Uint16Array(text.length + 1);
  for (let index = 0; index < text.length; index++) units[index] = text.charCodeAt(index);
  return units;
}

/** The text up to the NUL, or all of it. */
export function decodeUtf16(units: Uint16Array): string {
  const end = units.indexOf(0);
  return String.fromCharCode(...units.subarray(0, end === -1 ? undefined : end));
}

/** The directory of Windows' own libraries. */
export const SYSTEM32 = "C:\\Windows\\System32";
