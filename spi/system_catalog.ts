/**
 * The protocol catalog of the system.
 *
 * @module
 */
import { providerCalls } from "../ffi/provider_platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { AF, PFL, SOCK, XP1 } from "../structs/constants.ts";
import { parseGuid } from "../structs/guid.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { defaultProvider } from "./default_provider.ts";

/** A layer that makes hand-offs fail, and the entry of the affected sockets. */
export interface BrokenHandoff {
  /** The entry of the affected sockets. */
  readonly entry: WSAPROTOCOL_INFOW;
  /** The provider in the entry whose descriptors are not handles of the system. */
  readonly layer: WSAPROTOCOL_INFOW;
}

/**
 * Returns the protocols that sockets on this system can use, and the layers installed over them. On Windows this is the
 * catalog ([WSCEnumProtocols](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wscenumprotocols)). On
 * other systems it is the library's own provider.
 *
 * On Windows this needs `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll`. On other systems
 * it needs no permission.
 *
 * @returns The entries, in the order of the catalog.
 * @throws {WinsockError} If the catalog cannot be read.
 */
export function protocolCatalog(): WSAPROTOCOL_INFOW[] {
  const { catalog } = providerCalls();
  if (catalog === undefined) return [defaultProvider().protocolInfo];
  return catalog.entries().map((entry) => WSAPROTOCOL_INFOW.decode(entry));
}

/**
 * Returns the path of a provider's library
 * ([WSCGetProviderPath](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wscgetproviderpath)).
 *
 * @param providerId The GUID of the provider, as in `ProviderId`.
 * @returns The path as it was installed, without replacing environment variables such as `%SystemRoot%`; `undefined` if
 * the system does not know a library. Only real Windows knows libraries; Wine and other systems do not.
 * @throws {RangeError} If it is not a GUID.
 * @throws {WinsockError} If the catalog cannot be read.
 */
export function providerPath(providerId: string): string | undefined {
  const bytes = parseGuid(providerId);
  return providerCalls().catalog?.providerPath(bytes);
}

/**
 * Returns the base provider's handle of a socket (`WSAIoctl` with `SIO_BASE_HANDLE`). If it differs from the handle of
 * the socket, a non-IFS layered provider is in between.
 *
 * @param s The handle of the socket.
 * @returns The handle; on a system without layered providers, that of the socket itself.
 * @throws {WinsockError} WSAENOTSOCK if it is not an open socket.
 */
export function baseHandle(s: bigint): bigint {
  const { catalog } = providerCalls();
  if (catalog !== undefined) return catalog.baseHandle(s);
  systemCalls().assertSocket(s, `find the base handle of socket ${s}`);
  return s;
}

/**
 * Finds layered providers that make hand-offs of TCP connections fail.
 *
 * A layer without `XP1_IFS_HANDLES` in its entry makes descriptors that have a meaning only in its own chain. Deno's
 * sockets are handles of the system, and duplicating the descriptor of such a layer may fail with WSAENOTSOCK.
 *
 * @example A catalog without such layers
 * ```ts
 * import { findBrokenHandoffs, protocolCatalog } from "@winsock/handoff/spi";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(findBrokenHandoffs(protocolCatalog()), []);
 * ```
 *
 * @param entries A catalog, in its order.
 * @returns One element for each such layer that TCP sockets go through, over IPv4 and over IPv6.
 */
export function findBrokenHandoffs(entries: readonly WSAPROTOCOL_INFOW[]): BrokenHandoff[] {
  return [AF.AF_INET, AF.AF_INET6].flatMap((family) => {
    const entry = entries.find((entry) => isUsed(entry, family));
    if (entry === undefined) return [];
    const { ChainLen, ChainEntries } = entry.ProtocolChain;
    const members = ChainEntries.slice(0, ChainLen > 1 ? ChainLen : 0)
      .flatMap((id) => entries.find(({ dwCatalogEntryId }) => dwCatalogEntryId === id) ?? []);
    const layers = [...members, entry].filter(({ dwServiceFlags1 }) => (dwServiceFlags1 & XP1.XP1_IFS_HANDLES) === 0);
    // A chain's own entry repeats what its layers say.
    return layers.filter((layer) => layer !== entry || layers.length === 1).map((layer) => ({ entry, layer }));
  });
}

/** Returns whether an entry is used for TCP sockets of a family: the system uses the first matching entry. */
function isUsed(entry: WSAPROTOCOL_INFOW, family: number): boolean {
  return entry.iAddressFamily === family && entry.iSocketType === SOCK.SOCK_STREAM &&
    entry.ProtocolChain.ChainLen > 0 && (entry.dwProviderFlags & PFL.PFL_HIDDEN) === 0;
}
