/**
 * Notes which public functions were called, and which options were given. This module is put into the folder `internal`
 * of a copy of the library, and `tools/seen/marks.ts` inserts the calls.
 *
 * Each note is a line of a file in the folder `seen` of the copy, written at once: tests kill processes. The processes
 * have permission for the system's socket library and often no other, so the library writes the file.
 *
 * @module
 */

const FOLDER = new URL("../seen/", import.meta.url);
const onWindows = Deno.build.os === "windows";
/** The libraries that a process of a test may open. */
const LIBRARIES = onWindows ? ["C:\\Windows\\System32\\kernel32.dll"] : [
  "/lib/x86_64-linux-gnu/libc.so.6",
  "/lib/aarch64-linux-gnu/libc.so.6",
  new URL("../.cache/native/provider.so", import.meta.url).pathname,
];
const UNIX_SYMBOLS = {
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
} as const;
const WINDOWS_SYMBOLS = {
  CreateFileW: { parameters: ["buffer", "u32", "u32", "usize", "u32", "u32", "usize"], result: "usize" },
  WriteFile: { parameters: ["usize", "buffer", "u32", "buffer", "usize"], result: "i32" },
  CloseHandle: { parameters: ["usize"], result: "i32" },
} as const;

const O_WRONLY_CREAT_APPEND = 0o2101;
const FILE_APPEND_DATA = 4;
const FILE_SHARE_ALL = 7;
const OPEN_ALWAYS = 4;

/** The lines that this process has written. */
const noted = new Set<string>();
/** Threads and processes have files of their own, because not every system appends to a file in one step. */
const name = `${Deno.pid}-${crypto.randomUUID()}`;
let append: ((line: Uint8Array<ArrayBuffer>) => void) | undefined;

/**
 * Notes a call.
 *
 * @param called The function, as in the table.
 * @param args Its arguments.
 * @param options The options that it has: the index of the argument, the option's name, and the names that lead to it.
 */
export function seen(
  called: string,
  args: ArrayLike<unknown>,
  options: readonly [number, string, ...string[]][],
): void {
  note(called);
  for (const [index, option, ...path] of options) {
    const given = path.length === 0
      ? args[index] === option
      : path.reduce((value, key) => Object(value)[key], args[index]) !== undefined;
    if (given) note(`${called}\t${option}`);
  }
}

function note(line: string): void {
  if (noted.has(line)) return;
  noted.add(line);
  try {
    append ??= openFile();
    append(new TextEncoder().encode(`${line}\n`));
  } catch {
    // A process that may not open the library cannot use a socket.
  }
}

function openFile(): NonNullable<typeof append> {
  if (onWindows) {
    const { CreateFileW, WriteFile, CloseHandle } = Deno.dlopen(LIBRARIES[0]!, WINDOWS_SYMBOLS).symbols;
    const path = new URL(name, FOLDER).pathname.slice(1).replaceAll("/", "\\");
    const wide = Uint16Array.from([...path, "\0"], (unit) => unit.charCodeAt(0));
    return (line) => {
      const file = CreateFileW(wide, FILE_APPEND_DATA, FILE_SHARE_ALL, 0n, OPEN_ALWAYS, 0, 0n);
      WriteFile(file, line, line.byteLength, new Uint32Array(1), 0n);
      CloseHandle(file);
    };
  }
  const path = new TextEncoder().encode(`${new URL(name, FOLDER).pathname}\0`);
  const { open, write, close } = openLibrary().symbols;
  return (line) => {
    const file = open(path, O_WRONLY_CREAT_APPEND, 0o666);
    write(file, line, BigInt(line.byteLength));
    close(file);
  };
}

function openLibrary(): Deno.DynamicLibrary<typeof UNIX_SYMBOLS> {
  for (const path of LIBRARIES) {
    try {
      return Deno.dlopen(path, UNIX_SYMBOLS);
    } catch {
      // This process may open another one.
    }
  }
  throw new Error("Cannot note a call: no library may be opened");
}
