/**
 * What `WSAStartup` and `WSPStartup` fill.
 *
 * @module
 */
import { type Struct, struct } from "./codec.ts";
import { charArray, pointer, u16, wcharArray } from "./field_types.ts";

/** [WSADATA](https://learn.microsoft.com/windows/win32/api/winsock/ns-winsock-wsadata) of a 64-bit process, 408 bytes. */
export interface WSADATA {
  /** The version of Winsock to be used, its major number in the low byte. */
  wVersion: number;
  /** The highest version there is. */
  wHighVersion: number;
  /** Not used since Winsock 2. */
  iMaxSockets: number;
  /** Not used since Winsock 2. */
  iMaxUdpDg: number;
  /** Not used since Winsock 2. */
  lpVendorInfo: bigint;
  /** A description of the implementation, at most 257 characters of one byte. */
  szDescription: string;
  /** Its status, at most 129 characters of one byte. */
  szSystemStatus: string;
}

/** The codec of {@linkcode WSADATA}, 408 bytes; the 6 bytes of padding at the end are not kept. */
export const WSADATA: Struct<WSADATA> = struct<WSADATA>("WSADATA", {
  wVersion: u16,
  wHighVersion: u16,
  iMaxSockets: u16,
  iMaxUdpDg: u16,
  lpVendorInfo: pointer,
  szDescription: charArray(257),
  szSystemStatus: charArray(129),
});

/** [WSPDATA](https://learn.microsoft.com/windows/win32/api/ws2spi/ns-ws2spi-wspdata), 516 bytes. */
export interface WSPDATA {
  /** The version of the SPI to be used, its major number in the low byte. */
  wVersion: number;
  /** The highest version the provider has. */
  wHighVersion: number;
  /** A description of the provider, at most 256 UTF-16 units. */
  szDescription: string;
}

/** The codec of {@linkcode WSPDATA}, 516 bytes. */
export const WSPDATA: Struct<WSPDATA> = struct<WSPDATA>("WSPDATA", {
  wVersion: u16,
  wHighVersion: u16,
  szDescription: wcharArray(256),
});
