/**
 * Structures of the service provider interface besides WSAPROTOCOL_INFO: the output of `WSAStartup` and `WSPStartup`,
 * I/O buffers, and the order of the functions in WSPPROC_TABLE and WSPUPCALLTABLE.
 *
 * @module
 */
import { arrayOf, charArray, i32, named, pointer, type Struct, struct, u16, u32, wcharArray } from "./codec.ts";
import { FD } from "./constants.ts";

/** [WSADATA](https://learn.microsoft.com/windows/win32/api/winsock/ns-winsock-wsadata) of a 64-bit process, 408 bytes. */
export interface WSADATA {
  /** The Winsock version to use, with the major number in the low byte. */
  wVersion: number;
  /** The highest version that is available. */
  wHighVersion: number;
  /** Not used since Winsock 2. */
  iMaxSockets: number;
  /** Not used since Winsock 2. */
  iMaxUdpDg: number;
  /** Not used since Winsock 2. */
  lpVendorInfo: bigint;
  /** A description of the implementation, at most 257 characters of one byte. */
  szDescription: string;
  /** The status of the implementation, at most 129 characters of one byte. */
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
  /** The SPI version to use, with the major number in the low byte. */
  wVersion: number;
  /** The highest version that the provider supports. */
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

/** [WSANETWORKEVENTS](https://learn.microsoft.com/windows/win32/api/winsock2/ns-winsock2-wsanetworkevents), 44 bytes. */
export interface WSANETWORKEVENTS {
  /** The events that occurred, `FD_*` bits. */
  lNetworkEvents: number;
  /** The error codes of the ten events, in the order of the bits of the events. */
  iErrorCode: readonly number[];
}

/** The codec of {@linkcode WSANETWORKEVENTS}, 44 bytes. */
export const WSANETWORKEVENTS: Struct<WSANETWORKEVENTS> = struct<WSANETWORKEVENTS>("WSANETWORKEVENTS", {
  lNetworkEvents: named(i32, "flags", FD),
  iErrorCode: arrayOf(i32, 10),
});

/** [WSABUF](https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-wsabuf) of a 64-bit process, 16 bytes. */
export interface WSABUF {
  /** Length of the buffer in bytes. */
  len: number;
  /** Address of the buffer. */
  buf: bigint;
}

/** The codec of {@linkcode WSABUF}, 16 bytes; the 4 bytes of padding in the middle are not kept. */
export const WSABUF: Struct<WSABUF> = struct<WSABUF>("WSABUF", { len: u32, buf: pointer });

/**
 * The functions of [WSPPROC_TABLE](https://learn.microsoft.com/windows/win32/api/ws2spi/ns-ws2spi-wspproc_table), which
 * `WSPStartup` returns to its caller: 30 pointers, 240 bytes in a 64-bit process. `WSPDuplicateSocket` is at index 8.
 */
export const WSPPROC_TABLE = [
  "lpWSPAccept",
  "lpWSPAddressToString",
  "lpWSPAsyncSelect",
  "lpWSPBind",
  "lpWSPCancelBlockingCall",
  "lpWSPCleanup",
  "lpWSPCloseSocket",
  "lpWSPConnect",
  "lpWSPDuplicateSocket",
  "lpWSPEnumNetworkEvents",
  "lpWSPEventSelect",
  "lpWSPGetOverlappedResult",
  "lpWSPGetPeerName",
  "lpWSPGetSockName",
  "lpWSPGetSockOpt",
  "lpWSPGetQOSByName",
  "lpWSPIoctl",
  "lpWSPJoinLeaf",
  "lpWSPListen",
  "lpWSPRecv",
  "lpWSPRecvDisconnect",
  "lpWSPRecvFrom",
  "lpWSPSelect",
  "lpWSPSend",
  "lpWSPSendDisconnect",
  "lpWSPSendTo",
  "lpWSPSetSockOpt",
  "lpWSPShutdown",
  "lpWSPSocket",
  "lpWSPStringToAddress",
] as const;

/**
 * The functions of [WSPUPCALLTABLE](https://learn.microsoft.com/windows/win32/api/ws2spi/ns-ws2spi-wspupcalltable),
 * which a provider may call: 15 pointers, 120 bytes in a 64-bit process.
 */
export const WSPUPCALLTABLE = [
  "lpWPUCloseEvent",
  "lpWPUCloseSocketHandle",
  "lpWPUCreateEvent",
  "lpWPUCreateSocketHandle",
  "lpWPUFDIsSet",
  "lpWPUGetProviderPath",
  "lpWPUModifyIFSHandle",
  "lpWPUPostMessage",
  "lpWPUQueryBlockingCallback",
  "lpWPUQuerySocketHandleContext",
  "lpWPUQueueApc",
  "lpWPUResetEvent",
  "lpWPUSetEvent",
  "lpWPUOpenCurrentThread",
  "lpWPUCloseThread",
] as const;
