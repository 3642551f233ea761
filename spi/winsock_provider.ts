/**
 * The provider of Windows: Winsock itself.
 *
 * @module
 */
import { check, checkDuplication, HANDLE, integer, MAX_UINT32 } from "../internal/options.ts";
import { clearInheritFlag, lastWinsockError, ws2_32, ws2spi } from "../ffi/windows/libraries.ts";
import { checkDescriptor, INVALID_SOCKET } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { DEFAULT_SOCKET_FLAGS, FROM_PROTOCOL_INFO, WSA_ERRORS, WSA_FLAG } from "../structs/constants.ts";
import { WSAPROTOCOL_INFOA, WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import type { ServiceProvider } from "./service_provider.ts";

const FLAGS = integer(0, MAX_UINT32);
const SOL_SOCKET = 0xffff;
const SO_PROTOCOL_INFOW = 0x2005;

/**
 * Shares sockets through `WSADuplicateSocketW` and `WSASocketW`.
 *
 * Needs `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll`.
 *
 * @experimental
 */
export class WinsockProvider implements ServiceProvider {
  /** The catalog entry of TCP sockets. It is that of a layered provider if one is installed over TCP. */
  get protocolInfo(): WSAPROTOCOL_INFOW {
    const s = systemCalls().open("0.0.0.0");
    try {
      const info = new Uint8Array(WSAPROTOCOL_INFOW.size);
      const result = ws2_32().getsockopt(s, SOL_SOCKET, SO_PROTOCOL_INFOW, info, new Int32Array([info.byteLength]));
      if (result !== 0) throw lastWinsockError("read the catalog entry of TCP", "getsockopt");
      return WSAPROTOCOL_INFOW.decode(info);
    } finally {
      this.closeSocket(s);
    }
  }

  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer> {
    checkDuplication(s, processId);
    checkDescriptor(s, `duplicate socket ${s} for process ${processId}`, "WSADuplicateSocketW");
    const info = new Uint8Array(WSAPROTOCOL_INFOW.size);
    const result = ws2_32().WSADuplicateSocketW(s, processId, info);
    if (result !== 0) throw lastWinsockError(`duplicate socket ${s} for process ${processId}`, "WSADuplicateSocketW");
    return info;
  }

  // deno-lint-ignore require-await -- the contract is asynchronous, this provider does not wait
  async socket(info: Uint8Array, flags?: number): Promise<bigint> {
    return this.socketSync(info, flags);
  }

  socketSync(info: Uint8Array, flags: number = DEFAULT_SOCKET_FLAGS): bigint {
    check("flags", flags, FLAGS);
    WSAPROTOCOL_INFOW.decode(info);
    const own = info.slice();
    const s = ws2_32().WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, own, 0, flags);
    if (s === INVALID_SOCKET) throw lastWinsockError("open a shared socket", "WSASocketW");
    return this.#opened(s, flags, "WSASocketW");
  }

  /**
   * Duplicates a socket as {@linkcode WinsockProvider.duplicateSocket} does, in the A form
   * ([WSADuplicateSocketA](https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsaduplicatesocketa)).
   *
   * @param s The handle of the socket.
   * @param processId The process that may open the duplicate.
   * @returns A WSAPROTOCOL_INFOA, 372 bytes.
   * @throws {WinsockError} As {@linkcode WinsockProvider.duplicateSocket}.
   */
  duplicateSocketA(s: bigint, processId: number): Uint8Array<ArrayBuffer> {
    checkDuplication(s, processId);
    checkDescriptor(s, `duplicate socket ${s} for process ${processId}`, "WSADuplicateSocketA");
    const info = new Uint8Array(WSAPROTOCOL_INFOA.size);
    const result = ws2spi().WSADuplicateSocketA(s, processId, info);
    if (result !== 0) throw lastWinsockError(`duplicate socket ${s} for process ${processId}`, "WSADuplicateSocketA");
    return info;
  }

  /**
   * Opens a duplicate as {@linkcode WinsockProvider.socketSync} does, from the A form
   * ([WSASocketA](https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsasocketa)).
   *
   * @param info A WSAPROTOCOL_INFOA, 372 bytes.
   * @param flags `WSA_FLAG_*`. Defaults to `WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT`.
   * @returns The new descriptor. The caller must close it.
   * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFOA.
   * @throws {WinsockError} If Winsock rejects the blob.
   */
  socketA(info: Uint8Array, flags: number = DEFAULT_SOCKET_FLAGS): bigint {
    check("flags", flags, FLAGS);
    WSAPROTOCOL_INFOA.decode(info);
    const own = info.slice();
    const s = ws2spi().WSASocketA(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, own, 0, flags);
    if (s === INVALID_SOCKET) throw lastWinsockError("open a shared socket", "WSASocketA");
    return this.#opened(s, flags, "WSASocketA");
  }

  /**
   * Does nothing: the duplicate is in the target, which opens and closes it. Otherwise it is closed when the target
   * ends.
   */
  withdraw(): void {}

  closeSocket(s: bigint): void {
    check("s", s, HANDLE);
    systemCalls().close(s);
  }

  /** Clears the inherit flag of an opened socket: WSA_FLAG_NO_HANDLE_INHERIT has no effect when a blob is opened. */
  #opened(s: bigint, flags: number, functionName: string): bigint {
    checkSocket(s, functionName);
    try {
      if ((flags & WSA_FLAG.WSA_FLAG_NO_HANDLE_INHERIT) !== 0) clearInheritFlag(s);
      return s;
    } catch (error) {
      this.closeSocket(s);
      throw error;
    }
  }
}

/**
 * Checks that a handle is a socket of this process before it is used: Wine returns any number that it finds in a blob.
 */
function checkSocket(s: bigint, functionName: string): void {
  try {
    systemCalls().assertSocket(s, "open a shared socket");
  } catch (cause) {
    throw new WinsockError(WSA_ERRORS.WSAEINVAL, {
      operation: "open a shared socket",
      functionName,
      detail: `it names socket ${s}, which is not a socket of this process`,
      cause,
    });
  }
}
