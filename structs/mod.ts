/**
 * The structures of Windows' shared sockets as plain objects and bytes. Pure: no FFI, no permission, any system.
 *
 * @example Reading the name of the protocol a blob is about
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
 * @module
 */
export type { Field, FieldType, Struct } from "./codec.ts";
export { formatGuid, parseGuid } from "./guid.ts";
export { MAX_PROTOCOL_CHAIN, WSAPROTOCOL_INFOW, WSAPROTOCOL_LEN, type WSAPROTOCOLCHAIN } from "./wsaprotocol_info.ts";
export { SOCKADDR_IN, SOCKADDR_IN6 } from "./sockaddr.ts";
