/**
 * The {@linkcode ProviderCalls} on ws2_32: the protocol catalog, the library that contains the code of a provider, the
 * functions on sockets for native code, and blobs.
 *
 * @module
 */
import {
  type CatalogCalls,
  checkDescriptor,
  type EventCalls,
  type NativeArgument,
  type PassedOnName,
  type ProviderCalls,
} from "../platform.ts";
import { WinsockError } from "../winsock_error.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import { decodeUtf16, encodeUtf16 } from "../library.ts";
import { failure, PASSED_ON_FUNCTIONS, systemFunction } from "../spi_functions.ts";
import {
  clearInheritFlag,
  kernel32Functions,
  lastWinsockError,
  SIO_BASE_HANDLE,
  winsockFunctions,
  ws2_32,
  ws2spi,
} from "./libraries.ts";

const { size: PROTOCOL_INFO_SIZE } = WSAPROTOCOL_INFOW;
const SOCKET_ERROR = -1;
const MAX_PATH = 260;

/** The catalog of service providers of Windows. */
class WinsockCatalogCalls implements CatalogCalls {
  entries(): Uint8Array<ArrayBuffer>[] {
    const lpErrno = new Int32Array(1);
    const length = new Uint32Array(1);
    // Without a buffer the call fails and returns the size that is needed. The catalog may grow before the next call.
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
        throw new WinsockError(lpErrno[0]!, { operation: "read the protocol catalog", functionName });
      }
    }
  }

  /**
   * Returns the path of the provider's library. Wine succeeds with an empty path, because its base provider is in
   * ws2_32 itself.
   */
  providerPath(providerId: Uint8Array<ArrayBuffer>): string | undefined {
    const path = new Uint16Array(MAX_PATH);
    const lpErrno = new Int32Array(1);
    const result = ws2spi().WSCGetProviderPath(providerId, path, new Int32Array([MAX_PATH]), lpErrno);
    if (result !== SOCKET_ERROR) return decodeUtf16(path) || undefined;
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

const functions = kernel32Functions({
  /** `BOOL GetModuleHandleExW(DWORD dwFlags, LPCWSTR lpModuleName, HMODULE *phModule)`, with an address as the name */
  GetModuleHandleExW: { parameters: ["u32", "usize", "buffer"], result: "i32" },
  /** `HMODULE LoadLibraryW(LPCWSTR lpLibFileName)` */
  LoadLibraryW: { parameters: ["buffer"], result: "usize" },
});

const FROM_ADDRESS_UNCHANGED_REFCOUNT = 0x4 | 0x2;
/** The text that Wine's tools write after the header of every library that is a part of Wine. */
const SIGNATURE = "Wine builtin DLL";
const SIGNATURE_OFFSET = 0x40;

/**
 * Returns whether code is in one of the libraries of Wine. Wine does not have service providers. If one of its
 * libraries exports `WSPStartup`, as mswsock.dll does, that is a placeholder which ends the process.
 *
 * Needs full `--allow-ffi`, because it reads the header of the library in memory.
 *
 * @param code The path of a library, which is loaded and stays loaded, or the address of a function.
 * @returns Whether the code is Wine's; `false` for code that is not in a library.
 * @throws {Deno.errors.NotCapable} Without the permission.
 */
function isWineBuiltin(code: string | bigint): boolean {
  const kernel32 = functions();
  const module = new BigUint64Array(1);
  if (typeof code === "string") module[0] = kernel32.LoadLibraryW(encodeUtf16(code));
  else kernel32.GetModuleHandleExW(FROM_ADDRESS_UNCHANGED_REFCOUNT, code, module);
  const header = Deno.UnsafePointer.create(module[0]!);
  if (header === null) return false;
  const bytes = Deno.UnsafePointerView.getArrayBuffer(header, SIGNATURE.length, SIGNATURE_OFFSET);
  return new TextDecoder("latin1").decode(bytes) === SIGNATURE;
}

const PASSED_ON = Object.keys(PASSED_ON_FUNCTIONS) as PassedOnName[];

const passedOnFunctions = winsockFunctions(
  Object.fromEntries(PASSED_ON.map((name) => [name, systemFunction(name)])) as Record<
    PassedOnName,
    Deno.ForeignFunction
  >,
);

function passOn(name: PassedOnName, args: readonly NativeArgument[]): number | bigint {
  const { parameters, result } = systemFunction(name);
  const call = passedOnFunctions()[name] as unknown as (...args: NativeArgument[]) => number | bigint;
  const failed = failure(name, result as "i32" | "usize");
  const returned = call(...args.slice(0, parameters.length));
  if (returned === failed) throw lastWinsockError("use a socket for native code", PASSED_ON_FUNCTIONS[name]);
  if (name === "lpWSPAccept") clearInheritFlag(returned as bigint);
  return returned;
}

/** The length of `[ffff:…:255.255.255.255%4294967295]:65535` with its NUL. */
const ADDRESS_TEXT_SIZE = 70;
const MAX_ADDRESS = 128;

/** The calls for service providers on Windows. */
export class WinsockProviderCalls implements ProviderCalls {
  readonly passOn = passOn;
  readonly catalog: CatalogCalls = new WinsockCatalogCalls();
  readonly events: EventCalls = {
    create() {
      const event = ws2spi().WSACreateEvent();
      if (event === 0n) throw lastWinsockError("make an event", "WSACreateEvent");
      return event;
    },
    set(event) {
      const done = ws2spi().WSASetEvent(event);
      if (done === 0) throw lastWinsockError(`set event ${event}`, "WSASetEvent");
    },
    reset(event) {
      const done = ws2spi().WSAResetEvent(event);
      if (done === 0) throw lastWinsockError(`reset event ${event}`, "WSAResetEvent");
    },
    close(event) {
      const done = ws2spi().WSACloseEvent(event);
      if (done === 0) throw lastWinsockError(`close event ${event}`, "WSACloseEvent");
    },
  };

  getOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number {
    checkDescriptor(s, `get option ${optname} of level ${level} of socket ${s}`, "getsockopt");
    const length = new Int32Array([optval.byteLength]);
    const result = ws2_32().getsockopt(s, level, optname, optval, length);
    if (result !== 0) throw lastWinsockError(`get option ${optname} of level ${level} of socket ${s}`, "getsockopt");
    return length[0]!;
  }

  setOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void {
    checkDescriptor(s, `set option ${optname} of level ${level} of socket ${s}`, "setsockopt");
    const result = ws2_32().setsockopt(s, level, optname, optval, optval.byteLength);
    if (result !== 0) throw lastWinsockError(`set option ${optname} of level ${level} of socket ${s}`, "setsockopt");
  }

  addressToString(address: Uint8Array<ArrayBuffer>): string {
    const text = new Uint16Array(ADDRESS_TEXT_SIZE);
    const length = new Uint32Array([ADDRESS_TEXT_SIZE]);
    const result = ws2spi().WSAAddressToStringW(address, address.byteLength, null, text, length);
    if (result !== 0) throw lastWinsockError("write an address as text", "WSAAddressToStringW");
    return decodeUtf16(text);
  }

  stringToAddress(text: string, family: number): Uint8Array<ArrayBuffer> {
    const address = new Uint8Array(MAX_ADDRESS);
    const length = new Int32Array([MAX_ADDRESS]);
    const result = ws2spi().WSAStringToAddressW(encodeUtf16(text), family, null, address, length);
    if (result !== 0) throw lastWinsockError(`read the address "${text}"`, "WSAStringToAddressW");
    return address.slice(0, length[0]);
  }

  isPlaceholder(code: string | bigint): boolean {
    return isWineBuiltin(code);
  }
}
