/**
 * ws2_32.dll once more: what the service provider interface and its catalogue need, opened apart from what every hand-off
 * needs, since each function takes its time to bind.
 *
 * @module
 */
import { openLibrary } from "../library.ts";
import { SYSTEM32 } from "./system32.ts";
import { ws2_32 } from "./ws2_32.ts";

/** `SIO_BASE_HANDLE` of `WSAIoctl`: the base provider's handle under a socket. */
export const SIO_BASE_HANDLE = 0x48000022;

/** The functions of ws2_32.dll that are about service providers, with their parameters' types. */
export const WS2SPI_SYMBOLS = {
  /** `int WSCEnumProtocols(LPINT lpiProtocols, LPWSAPROTOCOL_INFOW lpProtocolBuffer, LPDWORD lpdwBufferLength, LPINT lpErrno)` */
  WSCEnumProtocols: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i32" },
  /** `int WSCGetProviderPath(LPGUID lpProviderId, WCHAR *lpszProviderDllPath, LPINT lpProviderDllPathLen, LPINT lpErrno)` */
  WSCGetProviderPath: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i32" },
  /** `int WSADuplicateSocketA(SOCKET s, DWORD dwProcessId, LPWSAPROTOCOL_INFOA lpProtocolInfo)` */
  WSADuplicateSocketA: { parameters: ["usize", "u32", "buffer"], result: "i32" },
  /** `SOCKET WSASocketA(int af, int type, int protocol, LPWSAPROTOCOL_INFOA lpProtocolInfo, GROUP g, DWORD dwFlags)` */
  WSASocketA: { parameters: ["i32", "i32", "i32", "buffer", "u32", "u32"], result: "usize" },
  /** `int WSAIoctl(SOCKET s, DWORD dwIoControlCode, LPVOID lpvInBuffer, DWORD cbInBuffer, LPVOID lpvOutBuffer, DWORD cbOutBuffer, LPDWORD lpcbBytesReturned, LPWSAOVERLAPPED lpOverlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine)` */
  WSAIoctl: {
    parameters: ["usize", "u32", "buffer", "u32", "buffer", "u32", "buffer", "usize", "usize"],
    result: "i32",
  },
  /** `INT WSAAddressToStringW(LPSOCKADDR lpsaAddress, DWORD dwAddressLength, LPWSAPROTOCOL_INFOW lpProtocolInfo, LPWSTR lpszAddressString, LPDWORD lpdwAddressStringLength)` */
  WSAAddressToStringW: { parameters: ["buffer", "u32", "buffer", "buffer", "buffer"], result: "i32" },
  /** `INT WSAStringToAddressW(LPWSTR AddressString, INT AddressFamily, LPWSAPROTOCOL_INFOW lpProtocolInfo, LPSOCKADDR lpAddress, LPINT lpAddressLength)` */
  WSAStringToAddressW: { parameters: ["buffer", "i32", "buffer", "buffer", "buffer"], result: "i32" },
  /** `WSAEVENT WSACreateEvent()` */
  WSACreateEvent: { parameters: [], result: "usize" },
  /** `BOOL WSASetEvent(WSAEVENT hEvent)` */
  WSASetEvent: { parameters: ["usize"], result: "i32" },
  /** `BOOL WSAResetEvent(WSAEVENT hEvent)` */
  WSAResetEvent: { parameters: ["usize"], result: "i32" },
  /** `BOOL WSACloseEvent(WSAEVENT hEvent)` */
  WSACloseEvent: { parameters: ["usize"], result: "i32" },
  /** `DWORD WSAWaitForMultipleEvents(DWORD cEvents, const WSAEVENT *lphEvents, BOOL fWaitAll, DWORD dwTimeout, BOOL fAlertable)` on the calling thread */
  WSAWaitForMultipleEvents: { parameters: ["u32", "buffer", "i32", "u32", "i32"], result: "u32" },
  /** `int WSAEventSelect(SOCKET s, WSAEVENT hEventObject, long lNetworkEvents)`; cancels what any descriptor of the socket registered */
  WSAEventSelect: { parameters: ["usize", "usize", "i32"], result: "i32" },
  /** `int WSAEnumNetworkEvents(SOCKET s, WSAEVENT hEventObject, LPWSANETWORKEVENTS lpNetworkEvents)` */
  WSAEnumNetworkEvents: { parameters: ["usize", "usize", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof WS2SPI_SYMBOLS>["symbols"] | undefined;

/**
 * The functions of `ws2_32.dll` that are about service providers, opened at the first call, with Winsock started.
 *
 * Needs `--allow-ffi=C:\Windows\System32\ws2_32.dll`.
 *
 * @returns The bound functions, raw: nothing is checked. Those named `WSC…` tell their error through `lpErrno`, the others
 * through `WSAGetLastError`.
 * @throws {Deno.errors.NotCapable} Without the permission.
 * @throws {WinsockError} If `WSAStartup` fails.
 */
export function ws2spi(): Deno.DynamicLibrary<typeof WS2SPI_SYMBOLS>["symbols"] {
  ws2_32();
  return symbols ??= openLibrary([`${SYSTEM32}\\ws2_32.dll`], WS2SPI_SYMBOLS);
}
