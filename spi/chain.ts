/**
 * The structures that the providers of a protocol chain pass to each other.
 *
 * @module
 */
import { equals } from "@std/bytes/equals";

/** The part of a WSAPROTOCOL_INFOW that identifies its entry: `ProviderId`, `dwCatalogEntryId` and `ProtocolChain`. */
const IDENTITY_OFFSET = 20;
const IDENTITY_END = 72;

/**
 * Returns the structure that a layer passes to the next provider of the chain.
 *
 * The function follows the documented rule. If the next provider is another layer, it gets the same unmodified
 * structure with the same unmodified chain information, and therefore the same array. If the next provider is the base
 * provider, it gets its own structure. Base providers therefore never see chains.
 *
 * The rule is the same for `WSPStartup`, `WSPSocket`, `WSPDuplicateSocket`, `WSPAddressToString` and
 * `WSPStringToAddress`. For a blob passed down through `WSPSocket` see {@linkcode duplicateForNext}.
 *
 * @experimental
 * @example The entry for another layer, and for the base provider
 * ```ts
 * import { entryForNext, UnixProvider } from "@winsock/handoff/spi";
 * import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
 * import { assertEquals } from "@std/assert";
 *
 * const base = WSAPROTOCOL_INFOW.encode(new UnixProvider().protocolInfo);
 * const chain = WSAPROTOCOL_INFOW.encode({
 *   ...new UnixProvider().protocolInfo,
 *   dwCatalogEntryId: 3,
 *   ProtocolChain: { ChainLen: 2, ChainEntries: [2, 1, 0, 0, 0, 0, 0] },
 * });
 * assertEquals(entryForNext(chain, { chain, base, nextIsBase: false }), chain);
 * assertEquals(entryForNext(chain, { chain, base, nextIsBase: true }), base);
 * ```
 *
 * @param lpProtocolInfo The structure that the layer was given, 628 bytes.
 * @param place The position in the chain that it is passed to.
 * @returns The same array, or the base provider's catalog entry in a new one.
 */
export function entryForNext(
  lpProtocolInfo: Uint8Array<ArrayBuffer>,
  { base, nextIsBase }: ChainPlace,
): Uint8Array<ArrayBuffer> {
  return nextIsBase ? base.slice() : lpProtocolInfo;
}

/**
 * Returns the structure for the next provider in `WSPSocket`, which is given either the chain's catalog entry or a
 * blob. The base provider gets its own entry, or the blob as it filled it in itself.
 *
 * @experimental
 * @param lpProtocolInfo The structure that the layer was given, 628 bytes.
 * @param place The position in the chain that it is passed to.
 * @returns The same array, or the base provider's structure in a new one.
 */
export function duplicateForNext(lpProtocolInfo: Uint8Array<ArrayBuffer>, place: ChainPlace): Uint8Array<ArrayBuffer> {
  if (!place.nextIsBase || equals(lpProtocolInfo, place.chain)) return entryForNext(lpProtocolInfo, place);
  return withIdentity(lpProtocolInfo, place.chain, place.base);
}

/**
 * Returns the blob for the caller of the chain, from the blob that the base provider has filled in. It identifies the
 * chain again, so that `WSPSocket` in the target goes through the same layers. Everything else in it stays as the base
 * provider wrote it. If the blob identifies another entry of the base provider, as Winsock does with an IPv6 socket, it
 * stays unchanged in both directions.
 *
 * @experimental
 * @param filled The structure that the base provider's `WSPDuplicateSocket` returned, 628 bytes.
 * @param place The position of the base provider.
 * @returns 628 bytes.
 */
export function duplicateForCaller(
  filled: Uint8Array,
  { chain, base }: Pick<ChainPlace, "chain" | "base">,
): Uint8Array<ArrayBuffer> {
  return withIdentity(filled, base, chain);
}

/**
 * The position in a chain that a structure is passed to.
 *
 * @experimental
 */
export interface ChainPlace {
  /** The chain's catalog entry, 628 bytes. */
  readonly chain: Uint8Array<ArrayBuffer>;
  /** The base provider's catalog entry, 628 bytes. */
  readonly base: Uint8Array<ArrayBuffer>;
  /** Whether the next provider is the last of the chain. */
  readonly nextIsBase: boolean;
}

/** Returns a copy of a blob. If it has the identity of the first entry, the copy has that of the second. */
function withIdentity(blob: Uint8Array, from: Uint8Array, to: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = blob.slice();
  const identity = bytes.subarray(IDENTITY_OFFSET, IDENTITY_END);
  if (equals(identity, from.subarray(IDENTITY_OFFSET, IDENTITY_END))) {
    identity.set(to.subarray(IDENTITY_OFFSET, IDENTITY_END));
  }
  return bytes;
}
