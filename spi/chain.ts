/**
 * What a structure becomes on its way through a protocol chain.
 *
 * @module
 */
import { equals } from "@std/bytes/equals";

/** The part of a WSAPROTOCOL_INFOW that says whose it is: `ProviderId`, `dwCatalogEntryId` and `ProtocolChain`. */
const IDENTITY_OFFSET = 20;
const IDENTITY_END = 72;

/**
 * The structure a layer passes to the next provider of the chain.
 *
 * The documented rule, exactly: while the next is another layer, it is the same unmodified structure with the same
 * unmodified chain information, and therefore the same array. When the next is the base protocol, it is the base
 * provider's own structure. So base providers never see chains.
 *
 * The rule is the same for `WSPStartup`, `WSPSocket`, `WSPDuplicateSocket`, `WSPAddressToString` and
 * `WSPStringToAddress`. For a blob on its way down through `WSPSocket` see {@linkcode duplicateForNext}.
 *
 * @experimental
 * @example
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
 * @param lpProtocolInfo What the layer was given, 628 bytes.
 * @param place Where in the chain it goes next.
 * @returns The same array, or the base provider's catalogue entry in a new one.
 */
export function entryForNext(
  lpProtocolInfo: Uint8Array<ArrayBuffer>,
  { base, nextIsBase }: ChainPlace,
): Uint8Array<ArrayBuffer> {
  return nextIsBase ? base.slice() : lpProtocolInfo;
}

/**
 * The same for `WSPSocket`, which is given either the chain's catalogue entry or a blob: the base provider's own structure
 * is its entry then, or the blob as the base provider itself filled it in.
 *
 * @experimental
 * @param lpProtocolInfo What the layer was given, 628 bytes.
 * @param place Where in the chain it goes next.
 * @returns The same array, or the base provider's structure in a new one.
 */
export function duplicateForNext(lpProtocolInfo: Uint8Array<ArrayBuffer>, place: ChainPlace): Uint8Array<ArrayBuffer> {
  if (!place.nextIsBase || equals(lpProtocolInfo, place.chain)) return entryForNext(lpProtocolInfo, place);
  return withIdentity(lpProtocolInfo, place.chain, place.base);
}

/**
 * The blob the chain's caller gets for what the base provider has filled in: it belongs to the chain again, so that the
 * target's `WSPSocket` goes through the same layers, and everything else in it stays the base provider's. What the base
 * has signed as another entry of its own, as Winsock does with a socket of IPv6, stays as it is both ways.
 *
 * @experimental
 * @param filled What the base provider's `WSPDuplicateSocket` returned, 628 bytes.
 * @param place Where the base is.
 * @returns 628 bytes.
 */
export function duplicateForCaller(
  filled: Uint8Array,
  { chain, base }: Pick<ChainPlace, "chain" | "base">,
): Uint8Array<ArrayBuffer> {
  return withIdentity(filled, base, chain);
}

/**
 * Where a structure goes next.
 *
 * @experimental
 */
export interface ChainPlace {
  /** The chain's catalogue entry, 628 bytes. */
  readonly chain: Uint8Array<ArrayBuffer>;
  /** The base provider's catalogue entry, 628 bytes. */
  readonly base: Uint8Array<ArrayBuffer>;
  /** Whether the next provider is the last of the chain. */
  readonly nextIsBase: boolean;
}

/** A copy of a blob in which the identity of one entry has become another's. */
function withIdentity(blob: Uint8Array, from: Uint8Array, to: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = blob.slice();
  const identity = bytes.subarray(IDENTITY_OFFSET, IDENTITY_END);
  if (equals(identity, from.subarray(IDENTITY_OFFSET, IDENTITY_END))) {
    identity.set(to.subarray(IDENTITY_OFFSET, IDENTITY_END));
  }
  return bytes;
}
