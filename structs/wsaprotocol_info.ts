/**
 * WSAPROTOCOL_INFOW: the structure a shared socket travels in.
 *
 * @module
 */
import { type FieldType, i32, type Struct, struct, u32, u32Array, wcharArray } from "./codec.ts";
import { guid } from "./guid.ts";

/** `MAX_PROTOCOL_CHAIN`: entries a protocol chain has room for. */
export const MAX_PROTOCOL_CHAIN = 7;

/** `WSAPROTOCOL_LEN`: characters of a protocol's name, the terminating NUL not counted. */
export const WSAPROTOCOL_LEN = 255;

/** [WSAPROTOCOLCHAIN](https://learn.microsoft.com/windows/win32/api/winsock2/ns-winsock2-wsaprotocolchain), 32 bytes. */
export interface WSAPROTOCOLCHAIN {
  /** 0 a layered protocol, 1 a base protocol, 2 to 7 a protocol chain. */
  ChainLen: number;
  /** Catalogue entry ids, always seven; those past `ChainLen` mean nothing and are kept as they are. */
  ChainEntries: readonly number[];
}

/**
 * [WSAPROTOCOL_INFOW](https://learn.microsoft.com/windows/win32/api/winsock2/ns-winsock2-wsaprotocol_infow), 628 bytes.
 *
 * What `WSADuplicateSocketW` fills is opaque to everyone but the provider that made it: decode it to look at it, send
 * the bytes as they are.
 */
export interface WSAPROTOCOL_INFOW {
  /** Capabilities of the protocol, `XP1_*` bits. */
  dwServiceFlags1: number;
  /** Reserved. */
  dwServiceFlags2: number;
  /** Reserved. */
  dwServiceFlags3: number;
  /** Reserved. */
  dwServiceFlags4: number;
  /** How the entry stands in the catalogue, `PFL_*` bits. */
  dwProviderFlags: number;
  /** The provider's GUID, lower case, without braces. */
  ProviderId: string;
  /** The entry's id in the catalogue. */
  dwCatalogEntryId: number;
  /** Whether this is a layer, a base protocol or a chain, and of what. */
  ProtocolChain: WSAPROTOCOLCHAIN;
  /** Version of the protocol. */
  iVersion: number;
  /** Address family, `AF_*`. */
  iAddressFamily: number;
  /** Longest socket address, in bytes. */
  iMaxSockAddr: number;
  /** Shortest socket address, in bytes. */
  iMinSockAddr: number;
  /** Socket type, `SOCK_*`. */
  iSocketType: number;
  /** Protocol, `IPPROTO_*`. */
  iProtocol: number;
  /** How many protocol numbers follow `iProtocol`. */
  iProtocolMaxOffset: number;
  /** `BIGENDIAN` (0) or `LITTLEENDIAN` (1). */
  iNetworkByteOrder: number;
  /** `SECURITY_PROTOCOL_*`. */
  iSecurityScheme: number;
  /** Longest message in bytes; 0 for streams, 1 where it depends on the link, 0xFFFFFFFF without limit. */
  dwMessageSize: number;
  /** For the provider's own use, such as a duplicated handle. */
  dwProviderReserved: number;
  /**
   * The protocol's name. At most 256 UTF-16 units; zeros at the end are dropped, what stands behind an embedded NUL is
   * kept.
   */
  szProtocol: string;
}

const chainEntries = u32Array(MAX_PROTOCOL_CHAIN);

const protocolChain: FieldType<WSAPROTOCOLCHAIN> = {
  cType: "WSAPROTOCOLCHAIN",
  size: 32,
  align: 4,
  read: (view, offset) => ({
    ChainLen: checkedChainLength(view.getInt32(offset, true)),
    ChainEntries: chainEntries.read(view, offset + 4),
  }),
  write(view, offset, chain) {
    view.setInt32(offset, checkedChainLength(chain.ChainLen), true);
    chainEntries.write(view, offset + 4, chain.ChainEntries);
  },
};

function checkedChainLength(length: number): number {
  if (!Number.isInteger(length) || length < 0 || length > MAX_PROTOCOL_CHAIN) {
    throw new RangeError(`ChainLen ${length} is not between 0 and ${MAX_PROTOCOL_CHAIN}`);
  }
  return length;
}

/**
 * The codec of {@linkcode WSAPROTOCOL_INFOW}, 628 bytes.
 *
 * Every byte is kept: `encode(decode(bytes))` equals `bytes` for all bytes that decode. Refused is only a chain length
 * outside 0 to 7.
 *
 * @example Looking into a blob
 * ```ts
 * import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
 * import { assertEquals } from "@std/assert";
 *
 * const info = WSAPROTOCOL_INFOW.decode(new Uint8Array(628));
 * assertEquals(info.ProviderId, "00000000-0000-0000-0000-000000000000");
 * ```
 */
export const WSAPROTOCOL_INFOW: Struct<WSAPROTOCOL_INFOW> = struct<WSAPROTOCOL_INFOW>("WSAPROTOCOL_INFOW", {
  dwServiceFlags1: u32,
  dwServiceFlags2: u32,
  dwServiceFlags3: u32,
  dwServiceFlags4: u32,
  dwProviderFlags: u32,
  ProviderId: guid,
  dwCatalogEntryId: u32,
  ProtocolChain: protocolChain,
  iVersion: i32,
  iAddressFamily: i32,
  iMaxSockAddr: i32,
  iMinSockAddr: i32,
  iSocketType: i32,
  iProtocol: i32,
  iProtocolMaxOffset: i32,
  iNetworkByteOrder: i32,
  iSecurityScheme: i32,
  dwMessageSize: u32,
  dwProviderReserved: u32,
  szProtocol: wcharArray(WSAPROTOCOL_LEN + 1),
});
