/**
 * WSAPROTOCOL_INFOW and WSAPROTOCOL_INFOA: the structure that describes a shared socket to another process.
 *
 * @module
 */
import { arrayOf, charArray, type FieldType, i32, named, type Struct, struct, u32, wcharArray } from "./codec.ts";
import { AF, BYTE_ORDER, IPPROTO, PFL, SECURITY_PROTOCOL, SOCK, XP1 } from "./constants.ts";
import { guid } from "./guid.ts";

/** `MAX_PROTOCOL_CHAIN`: the most entries in a protocol chain. */
export const MAX_PROTOCOL_CHAIN = 7;

/** `WSAPROTOCOL_LEN`: the most characters in the name of a protocol, without the terminating NUL. */
export const WSAPROTOCOL_LEN = 255;

/** [WSAPROTOCOLCHAIN](https://learn.microsoft.com/windows/win32/api/winsock2/ns-winsock2-wsaprotocolchain), 32 bytes. */
export interface WSAPROTOCOLCHAIN {
  /** 0 for a layered protocol, 1 for a base protocol, 2 to 7 for a protocol chain. */
  ChainLen: number;
  /** Catalog entry ids, always seven. Those past `ChainLen` have no meaning and are kept unchanged. */
  ChainEntries: readonly number[];
}

/**
 * [WSAPROTOCOL_INFOW](https://learn.microsoft.com/windows/win32/api/winsock2/ns-winsock2-wsaprotocol_infow), 628 bytes.
 *
 * The output of `WSADuplicateSocketW` is opaque to everything but the provider that made it. Decode it to inspect it,
 * but send the bytes unchanged.
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
  /** Flags of the entry in the catalog, `PFL_*` bits. */
  dwProviderFlags: number;
  /** The GUID of the provider, lower case, without braces. */
  ProviderId: string;
  /** The id of the entry in the catalog. */
  dwCatalogEntryId: number;
  /** Whether this is a layer, a base protocol or a chain, and the entries of a chain. */
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
  /** The number of protocol numbers that follow `iProtocol`. */
  iProtocolMaxOffset: number;
  /** `BIGENDIAN` (0) or `LITTLEENDIAN` (1). */
  iNetworkByteOrder: number;
  /** `SECURITY_PROTOCOL_*`. */
  iSecurityScheme: number;
  /** Longest message in bytes; 0 for streams, 1 if it depends on the link, 0xFFFFFFFF if there is no limit. */
  dwMessageSize: number;
  /** For the provider's own use, such as a duplicated handle. */
  dwProviderReserved: number;
  /**
   * The name of the protocol, at most 256 UTF-16 units. Trailing zeros are dropped; the text after an embedded NUL is
   * kept.
   */
  szProtocol: string;
}

/**
 * [WSAPROTOCOL_INFOA](https://learn.microsoft.com/windows/win32/api/winsock2/ns-winsock2-wsaprotocol_infoa), 372 bytes:
 * the same as {@linkcode WSAPROTOCOL_INFOW}, with the name in the ANSI code page. The bytes do not say which code page
 * that is. Each byte becomes the character with the same number (ISO 8859-1), so every byte is kept and ASCII text is
 * readable.
 */
export type WSAPROTOCOL_INFOA = WSAPROTOCOL_INFOW;

const chainLength: FieldType<number> = {
  ...i32,
  read: (view, offset) => checkedChainLength(view.getInt32(offset, true)),
  write: (view, offset, value) => view.setInt32(offset, checkedChainLength(value), true),
};
const chainEntries = arrayOf(u32, MAX_PROTOCOL_CHAIN);

/** The codec of {@linkcode WSAPROTOCOLCHAIN}, 32 bytes. Rejects a length outside 0 to 7. */
export const WSAPROTOCOLCHAIN: Struct<WSAPROTOCOLCHAIN> = struct<WSAPROTOCOLCHAIN>("WSAPROTOCOLCHAIN", {
  ChainLen: chainLength,
  ChainEntries: chainEntries,
});

const protocolChain: FieldType<WSAPROTOCOLCHAIN> = {
  cType: "WSAPROTOCOLCHAIN",
  size: 32,
  align: 4,
  read: (view, offset) => ({
    ChainLen: chainLength.read(view, offset),
    ChainEntries: chainEntries.read(view, offset + 4),
  }),
  write(view, offset, chain) {
    chainLength.write(view, offset, chain.ChainLen);
    chainEntries.write(view, offset + 4, chain.ChainEntries);
  },
};

function checkedChainLength(length: number): number {
  if (!Number.isInteger(length) || length < 0 || length > MAX_PROTOCOL_CHAIN) {
    throw new RangeError(`ChainLen ${length} is not between 0 and ${MAX_PROTOCOL_CHAIN}`);
  }
  return length;
}

