/**
 * ws2_32.dll: the functions of Winsock needed here, unchecked. Integers and buffers only, so that a grant for the one file is enough.
 *
 * @module
 */
import { openLibrary } from "../library.ts";
import { WinsockError } from "../winsock_error.ts";
import { SYSTEM32 } from "./system32.ts";

/** The functions of ws2_32.dll the library binds, with their parameters' types. */
export const WS2_32_SYMBOLS = {
  /** `int WSAStartup(WORD wVersionRequested, LPWSADATA lpWSAData)` */
  WSAStartup: { parameters: ["u16", "buffer"], result: "i32" },
  /** `int WSAGetLastError()`; belongs in the statement right behind the call it is about */
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
 * The functions of `ws2_32.dll`, opened and started (`WSAStartup` 2.2) at the first call.
 *
 * Needs `--allow-ffi=C:\Windows\System32\ws2_32.dll`.
 *
 * @returns The bound functions, raw: nothing is checked.
 * @throws {Deno.errors.NotCapable} Without the permission.
 * @throws {WinsockError} If `WSAStartup` fails.
 */
export function ws2_32(): Deno.DynamicLibrary<typeof WS2_32_SYMBOLS>["symbols"] {
  if (symbols !== undefined) return symbols;
  const opened = openLibrary([`${SYSTEM32}\\ws2_32.dll`], WS2_32_SYMBOLS);
  const code = opened.WSAStartup(WINSOCK_2_2, new Uint8Array(WSADATA_SIZE));
  if (code !== 0) throw new WinsockError(code, { operation: "start Winsock 2.2", functionName: "WSAStartup" });
  return symbols = opened;
}

/**
 * The error of the Winsock or kernel32 call in the statement before; both keep it in the same slot of the thread.
 *
 * @param operation What was being done, to what.
 * @param functionName The call.
 * @returns The error.
 */
export function lastWinsockError(operation: string, functionName: string): WinsockError {
  return new WinsockError(ws2_32().WSAGetLastError(), { operation, functionName });
}
