/**
 * The provider the rest of the library uses.
 *
 * @module
 */
import type { ServiceProvider } from "./service_provider.ts";
import { UnixProvider } from "./unix/provider.ts";
import { WinsockProvider } from "./winsock_provider.ts";

let provider: ServiceProvider | undefined;

/**
 * The provider the library uses: the system's own, winsock on Windows and unix on Linux and macOS, made at the first call, unless
 * {@linkcode useProvider} has chosen another.
 *
 * @returns The same provider every time, while no other is chosen.
 * @throws {Deno.errors.NotSupported} On a system without one; the message names it.
 *
 * @experimental
 */
export function defaultProvider(): ServiceProvider {
  return provider ??= openProvider(Deno.build.os);
}

/**
 * Makes another provider the one that the whole library uses in this process: `duplicateSocket` and `openSocket`,
 * `HandoffSource` and `receive`. Source and target must use providers that understand each other's blobs.
 *
 * @example Another provider for a while
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
 * @returns Disposing of it brings back the provider there was before. Close what was opened through the provider first.
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
 * @param os Which.
 * @returns A new provider; it opens no library before its first call.
 * @throws {Deno.errors.NotSupported} On a system without one; the message names it.
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
        `Cannot share sockets on ${os}: @winsock/handoff has no service provider for it`,
      );
  }
}
