/**
 * The service provider that the rest of the library uses.
 *
 * @module
 */
import type { ServiceProvider } from "./service_provider.ts";
import { UnixProvider } from "./unix/provider.ts";
import { WinsockProvider } from "./winsock_provider.ts";

let provider: ServiceProvider | undefined;

/**
 * Returns the provider that the library uses. By default this is the provider of the system, made at the first call:
 * winsock on Windows, and unix on Linux and macOS. {@linkcode useProvider} replaces it.
 *
 * @returns The same provider every time, until another one is chosen.
 * @throws {Deno.errors.NotSupported} On a system without a provider; the message names it.
 *
 * @experimental
 */
export function defaultProvider(): ServiceProvider {
  return provider ??= openProvider(Deno.build.os);
}

/**
 * Replaces the provider that the whole library uses in this process: `duplicateSocket` and `openSocket`,
 * `HandoffSource` and `receive`. The source and the target must use providers that understand each other's blobs.
 *
 * @example Using another provider temporarily
 * ```ts
 * import { defaultProvider, UnsupportedProvider, useProvider } from "@winsock/handoff/spi";
 * import { assert } from "@std/assert";
 *
 * {
 *   using _ = useProvider(new UnsupportedProvider());
 *   assert(defaultProvider() instanceof UnsupportedProvider);
 * }
 * assert(!(defaultProvider() instanceof UnsupportedProvider));
 * ```
 *
 * @param chosen The provider.
 * @returns Dispose of it to restore the previous provider. First close the sockets that were opened through this
 * provider.
 *
 * @experimental
 */
export function useProvider(chosen: ServiceProvider): Disposable {
  const before = provider;
  provider = chosen;
  return { [Symbol.dispose]: () => provider = before };
}

/**
 * Makes the service provider of a system.
 *
 * @param os The name of the system.
 * @returns A new provider. It does not open a library before its first call.
 * @throws {Deno.errors.NotSupported} On a system without a provider; the message names it.
 *
 * @experimental
 */
export function openProvider(os: typeof Deno.build.os): ServiceProvider {
  switch (os) {
    case "windows":
      return new WinsockProvider();
    case "linux":
    case "darwin":
      return new UnixProvider();
    default:
      throw new Deno.errors.NotSupported(
        `Cannot share sockets on ${os}: @winsock/handoff does not have a service provider for it`,
      );
  }
}
