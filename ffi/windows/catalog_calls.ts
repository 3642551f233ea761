/**
 * {@linkcode CatalogCalls} on ws2_32.
 *
 * @module
 */
import type { CatalogCalls } from "../provider_calls.ts";
import { WinsockError } from "../winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import { textOf } from "../wide_text.ts";
import { lastWinsockError } from "./ws2_32.ts";
import { SIO_BASE_HANDLE, ws2spi } from "./ws2spi.ts";

const { size: PROTOCOL_INFO_SIZE } = WSAPROTOCOL_INFOW;
const SOCKET_ERROR = -1;
const MAX_PATH = 260;

/** Windows' catalogue of service providers. */
export class WinsockCatalogCalls implements CatalogCalls {
  entries(): Uint8Array<ArrayBuffer>[] {
    const lpErrno = new Int32Array(1);
    const length = new Uint32Array(1);
    // Without a buffer the call fails and says how long one must be; the catalogue may grow before the next call.
    for (let buffer = new Uint8Array(0);; buffer = new Uint8Array(length[0]!)) {
      const count = ws2spi().WSCEnumProtocols(null, buffer, length, lpErrno);
      if (count !== SOCKET_ERROR) {
        return Array.from(
          { length: count },
          (_, index) => buffer.slice(index * PROTOCOL_INFO_SIZE, (index + 1) * PROTOCOL_INFO_SIZE),
        );
      }
      if (lpErrno[0] !== WSA_ERRORS.WSAENOBUFS || length[0]! <= buffer.byteLength) {
        const functionName = "WSCEnumProtocols";
        throw new WinsockError(lpErrno[0]!, { operation: "read the protocol catalogue", functionName });
      }
    }
  }

  /** Wine succeeds and leaves the path empty: its base provider is in ws2_32 itself. */
  providerPath(providerId: Uint8Array<ArrayBuffer>): string | undefined {
    const path = new Uint16Array(MAX_PATH);
    const lpErrno = new Int32Array(1);
    const result = ws2spi().WSCGetProviderPath(providerId, path, new Int32Array([MAX_PATH]), lpErrno);
    if (result !== SOCKET_ERROR) return textOf(path) || undefined;
    if (lpErrno[0] === WSA_ERRORS.WSAEINVALIDPROVIDER || lpErrno[0] === WSA_ERRORS.WSAEINVAL) return undefined;
    const functionName = "WSCGetProviderPath";
    throw new WinsockError(lpErrno[0]!, { operation: "find the library of a service provider", functionName });
  }

  baseHandle(s: bigint): bigint {
    const handle = new BigUint64Array(1);
    const returned = new Uint32Array(1);
    const result = ws2spi().WSAIoctl(s, SIO_BASE_HANDLE, null, 0, handle, handle.byteLength, returned, 0n, 0n);
    if (result === SOCKET_ERROR) throw lastWinsockError(`find the base handle of socket ${s}`, "WSAIoctl");
    return handle[0]!;
  }
}
