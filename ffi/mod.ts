/**
 * The native functions that the library binds, without checks. Each library is opened by absolute path at the first
 * call. Use this entry point for a call that the library does not wrap.
 *
 * **This entry point is experimental**: its exports may change in any version, except those that the main entry point
 * exports too ({@linkcode WinsockError}, {@linkcode INVALID_SOCKET}, {@linkcode LIBRARY_PATHS}, {@linkcode SocketOptions}).
 *
 * The caller must pass correct buffer lengths, and must read the error of a call in the next statement. The permission
 * for {@linkcode LIBRARY_PATHS} covers everything that {@linkcode libc}, {@linkcode ws2_32}, {@linkcode ws2spi} and
 * {@linkcode kernel32} open. The functions have the names that the system uses, except these: `acceptNow` of {@linkcode
 * ws2_32} is `accept` on the calling thread, `pollNow` of {@linkcode libc} is `poll` on the calling thread, `copyIn`
 * and `copyOut` are `memcpy` to and from an address, and `errnoLocation` returns the address of errno, whose native
 * name differs between systems.
 *
 * @example Asking the system for the type of a socket
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { libc, ws2_32 } from "@winsock/handoff/ffi";
 * import { SOCK } from "@winsock/handoff/structs";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * const { getsockopt } = Deno.build.os === "windows" ? ws2_32() : libc();
 * const [SOL_SOCKET, SO_TYPE] = Deno.build.os === "linux" ? [1, 3] : [0xffff, 0x1008];
 * const type = new Int32Array(1);
 * const result = getsockopt(listener.handle, SOL_SOCKET, SO_TYPE, type, new Int32Array([type.byteLength]));
 * assertEquals([result, type[0]], [0, SOCK.SOCK_STREAM]);
 * ```
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
export { INVALID_SOCKET } from "./platform.ts";
export type { SocketOptions } from "./socket_options.ts";
export { WSP_STARTUP, WSPPROC_FUNCTIONS, WSPUPCALL_FUNCTIONS } from "./spi_functions.ts";
export { LIBRARY_PATHS } from "./system.ts";
export { libc, LIBC_SYMBOLS } from "./unix/libc.ts";
export {
  kernel32,
  KERNEL32_SYMBOLS,
  SIO_BASE_HANDLE,
  ws2_32,
  WS2_32_SYMBOLS,
  ws2spi,
  WS2SPI_SYMBOLS,
} from "./windows/libraries.ts";
export { WinsockError, type WinsockErrorOptions } from "./winsock_error.ts";
