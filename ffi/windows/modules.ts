/**
 * Loaded libraries: which one a piece of code belongs to, and whether that is one of Wine's own.
 *
 * @module
 */
import { openLibrary } from "../library.ts";
import { SYSTEM32 } from "./system32.ts";
import { wideText } from "../wide_text.ts";

const SYMBOLS = {
  /** `BOOL GetModuleHandleExW(DWORD dwFlags, LPCWSTR lpModuleName, HMODULE *phModule)`, the name an address */
  GetModuleHandleExW: { parameters: ["u32", "usize", "buffer"], result: "i32" },
  /** `HMODULE LoadLibraryW(LPCWSTR lpLibFileName)` */
  LoadLibraryW: { parameters: ["buffer"], result: "usize" },
} as const satisfies Deno.ForeignLibraryInterface;

const FROM_ADDRESS_UNCHANGED_REFCOUNT = 0x4 | 0x2;
/** What Wine's tools write behind the header of every library that is a part of Wine. */
const SIGNATURE = "Wine builtin DLL";
const SIGNATURE_OFFSET = 0x40;

let symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

/**
 * Whether code is in one of Wine's own libraries. Wine has no service providers: where one of its libraries exports
 * `WSPStartup`, as mswsock.dll does, that is a placeholder which ends the process.
 *
 * Needs full `--allow-ffi`, for it reads the library's header in memory.
 *
 * @param code The path of a library, which is loaded and stays loaded, or the address of a function.
 * @returns Whether it is Wine's; `false` for code that is in no library.
 * @throws {Deno.errors.NotCapable} Without the permission.
 */
export function isWineBuiltin(code: string | bigint): boolean {
  const kernel32 = symbols ??= openLibrary([`${SYSTEM32}\\kernel32.dll`], SYMBOLS);
  const module = new BigUint64Array(1);
  if (typeof code === "string") module[0] = kernel32.LoadLibraryW(wideText(code));
  else kernel32.GetModuleHandleExW(FROM_ADDRESS_UNCHANGED_REFCOUNT, code, module);
  const header = Deno.UnsafePointer.create(module[0]!);
  if (header === null) return false;
  const bytes = Deno.UnsafePointerView.getArrayBuffer(header, SIGNATURE.length, SIGNATURE_OFFSET);
  return new TextDecoder("latin1").decode(bytes) === SIGNATURE;
}
