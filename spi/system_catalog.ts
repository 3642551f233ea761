/**
 * The system's protocol catalogue.
 *
 * @module
 */
import { providerCalls } from "../ffi/provider_platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { AF, PFL, SOCK, XP1 } from "../structs/constants.ts";
import { parseGuid } from "../structs/guid.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { defaultProvider } from "./default_provider.ts";

/** A layer that breaks hand-offs, and the sockets it breaks them for. */
export interface BrokenHandoff {
  /** The entry the system makes such sockets of. */
  readonly entry: WSAPROTOCOL_INFOW;
  /** The provider in it whose descriptors are no handles of the system. */
  readonly layer: WSAPROTOCOL_INFOW;
}

/**
 * The protocols that sockets can be made of here, and the layers installed over them: on Windows the catalogue
 * ([WSCEnumProtocols](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wscenumprotocols)), elsewhere the
 * library's own provider.
 *
 * On Windows this needs `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll`; elsewhere nothing.
 *
 * @returns The entries, in the order of the catalogue.
 * @throws {WinsockError} If the catalogue cannot be read.
 */
export function protocolCatalog(): WSAPROTOCOL_INFOW[] {
  const { catalog } = providerCalls();
  if (catalog === undefined) return [defaultProvider().protocolInfo];
  return catalog.entries().map((entry) => WSAPROTOCOL_INFOW.decode(entry));
}

/**
 * Where a provider's library is
 * ([WSCGetProviderPath](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wscgetproviderpath)).
 *
 * @param providerId The provider's GUID, as in `ProviderId`.
 * @returns The path as it was installed, environment variables such as `%SystemRoot%` not replaced; `undefined` if the
 * system knows of no library, as everywhere but on Windows proper.
 * @throws {RangeError} If it is no GUID.
 * @throws {WinsockError} If the catalogue cannot be read.
 */
export function providerPath(providerId: string): string | undefined {
  const bytes = parseGuid(providerId);
  return providerCalls().catalog?.providerPath(bytes);
}

/**
 * The base provider's handle under a socket (`WSAIoctl` with `SIO_BASE_HANDLE`). Where it is not the socket itself, a
 * non-IFS layered provider is between them.
 *
 * @param s The socket's handle.
 * @returns The handle; on a system without layered providers the socket itself.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 */
export function baseHandle(s: bigint): bigint {
  const { catalog } = providerCalls();
  if (catalog !== undefined) return catalog.baseHandle(s);
  systemCalls().assertSocket(s, `find the base handle of socket ${s}`);
  return s;
}

/**
 * Finds layered providers that break hand-offs of TCP connections.
 *
 * A layer without `XP1_IFS_HANDLES` in its entry makes descriptors that only its own chain understands. Deno's sockets are
 * handles of the system, and what is duplicated of a layer's descriptor may be no socket at all (WSAENOTSOCK).
 *
 * @example
 * ```ts
 * import { findBrokenHandoffs, protocolCatalog } from "@winsock/handoff/spi";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(findBrokenHandoffs(protocolCatalog()), []);
 * ```
 *
 * @param entries A catalogue, in its order.
 * @returns One for each such layer that TCP sockets go through, over IPv4 and over IPv6.
 */
export function findBrokenHandoffs(entries: readonly WSAPROTOCOL_INFOW[]): BrokenHandoff[] {
  return [AF.AF_INET, AF.AF_INET6].flatMap((family) => {
    const entry = entries.find((entry) => isUsed(entry, family));
    if (entry === undefined) return [];
    const { ChainLen, ChainEntries } = entry.ProtocolChain;
    const members = ChainEntries.slice(0, ChainLen > 1 ? ChainLen : 0)
      .flatMap((id) => entries.find(({ dwCatalogEntryId }) => dwCatalogEntryId === id) ?? []);
    const layers = [...members, entry].filter(({ dwServiceFlags1 }) => (dwServiceFlags1 & XP1.XP1_IFS_HANDLES) === 0);
    // The entry itself says the same of its chain once more.
    return layers.filter((layer) => layer !== entry || layers.length === 1).map((layer) => ({ entry, layer }));
  });
}

/** Whether TCP sockets of a family can be of an entry: the system takes the first such entry. */
function isUsed(entry: WSAPROTOCOL_INFOW, family: number): boolean {
  return entry.iAddressFamily === family && entry.iSocketType === SOCK.SOCK_STREAM &&
    entry.ProtocolChain.ChainLen > 0 && (entry.dwProviderFlags & PFL.PFL_HIDDEN) === 0;
}
