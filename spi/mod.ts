/**
 * Service providers: duplicating a socket for another process and opening it there, chains of providers, and the native
 * interface in both directions.
 *
 * Importing this module needs no permission. The provider of the system needs ffi access to the system's socket
 * library. {@linkcode openNativeProvider} and {@linkcode exportProvider}, which call native code or are called by it,
 * need full `--allow-ffi`.
 *
 * **This entry point is experimental**: its exports may change in any version, except the functions that are one Winsock
 * call each: {@linkcode duplicateSocketA}, {@linkcode socketA}, {@linkcode toAnsi}, {@linkcode toWide},
 * {@linkcode protocolCatalog}, {@linkcode providerPath}, {@linkcode baseHandle} and {@linkcode findBrokenHandoffs}.
 *
 * @example Sharing a socket through the system's provider
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { defaultProvider } from "@winsock/handoff/spi";
 * import { assertEquals, assertNotEquals } from "@std/assert";
 *
 * const provider = defaultProvider();
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * const protocolInfo = provider.duplicateSocket(listener.handle, Deno.pid);
 * assertEquals(protocolInfo.byteLength, 628);
 * const duplicate = await provider.socket(protocolInfo);
 * assertNotEquals(duplicate, listener.handle);
 * provider.closeSocket(duplicate);
 * ```
 *
 * @example Reading the catalog entry of the system's provider
 * ```ts
 * import { defaultProvider } from "@winsock/handoff/spi";
 * import { assert } from "@std/assert";
 *
 * assert(defaultProvider().protocolInfo.ProviderId.length === 36);
 * ```
 *
 * @module
 */
export { duplicateSocketA, socketA, toAnsi, toWide } from "./ansi.ts";
export { baseHandle, type BrokenHandoff, findBrokenHandoffs, protocolCatalog, providerPath } from "./system_catalog.ts";
export { type ChainPlace, duplicateForCaller, duplicateForNext, entryForNext } from "./chain.ts";
export { defaultProvider, openProvider, useProvider } from "./default_provider.ts";
export { DescriptorTable, type DescriptorTableOptions } from "./descriptor_table.ts";
export { LayeredProvider } from "./layered_provider.ts";
export {
  MEMORY_PROVIDER_ID,
  MemoryProvider,
  type MemoryProviderOptions,
  type MemoryProviderStep,
} from "./memory_provider.ts";
export { type ExportedProvider, exportProvider } from "./native/exported_provider.ts";
export { nativeFunctions, openNativeProvider } from "./native/native_provider.ts";
export type { NativeArgument, PassedOnName } from "../ffi/platform.ts";
export { type EntryKind, entryKind, type NextInChain, ProviderCatalog } from "./provider_catalog.ts";
export { type ProviderFunctions, SPI_VERSION, type Upcalls } from "./provider_functions.ts";
export type { ServiceProvider } from "./service_provider.ts";
export { functionsOf, TableProvider } from "./table_provider.ts";
export { UNIX_PROVIDER_ID, UnixProvider, type UnixProviderOptions } from "./unix/provider.ts";
export { UNSUPPORTED_PROVIDER_ID, UnsupportedProvider } from "./unsupported_provider.ts";
export { WinsockProvider } from "./winsock_provider.ts";
