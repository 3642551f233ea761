/**
 * What a structure becomes on its way through a protocol chain.
 *
 * @module
 */
import { equals } from "@std/bytes";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/** The part of a WSAPROTOCOL_INFOW that says whose it is: `ProviderId`, `dwCatalogEntryId` and `ProtocolChain`. */
const IDENTITY_OFFSET = 20;
const IDENTITY_END = 72;

/**
 * The structure a layer passes to the next provider of the chain.
 *
 * The documented rule, exactly: while the next is another layer, it is the same unmodified structure with the same
 * unmodified chain information, and therefore the same array. When the next is the base protocol, it is the base
 * provider's own structure: its catalogue entry where the chain's entry came in, and where a blob came in, the blob as the
 * base provider itself made it. So base providers never see chains.
 *
 * The rule is the same for `WSPStartup`, `WSPSocket`, `WSPDuplicateSocket`, `WSPAddressToString` and
 * `WSPStringToAddress`.
 *
 * @example
 * ```ts
 * import { structureForNext, UnixProvider } from "@winsock/handoff/spi";
 * import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
 * import { assertEquals } from "@std/assert";
 *
 * const base = WSAPROTOCOL_INFOW.encode(new UnixProvider().protocolInfo);
 * const chain = WSAPROTOCOL_INFOW.encode({
 *   ...new UnixProvider().protocolInfo,
 *   dwCatalogEntryId: 3,
 *   ProtocolChain: { ChainLen: 2, ChainEntries: [2, 1, 0, 0, 0, 0, 0] },
 * });
 * assertEquals(structureForNext(chain, { chain, base, nextIsBase: false }), chain);
 * assertEquals(structureForNext(chain, { chain, base, nextIsBase: true }), base);
 * ```
 *
 * @param lpProtocolInfo What the layer was given, 628 bytes.
 * @param place Where in the chain it goes next.
 * @returns The same array, or the base provider's structure in a new one.
 */
export function structureForNext(
  lpProtocolInfo: Uint8Array<ArrayBuffer>,
  { chain, base, nextIsBase }: ChainPlace,
): Uint8Array<ArrayBuffer> {
  if (!nextIsBase) return lpProtocolInfo;
  return equals(lpProtocolInfo, chain) ? base.slice() : withIdentity(lpProtocolInfo, base);
}

/**
 * The structure the chain's caller gets for what the base provider has filled in: the blob belongs to the chain again, so
 * that the target's `WSPSocket` goes through the same layers, and everything else in it stays the base provider's.
 *
 * @param filled What the base provider's `WSPDuplicateSocket` returned, 628 bytes.
 * @param chain The chain's catalogue entry, 628 bytes.
 * @returns 628 bytes.
 */
export function structureForCaller(filled: Uint8Array, chain: Uint8Array): Uint8Array<ArrayBuffer> {
  return withIdentity(filled, chain);
}

/** Where a structure goes next. */
export interface ChainPlace {
  /** The chain's catalogue entry, 628 bytes. */
  readonly chain: Uint8Array<ArrayBuffer>;
  /** The base provider's catalogue entry, 628 bytes. */
  readonly base: Uint8Array<ArrayBuffer>;
  /** Whether the next provider is the last of the chain. */
  readonly nextIsBase: boolean;
}

function withIdentity(info: Uint8Array, identity: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = info.slice();
  bytes.set(identity.subarray(IDENTITY_OFFSET, IDENTITY_END), IDENTITY_OFFSET);
  return bytes;
}

/** Whether bytes are a catalogue entry itself, and so ask for a new socket; if not, they are a blob. */
export function isEntry(info: Uint8Array, entry: WSAPROTOCOL_INFOW): boolean {
  return equals(info, WSAPROTOCOL_INFOW.encode(entry));
}
