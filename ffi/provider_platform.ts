/**
 * The calls for service providers on the current system. This module is separate from `system.ts`, so that a program
 * that hands off sockets without its own provider does not load it.
 *
 * @module
 */
import type { ProviderCalls } from "./platform.ts";
import { UnixProviderCalls } from "./unix/provider_calls.ts";
import { WinsockProviderCalls } from "./windows/provider_calls.ts";

let calls: ProviderCalls | undefined;

/**
 * Returns the calls for service providers on the current system. The system library is opened at the first call.
 *
 * @returns The same calls every time.
 */
export function providerCalls(): ProviderCalls {
  return calls ??= Deno.build.os === "windows" ? new WinsockProviderCalls() : new UnixProviderCalls();
}
