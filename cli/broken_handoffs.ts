/**
 * Layered providers that break hand-offs, in words.
 *
 * @module
 */
import { findBrokenHandoffs } from "../spi/catalog.ts";
import type { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/** Finds the library of a provider by its GUID. */
export type PathOf = (providerId: string) => string | undefined;

/**
 * Says which layered provider breaks hand-offs.
 *
 * @param entries A catalogue.
 * @param pathOf Where libraries are.
 * @returns A sentence each.
 */
export function describeBrokenHandoffs(entries: readonly WSAPROTOCOL_INFOW[], pathOf: PathOf): string[] {
  return findBrokenHandoffs(entries).map(({ entry, layer }) => {
    const path = pathOf(layer.ProviderId);
    return `Sockets of ${nameOf(entry)} cannot be handed over: they go through ${nameOf(layer)}${
      path === undefined ? "" : ` in ${path}`
    }, whose descriptors are no handles of the system (no XP1_IFS_HANDLES)`;
  });
}

/** An entry's name and id. */
export function nameOf({ szProtocol, dwCatalogEntryId }: WSAPROTOCOL_INFOW): string {
  return `"${szProtocol.split("\0")[0]!}" (entry ${dwCatalogEntryId})`;
}
