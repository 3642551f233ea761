/**
 * The native functions underneath, as they are: opened by absolute path at the first call, nothing checked. For those
 * who need a call the library does not wrap.
 *
 * @example The error of a failed call
 * ```ts
 * import { WinsockError } from "@winsock/handoff/ffi";
 * import { WSA_ERRORS } from "@winsock/handoff/structs";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new WinsockError(WSA_ERRORS.WSAEINVAL, { operation: "bind to port 80", functionName: "bind" });
 * assertEquals(error.message, "Cannot bind to port 80: bind failed with WSAEINVAL (10022)");
 * ```
 *
 * @module
 */
export { INVALID_SOCKET } from "./socket_calls.ts";
export type { SocketOptions } from "./socket_options.ts";
export { WSP_STARTUP, WSPPROC_FUNCTIONS, WSPUPCALL_FUNCTIONS } from "./spi_functions.ts";
export { LIBRARY_PATHS } from "./system.ts";
export { libc, LIBC_SYMBOLS } from "./unix/libc.ts";
export { kernel32, KERNEL32_SYMBOLS } from "./windows/kernel32.ts";
export {
  FROM_PROTOCOL_INFO,
  ws2_32,
  WS2_32_SYMBOLS,
  WSA_FLAG_NO_HANDLE_INHERIT,
  WSA_FLAG_OVERLAPPED,
} from "./windows/ws2_32.ts";
export { SIO_BASE_HANDLE, ws2spi, WS2SPI_SYMBOLS } from "./windows/ws2spi.ts";
export { WinsockError, type WinsockErrorOptions } from "./winsock_error.ts";
