/**
 * The Windows structures for shared sockets as plain objects and bytes. Works on any system, without FFI and without
 * permissions.
 *
 * Each structure has a `size`, `encode`, `decode`, and the `fields` with their offsets and C types. Lengths are
 * checked. Tests compare the layout with that of a C compiler, byte by byte. Flags and constants have their native
 * names, and {@linkcode describeWinsockError} explains an error number.
 *
 * @example Reading the name of the protocol in a blob
 * ```ts
 * import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
 * import { assertEquals } from "@std/assert";
 *
 * const blob = WSAPROTOCOL_INFOW.encode({
 *   ...WSAPROTOCOL_INFOW.decode(new Uint8Array(628)),
 *   szProtocol: "MSAFD Tcpip [TCP/IP]",
 * });
 * assertEquals(blob.byteLength, 628);
 * assertEquals(WSAPROTOCOL_INFOW.decode(blob).szProtocol, "MSAFD Tcpip [TCP/IP]");
 * ```
 *
 * @example Explaining error 10038
 * ```ts
 * import { describeWinsockError } from "@winsock/handoff/structs";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(describeWinsockError(10038)?.name, "WSAENOTSOCK");
 * ```
 *
 * @module
 */
export type { Field, FieldNames, FieldType, Struct } from "./codec.ts";
export {
  AF,
  BYTE_ORDER,
  describeWinsockError,
  FD,
  FROM_PROTOCOL_INFO,
  IPPROTO,
  PFL,
  SECURITY_PROTOCOL,
  SOCK,
  WINSOCK_ERROR_TABLE,
  type WinsockErrorEntry,
  type WinsockErrorName,
  WSA_ERRORS,
  WSA_FLAG,
  XP1,
} from "./constants.ts";
export { WSABUF, WSADATA, WSANETWORKEVENTS, WSPDATA, WSPPROC_TABLE, WSPUPCALLTABLE } from "./spi.ts";
export { formatGuid, parseGuid } from "./guid.ts";
export { SOCKADDR_IN, SOCKADDR_IN6, SOCKADDR_STORAGE, SOCKADDR_UN } from "./sockaddr.ts";
export {
  MAX_PROTOCOL_CHAIN,
  WSAPROTOCOL_INFOA,
  WSAPROTOCOL_INFOW,
  WSAPROTOCOL_LEN,
  WSAPROTOCOLCHAIN,
} from "./wsaprotocol_info.ts";
