/**
 * Opens native libraries by absolute path at first use, and converts text for the W functions.
 *
 * @module
 */

const opened = new Set<string>();

/** Returns the paths of the libraries that this process has opened. */
export function openedLibraries(): string[] {
  return [...opened];
}

/**
 * Opens the first of `paths` that exists, and returns its symbols.
 *
 * The paths must be absolute. With a restricted `--allow-ffi`, Deno would resolve a bare name against the working
 * directory, which no permission could name and where another library might be found. If `--allow-ffi` names one of
 * several paths, that path is tried first, so that no further permission is requested.
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
      const library = Deno.dlopen(path, symbols);
      opened.add(path);
      return library.symbols;
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
      cause = error;
    }
  }
  throw new Deno.errors.NotFound(`Cannot open ${paths.join(" or ")}`, { cause });
}

/** Encodes a text in UTF-16 with a NUL at the end. */
export function encodeUtf16(text: string): Uint16Array<ArrayBuffer> {
  const units = new Uint16Array(text.length + 1);
  for (let index = 0; index < text.length; index++) units[index] = text.charCodeAt(index);
  return units;
}

/** Decodes a UTF-16 text up to the first NUL, or all of it. */
export function decodeUtf16(units: Uint16Array): string {
  const end = units.indexOf(0);
  return String.fromCharCode(...units.subarray(0, end === -1 ? undefined : end));
}

/** The paths of the two libraries of Windows that sockets need. */
export const WS2_32_PATH = "C:\\Windows\\System32\\ws2_32.dll";
export const KERNEL32_PATH = "C:\\Windows\\System32\\kernel32.dll";
