/**
 * Socket addresses in the form that the kernel uses.
 *
 * @module
 */
import { byteArray, named, type Struct, struct, u16, u16be, u32, u64 } from "./codec.ts";
import { AF } from "./constants.ts";

const family = named(u16, "value", AF);

/** [SOCKADDR_IN](https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-sockaddr_in), 16 bytes: an IPv4 address and port. */
export interface SOCKADDR_IN {
  /** `AF_INET`. */
  sin_family: number;
  /** Port, in network order in memory. */
  sin_port: number;
  /** The address, 4 bytes in network order. */
  sin_addr: Uint8Array;
  /** Reserved, 8 bytes of zeros. */
  sin_zero: Uint8Array;
}

/** The codec of {@linkcode SOCKADDR_IN}, 16 bytes. `struct sockaddr_in` on Linux has the same layout. */
export const SOCKADDR_IN: Struct<SOCKADDR_IN> = struct<SOCKADDR_IN>("SOCKADDR_IN", {
  sin_family: family,
  sin_port: u16be,
  sin_addr: byteArray(4),
  sin_zero: byteArray(8),
});

/** [SOCKADDR_IN6](https://learn.microsoft.com/windows/win32/api/ws2ipdef/ns-ws2ipdef-sockaddr_in6_lh), 28 bytes: an IPv6 address and port. */
export interface SOCKADDR_IN6 {
  /** `AF_INET6`: 23 on Windows, 10 on Linux. It is 30 on macOS, where addresses begin with their length instead. */
  sin6_family: number;
  /** Port, in network order in memory. */
  sin6_port: number;
  /** Flow label, in memory order. */
  sin6_flowinfo: number;
  /** The address, 16 bytes in network order. */
  sin6_addr: Uint8Array;
  /** Index of the interface of a link-local address; 0 for other addresses. */
  sin6_scope_id: number;
}

/** The codec of {@linkcode SOCKADDR_IN6}, 28 bytes. `struct sockaddr_in6` on Linux has the same layout. */
export const SOCKADDR_IN6: Struct<SOCKADDR_IN6> = struct<SOCKADDR_IN6>("SOCKADDR_IN6", {
  sin6_family: family,
  sin6_port: u16be,
  sin6_flowinfo: u32,
  sin6_addr: byteArray(16),
  sin6_scope_id: u32,
});

/** [SOCKADDR_UN](https://learn.microsoft.com/windows/win32/winsock/af-unix), 110 bytes: the path of a local socket. */
export interface SOCKADDR_UN {
  /** `AF_UNIX`. */
  sun_family: number;
  /** The path in UTF-8, 108 bytes; an abstract name begins with a zero. */
  sun_path: Uint8Array;
}

/** The codec of {@linkcode SOCKADDR_UN}, 110 bytes. `struct sockaddr_un` on Linux has the same layout. */
export const SOCKADDR_UN: Struct<SOCKADDR_UN> = struct<SOCKADDR_UN>("SOCKADDR_UN", {
  sun_family: family,
  sun_path: byteArray(108),
});

/** [SOCKADDR_STORAGE](https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-sockaddr_storage_lh), 128 bytes: room for any address. */
export interface SOCKADDR_STORAGE {
  /** The address family, `AF_*`. */
  ss_family: number;
  /** The 6 bytes after the family. */
  __ss_pad1: Uint8Array;
  /** Aligns the structure to 8 bytes: 8 bytes, in memory order. */
  __ss_align: bigint;
  /** The remaining 112 bytes. */
  __ss_pad2: Uint8Array;
}

/** The codec of {@linkcode SOCKADDR_STORAGE}, 128 bytes. */
export const SOCKADDR_STORAGE: Struct<SOCKADDR_STORAGE> = struct<SOCKADDR_STORAGE>("SOCKADDR_STORAGE", {
  ss_family: family,
  __ss_pad1: byteArray(6),
  __ss_align: u64,
  __ss_pad2: byteArray(112),
});
