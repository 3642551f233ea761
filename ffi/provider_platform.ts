/**
 * What service providers ask of the system this runs on, besides sockets. Apart from `system.ts`: a program that hands off
 * sockets and has no provider of its own does not load it.
 *
 * @module
 */
import type { ProviderCalls } from "./platform.ts";
import { UnixProviderCalls } from "./unix/provider_calls.ts";
import { WinsockProviderCalls } from "./windows/provider_calls.ts";

let calls: ProviderCalls | undefined;

/**
 * What service providers ask of the system this runs on; its library is opened at the first call.
 *
 * @returns The same calls every time.
 */
export function providerCalls(): ProviderCalls {
  return calls ??= Deno.build.os === "windows" ? new WinsockProviderCalls() : new UnixProviderCalls();
}
