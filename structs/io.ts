/**
 * Structures of input and output.
 *
 * @module
 */
import { type Struct, struct } from "./codec.ts";
import { FD } from "./constants.ts";
import { arrayOf, i32, named, pointer, u32 } from "./field_types.ts";

/** [WSANETWORKEVENTS](https://learn.microsoft.com/windows/win32/api/winsock2/ns-winsock2-wsanetworkevents), 44 bytes. */
export interface WSANETWORKEVENTS {
  /** Which events occurred, `FD_*` bits. */
  lNetworkEvents: number;
  /** The error of each event, ten, in the order of the events' bits. */
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
