/**
 * Socket addresses as the kernel takes them.
 *
 * @module
 */
import { byteArray, type Struct, struct, u16, u16be, u32 } from "./codec.ts";

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

/** The codec of {@linkcode SOCKADDR_IN}, 16 bytes; Linux' `struct sockaddr_in` has the same layout. */
export const SOCKADDR_IN: Struct<SOCKADDR_IN> = struct<SOCKADDR_IN>("SOCKADDR_IN", {
  sin_family: u16,
  sin_port: u16be,
  sin_addr: byteArray(4),
  sin_zero: byteArray(8),
});

/** [SOCKADDR_IN6](https://learn.microsoft.com/windows/win32/api/ws2ipdef/ns-ws2ipdef-sockaddr_in6_lh), 28 bytes: an IPv6 address and port. */
export interface SOCKADDR_IN6 {
  /** `AF_INET6`: 23 on Windows, 10 on Linux. */
  sin6_family: number;
  /** Port, in network order in memory. */
  sin6_port: number;
  /** Flow label, as it stands in memory. */
  sin6_flowinfo: number;
  /** The address, 16 bytes in network order. */
  sin6_addr: Uint8Array;
  /** Index of the interface a link-local address belongs to; 0 otherwise. */
  sin6_scope_id: number;
}

/** The codec of {@linkcode SOCKADDR_IN6}, 28 bytes; Linux' `struct sockaddr_in6` has the same layout. */
export const SOCKADDR_IN6: Struct<SOCKADDR_IN6> = struct<SOCKADDR_IN6>("SOCKADDR_IN6", {
  sin6_family: u16,
  sin6_port: u16be,
  sin6_flowinfo: u32,
  sin6_addr: byteArray(16),
  sin6_scope_id: u32,
});