/** Makes the codec of either form. The forms differ only in the type of the name. */
function protocolInfo(name: string, szProtocol: FieldType<string>): Struct<WSAPROTOCOL_INFOW> {
  return struct<WSAPROTOCOL_INFOW>(name, {
    dwServiceFlags1: named(u32, "flags", XP1),
    dwServiceFlags2: u32,
    dwServiceFlags3: u32,
    dwServiceFlags4: u32,
    dwProviderFlags: named(u32, "flags", PFL),
    ProviderId: guid,
    dwCatalogEntryId: u32,
    ProtocolChain: protocolChain,
    iVersion: i32,
    iAddressFamily: named(i32, "value", AF),
    iMaxSockAddr: i32,
    iMinSockAddr: i32,
    iSocketType: named(i32, "value", SOCK),
    iProtocol: named(i32, "value", IPPROTO),
    iProtocolMaxOffset: i32,
    iNetworkByteOrder: named(i32, "value", BYTE_ORDER),
    iSecurityScheme: named(i32, "value", SECURITY_PROTOCOL),
    dwMessageSize: u32,
    dwProviderReserved: u32,
    szProtocol,
  }, {
    decode: (view) => ({
      dwServiceFlags1: u32.read(view, 0),
      dwServiceFlags2: u32.read(view, 4),
      dwServiceFlags3: u32.read(view, 8),
      dwServiceFlags4: u32.read(view, 12),
      dwProviderFlags: u32.read(view, 16),
      ProviderId: guid.read(view, 20),
      dwCatalogEntryId: u32.read(view, 36),
      ProtocolChain: protocolChain.read(view, 40),
      iVersion: i32.read(view, 72),
      iAddressFamily: i32.read(view, 76),
      iMaxSockAddr: i32.read(view, 80),
      iMinSockAddr: i32.read(view, 84),
      iSocketType: i32.read(view, 88),
      iProtocol: i32.read(view, 92),
      iProtocolMaxOffset: i32.read(view, 96),
      iNetworkByteOrder: i32.read(view, 100),
      iSecurityScheme: i32.read(view, 104),
      dwMessageSize: u32.read(view, 108),
      dwProviderReserved: u32.read(view, 112),
      szProtocol: szProtocol.read(view, 116),
    }),
    encode(view, info) {
      u32.write(view, 0, info.dwServiceFlags1);
      u32.write(view, 4, info.dwServiceFlags2);
      u32.write(view, 8, info.dwServiceFlags3);
      u32.write(view, 12, info.dwServiceFlags4);
      u32.write(view, 16, info.dwProviderFlags);
      guid.write(view, 20, info.ProviderId);
      u32.write(view, 36, info.dwCatalogEntryId);
      protocolChain.write(view, 40, info.ProtocolChain);
      i32.write(view, 72, info.iVersion);
      i32.write(view, 76, info.iAddressFamily);
      i32.write(view, 80, info.iMaxSockAddr);
      i32.write(view, 84, info.iMinSockAddr);
      i32.write(view, 88, info.iSocketType);
      i32.write(view, 92, info.iProtocol);
      i32.write(view, 96, info.iProtocolMaxOffset);
      i32.write(view, 100, info.iNetworkByteOrder);
      i32.write(view, 104, info.iSecurityScheme);
      u32.write(view, 108, info.dwMessageSize);
      u32.write(view, 112, info.dwProviderReserved);
      szProtocol.write(view, 116, info.szProtocol);
    },
  });
}

/**
 * The codec of {@linkcode WSAPROTOCOL_INFOW}, 628 bytes.
 *
 * Every byte is kept: `encode(decode(bytes))` equals `bytes` for all bytes that decode. Only a chain length outside 0
 * to 7 does not decode.
 *
 * @example Inspecting a blob
 * ```ts
 * import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
 * import { assertEquals } from "@std/assert";
 *
 * const info = WSAPROTOCOL_INFOW.decode(new Uint8Array(628));
 * assertEquals(info.ProviderId, "00000000-0000-0000-0000-000000000000");
 * ```
 *
 * @example Reading one field of many blobs
 * ```ts
 * import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
 * import { assertEquals } from "@std/assert";
 *
 * const readSocketType = WSAPROTOCOL_INFOW.reader("iSocketType");
 * assertEquals(readSocketType(new Uint8Array(628)), 0);
 * ```
 */
export const WSAPROTOCOL_INFOW: Struct<WSAPROTOCOL_INFOW> = protocolInfo(
  "WSAPROTOCOL_INFOW",
  wcharArray(WSAPROTOCOL_LEN + 1),
);

/** The codec of {@linkcode WSAPROTOCOL_INFOA}, 372 bytes. Every byte is kept, as in the W form. */
export const WSAPROTOCOL_INFOA: Struct<WSAPROTOCOL_INFOA> = protocolInfo(
  "WSAPROTOCOL_INFOA",
  charArray(WSAPROTOCOL_LEN + 1),
);
