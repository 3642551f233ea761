/**
 * ws2_32.dll and kernel32.dll: the functions that the library calls, without checks. The functions for sockets
 * (winsock2.h) are bound together. Those for service providers (ws2spi.h) and for handles are separate, because they
 * are needed less often.
 *
 * @module
 */
import { decodeUtf16, KERNEL32_PATH, openLibrary, WS2_32_PATH } from "../library.ts";
import { WinsockError } from "../winsock_error.ts";

/**
 * The functions of ws2_32.dll that the library binds, with the types of their parameters.
 *
 * @experimental
 */
export const WS2_32_SYMBOLS = {
  /** `int WSAStartup(WORD wVersionRequested, LPWSADATA lpWSAData)` */
  WSAStartup: { parameters: ["u16", "buffer"], result: "i32" },
  /** `int WSAGetLastError()`; call it in the statement directly after the call that failed */
  WSAGetLastError: { parameters: [], result: "i32" },
  /** `SOCKET WSASocketW(int af, int type, int protocol, LPWSAPROTOCOL_INFOW lpProtocolInfo, GROUP g, DWORD dwFlags)` */
  WSASocketW: { parameters: ["i32", "i32", "i32", "buffer", "u32", "u32"], result: "usize" },
  /** `int WSADuplicateSocketW(SOCKET s, DWORD dwProcessId, LPWSAPROTOCOL_INFOW lpProtocolInfo)` */
  WSADuplicateSocketW: { parameters: ["usize", "u32", "buffer"], result: "i32" },
  /** `int bind(SOCKET s, const struct sockaddr *name, int namelen)` */
  bind: { parameters: ["usize", "buffer", "i32"], result: "i32" },
  /** `int listen(SOCKET s, int backlog)` */
  listen: { parameters: ["usize", "i32"], result: "i32" },
  /** `SOCKET accept(SOCKET s, struct sockaddr *addr, int *addrlen)` on a pool thread */
  accept: { parameters: ["usize", "buffer", "buffer"], result: "usize", nonblocking: true },
  /** `SOCKET accept(SOCKET s, struct sockaddr *addr, int *addrlen)` on the calling thread */
  acceptNow: { name: "accept", parameters: ["usize", "buffer", "buffer"], result: "usize" },
  /** `int connect(SOCKET s, const struct sockaddr *name, int namelen)` */
  connect: { parameters: ["usize", "buffer", "i32"], result: "i32" },
  /** `int ioctlsocket(SOCKET s, long cmd, u_long *argp)` */
  ioctlsocket: { parameters: ["usize", "i32", "buffer"], result: "i32" },
  /** `int WSAPoll(LPWSAPOLLFD fdArray, ULONG fds, INT timeout)` on a pool thread */
  WSAPoll: { parameters: ["buffer", "u32", "i32"], result: "i32", nonblocking: true },
  /** `int getsockname(SOCKET s, struct sockaddr *name, int *namelen)` */
  getsockname: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
  /** `int getpeername(SOCKET s, struct sockaddr *name, int *namelen)` */
  getpeername: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
  /** `int getsockopt(SOCKET s, int level, int optname, char *optval, int *optlen)` */
  getsockopt: { parameters: ["usize", "i32", "i32", "buffer", "buffer"], result: "i32" },
  /** `int setsockopt(SOCKET s, int level, int optname, const char *optval, int optlen)` */
  setsockopt: { parameters: ["usize", "i32", "i32", "buffer", "i32"], result: "i32" },
  /** `int recv(SOCKET s, char *buf, int len, int flags)` */
  recv: { parameters: ["usize", "buffer", "i32", "i32"], result: "i32" },
  /** `INT inet_pton(INT Family, PCSTR pszAddrString, PVOID pAddrBuf)` */
  inet_pton: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  /** `PCSTR inet_ntop(INT Family, const VOID *pAddr, PSTR pStringBuf, size_t StringBufSize)` */
  inet_ntop: { parameters: ["i32", "buffer", "buffer", "usize"], result: "usize" },
  /** `int closesocket(SOCKET s)` */
  closesocket: { parameters: ["usize"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const WINSOCK_2_2 = 0x0202;
const WSADATA_SIZE = 408;

let symbols: Deno.DynamicLibrary<typeof WS2_32_SYMBOLS>["symbols"] | undefined;

/**
 * Returns the functions of `ws2_32.dll`. At the first call the library is opened and started (`WSAStartup` 2.2).
 *
 * Needs `--allow-ffi=C:\Windows\System32\ws2_32.dll`.
 *
 * @returns The bound functions, without checks.
 * @throws {Deno.errors.NotCapable} Without the permission.
 * @throws {WinsockError} If `WSAStartup` fails.
 *
 * @experimental
 */
export function ws2_32(): Deno.DynamicLibrary<typeof WS2_32_SYMBOLS>["symbols"] {
  if (symbols !== undefined) return symbols;
  const opened = openLibrary([WS2_32_PATH], WS2_32_SYMBOLS);
  const code = opened.WSAStartup(WINSOCK_2_2, new Uint8Array(WSADATA_SIZE));
  if (code !== 0) throw new WinsockError(code, { operation: "start Winsock 2.2", functionName: "WSAStartup" });
  return symbols = opened;
}

/**
 * Makes the error of the Winsock or kernel32 call in the previous statement. Both store it in the same place of the
 * thread.
 *
 * @param operation The operation and its object.
 * @param functionName The function that failed.
 * @returns The error.
 */
export function lastWinsockError(operation: string, functionName: string): WinsockError {
  return new WinsockError(ws2_32().WSAGetLastError(), { operation, functionName });
}

/**
 * Declares further functions of ws2_32.dll. They are separate because binding each function takes time, and most
 * processes do not use these.
 *
 * @param symbols The functions.
 * @returns A function that binds them at the first call, starts Winsock, and returns them.
 */
export function winsockFunctions<const Symbols extends Deno.ForeignLibraryInterface>(
  symbols: Symbols,
): () => Deno.DynamicLibrary<Symbols>["symbols"] {
  let opened: Deno.DynamicLibrary<Symbols>["symbols"] | undefined;
  return () => {
    if (opened === undefined) ws2_32();
    return opened ??= openLibrary([WS2_32_PATH], symbols);
  };
}

/** Declares further functions of kernel32.dll, as {@linkcode winsockFunctions} does. */
export function kernel32Functions<const Symbols extends Deno.ForeignLibraryInterface>(
  symbols: Symbols,
): () => Deno.DynamicLibrary<Symbols>["symbols"] {
  let opened: Deno.DynamicLibrary<Symbols>["symbols"] | undefined;
  return () => opened ??= openLibrary([KERNEL32_PATH], symbols);
}

/**
 * `SIO_BASE_HANDLE` of `WSAIoctl`: returns the base provider's handle of a socket.
 *
 * @experimental
 */
export const SIO_BASE_HANDLE = 0x48000022;

/**
 * The functions of ws2_32.dll for service providers, with the types of their parameters.
 *
 * @experimental
 */
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
  /**
   * `int WSAEventSelect(SOCKET s, WSAEVENT hEventObject, long lNetworkEvents)`; cancels the registrations through every
   * descriptor of the socket
   */
  WSAEventSelect: { parameters: ["usize", "usize", "i32"], result: "i32" },
  /** `int WSAEnumNetworkEvents(SOCKET s, WSAEVENT hEventObject, LPWSANETWORKEVENTS lpNetworkEvents)` */
  WSAEnumNetworkEvents: { parameters: ["usize", "usize", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const openedSpi = winsockFunctions(WS2SPI_SYMBOLS);

/**
 * Returns the functions of `ws2_32.dll` for service providers. At the first call they are bound, and Winsock is
 * started.
 *
 * Needs `--allow-ffi=C:\Windows\System32\ws2_32.dll`.
 *
 * @returns The bound functions, without checks. Functions named `WSC…` return their error in `lpErrno`, the others
 * through `WSAGetLastError`.
 * @throws {Deno.errors.NotCapable} Without the permission.
 * @throws {WinsockError} If `WSAStartup` fails.
 *
 * @experimental
 */
export function ws2spi(): Deno.DynamicLibrary<typeof WS2SPI_SYMBOLS>["symbols"] {
  return openedSpi();
}

/** `HANDLE_FLAG_INHERIT`: a child process that is started with handle inheritance gets a copy of the handle. */
export const HANDLE_FLAG_INHERIT = 0x1;

/**
 * The functions of kernel32.dll that the library binds, with the types of their parameters.
 *
 * @experimental
 */
export const KERNEL32_SYMBOLS = {
  /** `BOOL SetHandleInformation(HANDLE hObject, DWORD dwMask, DWORD dwFlags)` */
  SetHandleInformation: { parameters: ["usize", "u32", "u32"], result: "i32" },
  /** `BOOL CancelIoEx(HANDLE hFile, LPOVERLAPPED lpOverlapped)` */
  CancelIoEx: { parameters: ["usize", "usize"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const openedKernel32 = kernel32Functions(KERNEL32_SYMBOLS);

/**
 * Returns the functions of `kernel32.dll`, which is opened at the first call.
 *
 * Needs `--allow-ffi=C:\Windows\System32\kernel32.dll`.
 *
 * @returns The bound functions, without checks.
 * @throws {Deno.errors.NotCapable} Without the permission.
 *
 * @experimental
 */
export function kernel32(): Deno.DynamicLibrary<typeof KERNEL32_SYMBOLS>["symbols"] {
  return openedKernel32();
}

const commandLineFunctions = kernel32Functions({
  /** `LPWSTR GetCommandLineW()` */
  GetCommandLineW: { parameters: [], result: "usize" },
  /** `int lstrlenW(LPCWSTR lpString)` */
  lstrlenW: { parameters: ["usize"], result: "i32" },
  /** `LPWSTR lstrcpynW(LPWSTR lpString1, LPCWSTR lpString2, int iMaxLength)` */
  lstrcpynW: { parameters: ["buffer", "usize", "i32"], result: "usize" },
});

/** The words this process was started with (`GetCommandLineW`). */
export function ownWords(): string[] {
  const { GetCommandLineW, lstrlenW, lstrcpynW } = commandLineFunctions();
  const line = GetCommandLineW();
  const units = new Uint16Array(lstrlenW(line) + 1);
  lstrcpynW(units, line, units.length);
  return splitCommandLine(decodeUtf16(units));
}

/** The words of a command line, as `CommandLineToArgvW` tells them apart. */
export function splitCommandLine(line: string): string[] {
  // The program's name knows no backslashes before quotes.
  const [program = "", quoted, bare = ""] = /^(?:"([^"]*)"?|(\S*))/.exec(line) ?? [];
  const words = [quoted ?? bare];
  let word: string | undefined;
  let inQuotes = false;
  for (const [part, backslashes] of line.slice(program.length).matchAll(/(\\*)"|\\+|[^]/g)) {
    if (backslashes !== undefined) {
      word = (word ?? "") + "\\".repeat(Math.floor(backslashes.length / 2));
      if (backslashes.length % 2 === 1) word += '"';
      else inQuotes = !inQuotes;
    } else if (!inQuotes && /^[ \t]$/.test(part)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? "") + part;
    }
  }
  if (word !== undefined) words.push(word);
  return words;
}

const PROCESS_DUP_HANDLE = 0x0040;
/** The right to wait for a handle. */
export const SYNCHRONIZE = 0x0010_0000;
export const GENERIC_READ = 0x8000_0000;
/** A result of waiting: the first handle was signaled. */
export const WAIT_OBJECT_0 = 0;
/** A result of waiting: the call failed. */
export const WAIT_FAILED = 0xffff_ffff;
/** A result of `GetFileType`. */
export const FILE_TYPE_PIPE = 3;
const DUPLICATE_SAME_ACCESS = 0x2;
/** The result of `GetCurrentProcess`. */
export const CURRENT_PROCESS = 0xffff_ffff_ffff_ffffn;

/** Opens kernel32 for functions of handles that are not sockets. */
export const handleFunctions = kernel32Functions({
  /** `HANDLE CreateEventW(LPSECURITY_ATTRIBUTES lpEventAttributes, BOOL bManualReset, BOOL bInitialState, LPCWSTR lpName)` */
  CreateEventW: { parameters: ["usize", "i32", "i32", "usize"], result: "usize" },
  /** `BOOL SetEvent(HANDLE hEvent)` */
  SetEvent: { parameters: ["usize"], result: "i32" },
  /** `HANDLE OpenProcess(DWORD dwDesiredAccess, BOOL bInheritHandle, DWORD dwProcessId)` */
  OpenProcess: { parameters: ["u32", "i32", "u32"], result: "usize" },
  /** `BOOL DuplicateHandle(HANDLE hSourceProcessHandle, HANDLE hSourceHandle, HANDLE hTargetProcessHandle, LPHANDLE lpTargetHandle, DWORD dwDesiredAccess, BOOL bInheritHandle, DWORD dwOptions)` */
  DuplicateHandle: { parameters: ["usize", "usize", "usize", "buffer", "u32", "i32", "u32"], result: "i32" },
  /** `DWORD WaitForSingleObject(HANDLE hHandle, DWORD dwMilliseconds)` on the calling thread */
  WaitForSingleObject: { parameters: ["usize", "u32"], result: "u32" },
  /** `DWORD GetFileType(HANDLE hFile)` */
  GetFileType: { parameters: ["usize"], result: "u32" },
  /** `BOOL PeekNamedPipe(HANDLE hNamedPipe, LPVOID lpBuffer, DWORD nBufferSize, LPDWORD lpBytesRead, LPDWORD lpTotalBytesAvail, LPDWORD lpBytesLeftThisMessage)` */
  PeekNamedPipe: { parameters: ["usize", "usize", "u32", "usize", "buffer", "usize"], result: "i32" },
  /** `BOOL ReadFile(HANDLE hFile, LPVOID lpBuffer, DWORD nNumberOfBytesToRead, LPDWORD lpNumberOfBytesRead, LPOVERLAPPED lpOverlapped)` */
  ReadFile: { parameters: ["usize", "buffer", "u32", "buffer", "usize"], result: "i32" },
  /** `BOOL CloseHandle(HANDLE hObject)` */
  CloseHandle: { parameters: ["usize"], result: "i32" },
});

/** Closes a handle that is not a socket. */
export function closeHandle(handle: bigint): void {
  handleFunctions().CloseHandle(handle);
}

/** Another process, which this process may give handles to. */
export class HandleReceiver implements Disposable {
  readonly #process: bigint;
  readonly #processId: number;

  /**
   * @param processId The process id of the other process. It must not be that of another process meanwhile.
   * @throws {WinsockError} If the process does not exist, or this process has no right to it.
   */
  constructor(processId: number) {
    this.#processId = processId;
    this.#process = handleFunctions().OpenProcess(PROCESS_DUP_HANDLE | SYNCHRONIZE, 0, processId);
    if (this.#process === 0n) throw lastWinsockError(`share handles with process ${processId}`, "OpenProcess");
  }

  /**
   * Duplicates a handle into the process. Its children do not inherit the duplicate.
   *
   * @param access The rights of the duplicate. Defaults to those of the handle.
   * @returns The handle in that process; 0 if it has ended, of which its parent is told in another way.
   * @throws {WinsockError} If `DuplicateHandle` fails.
   */
  give(handle: bigint, access?: number): bigint {
    const given = new BigUint64Array(1);
    const { DuplicateHandle } = handleFunctions();
    const options = access === undefined ? DUPLICATE_SAME_ACCESS : 0;
    const done = DuplicateHandle(CURRENT_PROCESS, handle, this.#process, given, access ?? 0, 0, options);
    if (done !== 0) return given[0]!;
    const error = lastWinsockError(`share a handle with process ${this.#processId}`, "DuplicateHandle");
    if (handleFunctions().WaitForSingleObject(this.#process, 0) === WAIT_OBJECT_0) return 0n;
    throw error;
  }

  [Symbol.dispose](): void {
    closeHandle(this.#process);
  }
}

/**
 * Stops child processes from inheriting a socket. Handles from `accept` and from opening a blob are inheritable, and a
 * copy in a child would keep the connection open.
 *
 * @param s The handle of the socket.
 * @throws {WinsockError} If `SetHandleInformation` fails.
 */
export function clearInheritFlag(s: bigint): void {
  const done = kernel32().SetHandleInformation(s, HANDLE_FLAG_INHERIT, 0);
  if (done === 0) throw lastWinsockError(`keep socket ${s} from being inherited`, "SetHandleInformation");
}
