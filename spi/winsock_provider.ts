/**
 * The provider every Windows has: Winsock itself.
 *
 * @module
 */
import { disinherit } from "../ffi/windows/inheritance.ts";
import {
  FROM_PROTOCOL_INFO,
  lastWinsockError,
  ws2_32,
  WSA_FLAG_NO_HANDLE_INHERIT,
  WSA_FLAG_OVERLAPPED,
} from "../ffi/windows/ws2_32.ts";
import { INVALID_SOCKET } from "../ffi/socket_calls.ts";
import { systemCalls } from "../ffi/system.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../structs/winsock_errors.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import type { ServiceProvider } from "./service_provider.ts";

const SOL_SOCKET = 0xffff;
const SO_PROTOCOL_INFOW = 0x2005;

/**
 * Shares sockets through `WSADuplicateSocketW` and `WSASocketW`.
 *
 * Needs `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll`.
 */
export class WinsockProvider implements ServiceProvider {
  /** The catalogue entry TCP sockets get here; another's where a layered provider is installed over it. */
  get protocolInfo(): WSAPROTOCOL_INFOW {
    const s = systemCalls().open("0.0.0.0");
    try {
      const info = new Uint8Array(WSAPROTOCOL_INFOW.size);
      const result = ws2_32().getsockopt(s, SOL_SOCKET, SO_PROTOCOL_INFOW, info, new Int32Array([info.byteLength]));
      if (result !== 0) throw lastWinsockError("read the catalogue entry of TCP", "getsockopt");
      return WSAPROTOCOL_INFOW.decode(info);
    } finally {
      this.closeSocket(s);
    }
  }

  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer> {
    const info = new Uint8Array(WSAPROTOCOL_INFOW.size);
    const result = ws2_32().WSADuplicateSocketW(s, processId, info);
    if (result !== 0) throw lastWinsockError(`duplicate socket ${s} for process ${processId}`, "WSADuplicateSocketW");
    return info;
  }

  // deno-lint-ignore require-await -- the contract is asynchronous, this provider needs not wait
  async socket(info: Uint8Array): Promise<bigint> {
    WSAPROTOCOL_INFOW.decode(info);
    const own = info.slice();
    const flags = WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT;
    const s = ws2_32().WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, own, 0, flags);
    if (s === INVALID_SOCKET) throw lastWinsockError("open a shared socket", "WSASocketW");
    checkSocket(s);
    try {
      disinherit(s);
      return s;
    } catch (error) {
      this.closeSocket(s);
      throw error;
    }
  }

  /** Nothing to do: the duplicate belongs to the target, which opens and closes it, or takes it along when it ends. */
  withdraw(): void {}

  closeSocket(s: bigint): void {
    systemCalls().close(s);
  }
}

/** Wine hands out whatever number it finds in a blob: ask whether it is a socket of this process before touching it. */
function checkSocket(s: bigint): void {
  try {
    systemCalls().isDatagram(s, "open a shared socket");
  } catch (cause) {
    throw new WinsockError(WSA_ERRORS.WSAEINVAL, {
      operation: "open a shared socket",
      functionName: "WSASocketW",
      detail: `it names socket ${s}, which is none in this process`,
      cause,
    });
  }
}
