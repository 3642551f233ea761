/**
 * Service providers: who can duplicate a socket for another process and open it there.
 *
 * @example The system's provider says who it is
 * ```ts
 * import { defaultProvider } from "@winsock/handoff/spi";
 * import { assert } from "@std/assert";
 *
 * assert(defaultProvider().protocolInfo.ProviderId.length === 36);
 * ```
 *
 * @module
 */
export { protocolCatalog } from "./catalog.ts";
export { defaultProvider, openProvider } from "./default_provider.ts";
export type { ServiceProvider } from "./service_provider.ts";
export { UnixProvider, type UnixProviderOptions } from "./unix/provider.ts";
export { WinsockProvider } from "./winsock_provider.ts";
