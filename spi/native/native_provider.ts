/**
 * A provider in native code: any library that exports `WSPStartup`.
 *
 * @module
 */
import { isAbsolute } from "node:path";
import { WSP_STARTUP } from "../../ffi/spi_functions.ts";
import { providerCalls } from "../../ffi/system.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import type { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import type { DescriptorTable } from "../descriptor_table.ts";
import type { ProviderFunctions } from "../provider_functions.ts";
import { TableProvider } from "../table_provider.ts";
import { spiError } from "../spi_error.ts";
import { callAt } from "./memory.ts";
import { NativeFunctions, type NativeStartup } from "./native_functions.ts";

/**
 * The functions of a native provider, for use as a part of a chain.
 *
 * Needs full `--allow-ffi`: functions of ours are called by native code.
 *
 * @param source The absolute path of a library that exports `WSPStartup`, or a pointer to one. The library stays loaded.
 * @returns Its functions, not started.
 * @throws {TypeError} If the path is not absolute.
 * @throws {WinsockError} WSAEPROVIDERFAILEDINIT if the library cannot be loaded or exports no `WSPStartup`,
 * WSAEINVALIDPROVIDER if it is one of Wine's placeholders, which are not called: they end the process.
 * @throws {Deno.errors.NotCapable} Without the permission.
 */
export function nativeFunctions(source: string | Deno.PointerObject): ProviderFunctions {
  const name = typeof source === "string" ? source : `the provider at ${Deno.UnsafePointer.value(source)}`;
  const startup = typeof source === "string"
    ? loadStartup(source)
    : (...args: Parameters<NativeStartup>) => callAt(source, WSP_STARTUP, args) as number;
  const code = typeof source === "string" ? source : Deno.UnsafePointer.value(source);
  if (providerCalls().isPlaceholder(code)) {
    const detail = "it is a part of Wine, whose WSPStartup is a placeholder that ends the process";
    throw spiError("WSAEINVALIDPROVIDER", "WSPStartup", `start ${name}`, detail);
  }
  return new NativeFunctions(name, startup);
}

/**
 * Opens a native provider: a layered service provider's library, one's own, or what {@linkcode exportProvider} made.
 *
 * Its `WSPStartup` is called at the first use, with version 2.2 and upcalls of ours; every function is called through the
 * WSPPROC_TABLE it fills, and a code in `lpErrno` becomes a {@linkcode WinsockError}. Calls run on this thread. Works on
 * Linux and macOS too, with a library in the system's own calling convention.
 *
 * Needs full `--allow-ffi`.
 *
 * @example
 * ```ts ignore
 * import { openNativeProvider, protocolCatalog, providerPath, useProvider } from "@winsock/handoff/spi";
 *
 * const entry = protocolCatalog().find(({ szProtocol }) => szProtocol === "My provider")!;
 * using provider = openNativeProvider(providerPath(entry.ProviderId)!, entry);
 * using _ = useProvider(provider);
 * ```
 *
 * @param source The absolute path of a library that exports `WSPStartup`, or a pointer to one.
 * @param protocolInfo The catalogue entry to use it as.
 * @param descriptors Where its upcalls go. Default: a table of its own.
 * @returns The provider; the caller's to dispose of. The library stays loaded.
 * @throws {TypeError} If the path is not absolute.
 * @throws {WinsockError} WSAEPROVIDERFAILEDINIT if the library cannot be loaded or exports no `WSPStartup`,
 * WSAEINVALIDPROVIDER if it is one of Wine's placeholders.
 * @throws {Deno.errors.NotCapable} Without the permission.
 */
export function openNativeProvider(
  source: string | Deno.PointerObject,
  protocolInfo: WSAPROTOCOL_INFOW,
  descriptors?: DescriptorTable,
): TableProvider {
  return new TableProvider(nativeFunctions(source), protocolInfo, descriptors);
}

function loadStartup(path: string): NativeStartup {
  if (!isAbsolute(path)) throw new TypeError(`Cannot load the service provider ${path}: its path is not absolute`);
  try {
    return Deno.dlopen(path, { WSPStartup: WSP_STARTUP }).symbols.WSPStartup;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) throw cause;
    throw new WinsockError(WSA_ERRORS.WSAEPROVIDERFAILEDINIT, {
      operation: `load the service provider ${path}`,
      functionName: "WSPStartup",
      detail: cause instanceof Error ? cause.message : String(cause),
      cause,
    });
  }
}
