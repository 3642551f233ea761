/**
 * The system's protocol catalogue.
 *
 * @module
 */
import { lastWinsockError, ws2_32 } from "../ffi/windows/ws2_32.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { WSA_ERRORS } from "../structs/winsock_errors.ts";
import { defaultProvider } from "./default_provider.ts";

const SOCKET_ERROR = -1;

/**
 * The protocols that sockets can be made of here: on Windows the catalogue
 * ([WSAEnumProtocolsW](https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsaenumprotocolsw)), elsewhere the
 * library's own provider.
 *
 * On Windows this needs `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll`; elsewhere nothing.
 *
 * @returns The entries, in the order of the catalogue.
 * @throws {WinsockError} If the catalogue cannot be read.
 */
export function protocolCatalog(): WSAPROTOCOL_INFOW[] {
  return Deno.build.os === "windows" ? enumProtocols() : [defaultProvider().protocolInfo];
}

function enumProtocols(): WSAPROTOCOL_INFOW[] {
  const { size } = WSAPROTOCOL_INFOW;
  const length = new Uint32Array(1);
  // Without a buffer the call fails and says how long one must be; the catalogue may grow before the next call.
  for (let buffer = new Uint8Array(0);; buffer = new Uint8Array(length[0]!)) {
    const count = ws2_32().WSAEnumProtocolsW(null, buffer, length);
    if (count !== SOCKET_ERROR) {
      return Array.from({ length: count }, (_, index) => {
        return WSAPROTOCOL_INFOW.decode(buffer.subarray(index * size, (index + 1) * size));
      });
    }
    const error = lastWinsockError("read the protocol catalogue", "WSAEnumProtocolsW");
    if (error.code !== WSA_ERRORS.WSAENOBUFS || length[0]! <= buffer.byteLength) throw error;
  }
}
