/**
 * The A forms of blobs, for any provider. The service provider interface has only W structures; the A functions of the
 * API convert them.
 *
 * @module
 */
import { WSAPROTOCOL_INFOA, WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import type { ServiceProvider } from "./service_provider.ts";

/**
 * Converts a structure to the A form. Everything stays the same, except that the name has one byte for each character.
 * A character that is not in ISO 8859-1 becomes `?`, as Windows does with characters that are not in its code page.
 *
 * @param info A WSAPROTOCOL_INFOW, 628 bytes.
 * @returns A WSAPROTOCOL_INFOA, 372 bytes.
 * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFOW.
 */
export function toAnsi(info: Uint8Array): Uint8Array<ArrayBuffer> {
  const wide = WSAPROTOCOL_INFOW.decode(info);
  return WSAPROTOCOL_INFOA.encode({ ...wide, szProtocol: wide.szProtocol.replace(/[^\0-\xff]/g, "?") });
}

/**
 * Converts a structure to the W form.
 *
 * @param info A WSAPROTOCOL_INFOA, 372 bytes.
 * @returns A WSAPROTOCOL_INFOW, 628 bytes.
 * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFOA.
 */
export function toWide(info: Uint8Array): Uint8Array<ArrayBuffer> {
  return WSAPROTOCOL_INFOW.encode(WSAPROTOCOL_INFOA.decode(info));
}

/**
 * Duplicates a socket for a process and returns the blob in the A form
 * ([WSADuplicateSocketA](https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsaduplicatesocketa)). The
 * provider uses the W form, as every provider does.
 *
 * @example A duplicate in the A form
 * ```ts
 * import { defaultProvider, duplicateSocketA, socketA } from "@winsock/handoff/spi";
 * import { listen, Listener } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * const blob = duplicateSocketA(defaultProvider(), listener.handle, Deno.pid);
 * using copy = Listener.fromHandle(await socketA(defaultProvider(), blob));
 * assertEquals([blob.byteLength, copy.addr.port], [372, listener.addr.port]);
 * ```
 *
 * @param provider The provider that duplicates the socket.
 * @param s The handle of the socket.
 * @param processId The process that may open the duplicate.
 * @returns A WSAPROTOCOL_INFOA, 372 bytes, for one process and one use.
 * @throws {WinsockError} As {@linkcode ServiceProvider.duplicateSocket}.
 */
export function duplicateSocketA(provider: ServiceProvider, s: bigint, processId: number): Uint8Array<ArrayBuffer> {
  return toAnsi(provider.duplicateSocket(s, processId));
}

/**
 * Opens a duplicate from a blob in the A form
 * ([WSASocketA](https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsasocketa)).
 *
 * @param provider The provider that opens the duplicate.
 * @param info A WSAPROTOCOL_INFOA, 372 bytes.
 * @param flags `WSA_FLAG_*`, as for {@linkcode ServiceProvider.socket}.
 * @returns The new descriptor. The caller must close it.
 * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFOA.
 * @throws {WinsockError} As {@linkcode ServiceProvider.socket}.
 */
export async function socketA(provider: ServiceProvider, info: Uint8Array, flags?: number): Promise<bigint> {
  return await provider.socket(toWide(info), flags);
}
