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
 * The system's own service provider: winsock on Windows, unix on Linux; chosen at the first call.
 *
 * @returns The same provider every time.
 * @throws {Deno.errors.NotSupported} On a system without one; the message names it.
 */
export function defaultProvider(): ServiceProvider {
  return provider ??= openProvider(Deno.build.os);
}

/**
 * Makes the service provider of a system.
 *
 * @param os Which.
 * @returns A new provider; it opens no library before its first call.
 * @throws {Deno.errors.NotSupported} On a system without one; the message names it.
 */
export function openProvider(os: typeof Deno.build.os): ServiceProvider {
  switch (os) {
    case "windows":
      return new WinsockProvider();
    case "linux":
      return new UnixProvider();
    default:
      throw new Deno.errors.NotSupported(
        `Cannot share sockets on ${os}: @winsock/handoff has no service provider for it`,
      );
  }
}
