/**
 * kernel32.dll: what sockets need as handles.
 *
 * @module
 */
import { openLibrary } from "../library.ts";
import { SYSTEM32 } from "./system32.ts";

/** `HANDLE_FLAG_INHERIT`: a child process started with inheritance gets a copy of the handle. */
export const HANDLE_FLAG_INHERIT = 0x1;

/** The functions of kernel32.dll the library binds, with their parameters' types. */
export const KERNEL32_SYMBOLS = {
  /** `BOOL SetHandleInformation(HANDLE hObject, DWORD dwMask, DWORD dwFlags)` */
  SetHandleInformation: { parameters: ["usize", "u32", "u32"], result: "i32" },
  /** `BOOL CancelIoEx(HANDLE hFile, LPOVERLAPPED lpOverlapped)` */
  CancelIoEx: { parameters: ["usize", "usize"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof KERNEL32_SYMBOLS>["symbols"] | undefined;

/**
 * The functions of `kernel32.dll`, opened at the first call.
 *
 * Needs `--allow-ffi=C:\Windows\System32\kernel32.dll`.
 *
 * @returns The bound functions, raw: nothing is checked.
 * @throws {Deno.errors.NotCapable} Without the permission.
 */
export function kernel32(): Deno.DynamicLibrary<typeof KERNEL32_SYMBOLS>["symbols"] {
  return symbols ??= openLibrary([`${SYSTEM32}\\kernel32.dll`], KERNEL32_SYMBOLS);
}
