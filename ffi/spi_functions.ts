/**
 * The native signatures of the functions of the service provider interface. The types are valid on every 64-bit system,
 * with the calling convention of that system.
 *
 * A `buffer` takes an array or `null` in a call. In a callback, which native code calls, it is a pointer.
 *
 * @module
 */
import { INVALID_SOCKET, type PassedOnName } from "./platform.ts";

/** `SOCKET_ERROR`: the result of a function that fails. */
const SOCKET_ERROR: -1 = -1;

/**
 * The functions of WSPPROC_TABLE by the names of their members. The last parameter of each is `LPINT lpErrno`.
 *
 * @experimental
 */
export const WSPPROC_FUNCTIONS = {
  /** `SOCKET WSPAccept(SOCKET s, struct sockaddr *addr, LPINT addrlen, LPCONDITIONPROC lpfnCondition, DWORD_PTR dwCallbackData, LPINT lpErrno)` */
  lpWSPAccept: { parameters: ["usize", "buffer", "buffer", "buffer", "usize", "buffer"], result: "usize" },
  /** `INT WSPAddressToString(LPSOCKADDR lpsaAddress, DWORD dwAddressLength, LPWSAPROTOCOL_INFOW lpProtocolInfo, LPWSTR lpszAddressString, LPDWORD lpdwAddressStringLength, LPINT lpErrno)` */
  lpWSPAddressToString: { parameters: ["buffer", "u32", "buffer", "buffer", "buffer", "buffer"], result: "i32" },
  /** `int WSPAsyncSelect(SOCKET s, HWND hWnd, unsigned int wMsg, long lEvent, LPINT lpErrno)` */
  lpWSPAsyncSelect: { parameters: ["usize", "usize", "u32", "i32", "buffer"], result: "i32" },
  /** `int WSPBind(SOCKET s, const struct sockaddr *name, int namelen, LPINT lpErrno)` */
  lpWSPBind: { parameters: ["usize", "buffer", "i32", "buffer"], result: "i32" },
  /** `int WSPCancelBlockingCall(LPINT lpErrno)` */
  lpWSPCancelBlockingCall: { parameters: ["buffer"], result: "i32" },
  /** `int WSPCleanup(LPINT lpErrno)` */
  lpWSPCleanup: { parameters: ["buffer"], result: "i32" },
  /** `int WSPCloseSocket(SOCKET s, LPINT lpErrno)` */
  lpWSPCloseSocket: { parameters: ["usize", "buffer"], result: "i32" },
  /** `int WSPConnect(SOCKET s, const struct sockaddr *name, int namelen, LPWSABUF lpCallerData, LPWSABUF lpCalleeData, LPQOS lpSQOS, LPQOS lpGQOS, LPINT lpErrno)` */
  lpWSPConnect: {
    parameters: ["usize", "buffer", "i32", "buffer", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  /** `int WSPDuplicateSocket(SOCKET s, DWORD dwProcessId, LPWSAPROTOCOL_INFOW lpProtocolInfo, LPINT lpErrno)` */
  lpWSPDuplicateSocket: { parameters: ["usize", "u32", "buffer", "buffer"], result: "i32" },
  /** `int WSPEnumNetworkEvents(SOCKET s, WSAEVENT hEventObject, LPWSANETWORKEVENTS lpNetworkEvents, LPINT lpErrno)` */
  lpWSPEnumNetworkEvents: { parameters: ["usize", "usize", "buffer", "buffer"], result: "i32" },
  /** `int WSPEventSelect(SOCKET s, WSAEVENT hEventObject, long lNetworkEvents, LPINT lpErrno)` */
  lpWSPEventSelect: { parameters: ["usize", "usize", "i32", "buffer"], result: "i32" },
  /** `BOOL WSPGetOverlappedResult(SOCKET s, LPWSAOVERLAPPED lpOverlapped, LPDWORD lpcbTransfer, BOOL fWait, LPDWORD lpdwFlags, LPINT lpErrno)` */
  lpWSPGetOverlappedResult: { parameters: ["usize", "buffer", "buffer", "i32", "buffer", "buffer"], result: "i32" },
  /** `int WSPGetPeerName(SOCKET s, struct sockaddr *name, LPINT namelen, LPINT lpErrno)` */
  lpWSPGetPeerName: { parameters: ["usize", "buffer", "buffer", "buffer"], result: "i32" },
  /** `int WSPGetSockName(SOCKET s, struct sockaddr *name, LPINT namelen, LPINT lpErrno)` */
  lpWSPGetSockName: { parameters: ["usize", "buffer", "buffer", "buffer"], result: "i32" },
  /** `int WSPGetSockOpt(SOCKET s, int level, int optname, char *optval, LPINT optlen, LPINT lpErrno)` */
  lpWSPGetSockOpt: { parameters: ["usize", "i32", "i32", "buffer", "buffer", "buffer"], result: "i32" },
  /** `BOOL WSPGetQOSByName(SOCKET s, LPWSABUF lpQOSName, LPQOS lpQOS, LPINT lpErrno)` */
  lpWSPGetQOSByName: { parameters: ["usize", "buffer", "buffer", "buffer"], result: "i32" },
  /** `int WSPIoctl(SOCKET s, DWORD dwIoControlCode, LPVOID lpvInBuffer, DWORD cbInBuffer, LPVOID lpvOutBuffer, DWORD cbOutBuffer, LPDWORD lpcbBytesReturned, LPWSAOVERLAPPED lpOverlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine, LPWSATHREADID lpThreadId, LPINT lpErrno)` */
  lpWSPIoctl: {
    parameters: [
      "usize",
      "u32",
      "buffer",
      "u32",
      "buffer",
      "u32",
      "buffer",
      "buffer",
      "buffer",
      "buffer",
      "buffer",
    ],
    result: "i32",
  },
  /** `SOCKET WSPJoinLeaf(SOCKET s, const struct sockaddr *name, int namelen, LPWSABUF lpCallerData, LPWSABUF lpCalleeData, LPQOS lpSQOS, LPQOS lpGQOS, DWORD dwFlags, LPINT lpErrno)` */
  lpWSPJoinLeaf: {
    parameters: ["usize", "buffer", "i32", "buffer", "buffer", "buffer", "buffer", "u32", "buffer"],
    result: "usize",
  },
  /** `int WSPListen(SOCKET s, int backlog, LPINT lpErrno)` */
  lpWSPListen: { parameters: ["usize", "i32", "buffer"], result: "i32" },
  /** `int WSPRecv(SOCKET s, LPWSABUF lpBuffers, DWORD dwBufferCount, LPDWORD lpNumberOfBytesRecvd, LPDWORD lpFlags, LPWSAOVERLAPPED lpOverlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine, LPWSATHREADID lpThreadId, LPINT lpErrno)` */
  lpWSPRecv: {
    parameters: ["usize", "buffer", "u32", "buffer", "buffer", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  /** `int WSPRecvDisconnect(SOCKET s, LPWSABUF lpInboundDisconnectData, LPINT lpErrno)` */
  lpWSPRecvDisconnect: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
  /** `int WSPRecvFrom(SOCKET s, LPWSABUF lpBuffers, DWORD dwBufferCount, LPDWORD lpNumberOfBytesRecvd, LPDWORD lpFlags, struct sockaddr *lpFrom, LPINT lpFromlen, LPWSAOVERLAPPED lpOverlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine, LPWSATHREADID lpThreadId, LPINT lpErrno)` */
  lpWSPRecvFrom: {
    parameters: [
      "usize",
      "buffer",
      "u32",
      "buffer",
      "buffer",
      "buffer",
      "buffer",
      "buffer",
      "buffer",
      "buffer",
      "buffer",
    ],
    result: "i32",
  },
  /** `int WSPSelect(int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds, const struct timeval *timeout, LPINT lpErrno)` */
  lpWSPSelect: { parameters: ["i32", "buffer", "buffer", "buffer", "buffer", "buffer"], result: "i32" },
  /** `int WSPSend(SOCKET s, LPWSABUF lpBuffers, DWORD dwBufferCount, LPDWORD lpNumberOfBytesSent, DWORD dwFlags, LPWSAOVERLAPPED lpOverlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine, LPWSATHREADID lpThreadId, LPINT lpErrno)` */
  lpWSPSend: {
    parameters: ["usize", "buffer", "u32", "buffer", "u32", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  /** `int WSPSendDisconnect(SOCKET s, LPWSABUF lpOutboundDisconnectData, LPINT lpErrno)` */
  lpWSPSendDisconnect: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
  /** `int WSPSendTo(SOCKET s, LPWSABUF lpBuffers, DWORD dwBufferCount, LPDWORD lpNumberOfBytesSent, DWORD dwFlags, const struct sockaddr *lpTo, int iTolen, LPWSAOVERLAPPED lpOverlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine, LPWSATHREADID lpThreadId, LPINT lpErrno)` */
  lpWSPSendTo: {
    parameters: [
      "usize",
      "buffer",
      "u32",
      "buffer",
      "u32",
      "buffer",
      "i32",
      "buffer",
      "buffer",
      "buffer",
      "buffer",
    ],
    result: "i32",
  },
  /** `int WSPSetSockOpt(SOCKET s, int level, int optname, const char *optval, int optlen, LPINT lpErrno)` */
  lpWSPSetSockOpt: { parameters: ["usize", "i32", "i32", "buffer", "i32", "buffer"], result: "i32" },
  /** `int WSPShutdown(SOCKET s, int how, LPINT lpErrno)` */
  lpWSPShutdown: { parameters: ["usize", "i32", "buffer"], result: "i32" },
  /** `SOCKET WSPSocket(int af, int type, int protocol, LPWSAPROTOCOL_INFOW lpProtocolInfo, GROUP g, DWORD dwFlags, LPINT lpErrno)` */
  lpWSPSocket: { parameters: ["i32", "i32", "i32", "buffer", "u32", "u32", "buffer"], result: "usize" },
  /** `INT WSPStringToAddress(LPWSTR AddressString, INT AddressFamily, LPWSAPROTOCOL_INFOW lpProtocolInfo, LPSOCKADDR lpAddress, LPINT lpAddressLength, LPINT lpErrno)` */
  lpWSPStringToAddress: { parameters: ["buffer", "i32", "buffer", "buffer", "buffer", "buffer"], result: "i32" },
} as const satisfies Record<string, Deno.ForeignFunction>;

/**
 * The functions of WSPUPCALLTABLE by the names of their members.
 *
 * @experimental
 */
export const WSPUPCALL_FUNCTIONS = {
  /** `BOOL WPUCloseEvent(WSAEVENT hEvent, LPINT lpErrno)` */
  lpWPUCloseEvent: { parameters: ["usize", "buffer"], result: "i32" },
  /** `int WPUCloseSocketHandle(SOCKET s, LPINT lpErrno)` */
  lpWPUCloseSocketHandle: { parameters: ["usize", "buffer"], result: "i32" },
  /** `WSAEVENT WPUCreateEvent(LPINT lpErrno)` */
  lpWPUCreateEvent: { parameters: ["buffer"], result: "usize" },
  /** `SOCKET WPUCreateSocketHandle(DWORD dwCatalogEntryId, DWORD_PTR dwContext, LPINT lpErrno)` */
  lpWPUCreateSocketHandle: { parameters: ["u32", "usize", "buffer"], result: "usize" },
  /** `int WPUFDIsSet(SOCKET s, fd_set *fdset)` */
  lpWPUFDIsSet: { parameters: ["usize", "buffer"], result: "i32" },
  /** `int WPUGetProviderPath(LPGUID lpProviderId, WCHAR *lpszProviderDllPath, LPINT lpProviderDllPathLen, LPINT lpErrno)` */
  lpWPUGetProviderPath: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i32" },
  /** `SOCKET WPUModifyIFSHandle(DWORD dwCatalogEntryId, SOCKET ProposedHandle, LPINT lpErrno)` */
  lpWPUModifyIFSHandle: { parameters: ["u32", "usize", "buffer"], result: "usize" },
  /** `BOOL WPUPostMessage(HWND hWnd, UINT Msg, WPARAM wParam, LPARAM lParam)` */
  lpWPUPostMessage: { parameters: ["usize", "u32", "usize", "isize"], result: "i32" },
  /** `int WPUQueryBlockingCallback(DWORD dwCatalogEntryId, LPBLOCKINGCALLBACK *lplpfnCallback, PDWORD_PTR lpdwContext, LPINT lpErrno)` */
  lpWPUQueryBlockingCallback: { parameters: ["u32", "buffer", "buffer", "buffer"], result: "i32" },
  /** `int WPUQuerySocketHandleContext(SOCKET s, PDWORD_PTR lpContext, LPINT lpErrno)` */
  lpWPUQuerySocketHandleContext: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
  /** `int WPUQueueApc(LPWSATHREADID lpThreadId, LPWSAUSERAPC lpfnUserApc, DWORD_PTR dwContext, LPINT lpErrno)` */
  lpWPUQueueApc: { parameters: ["buffer", "buffer", "usize", "buffer"], result: "i32" },
  /** `BOOL WPUResetEvent(WSAEVENT hEvent, LPINT lpErrno)` */
  lpWPUResetEvent: { parameters: ["usize", "buffer"], result: "i32" },
  /** `BOOL WPUSetEvent(WSAEVENT hEvent, LPINT lpErrno)` */
  lpWPUSetEvent: { parameters: ["usize", "buffer"], result: "i32" },
  /** `int WPUOpenCurrentThread(LPWSATHREADID lpThreadId, LPINT lpErrno)` */
  lpWPUOpenCurrentThread: { parameters: ["buffer", "buffer"], result: "i32" },
  /** `int WPUCloseThread(LPWSATHREADID lpThreadId, LPINT lpErrno)` */
  lpWPUCloseThread: { parameters: ["buffer", "buffer"], result: "i32" },
} as const satisfies Record<string, Deno.ForeignFunction>;

/** The name of a function of either table: the name of its member. */
export type SpiFunctionName = keyof typeof WSPPROC_FUNCTIONS | keyof typeof WSPUPCALL_FUNCTIONS;

/** WSPUPCALLTABLE as a parameter: 15 pointers, by value. */
const UPCALL_TABLE = {
  struct: [
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
    "usize",
  ],
} as const;

/**
 * `int WSPStartup(WORD wVersionRequested, LPWSPDATA lpWSPData, LPWSAPROTOCOL_INFOW lpProtocolInfo, WSPUPCALLTABLE UpcallTable, LPWSPPROC_TABLE lpProcTable)`
 *
 * @experimental
 */
export const WSP_STARTUP = {
  parameters: ["u16", "buffer", "buffer", UPCALL_TABLE, "buffer"],
  result: "i32",
} as const satisfies Deno.ForeignFunction;

/** `WSPStartup` as a callback. */
export const WSP_STARTUP_CALLBACK = {
  parameters: ["u16", "pointer", "pointer", UPCALL_TABLE, "pointer"],
  result: "i32",
} as const satisfies Deno.UnsafeCallbackDefinition;

/**
 * The functions of WSPPROC_TABLE that a provider passes on to the system, and their names in ws2_32.dll. There they have
 * the same parameters, without `lpThreadId` and `lpErrno`.
 *
 * @experimental
 */
export const PASSED_ON_FUNCTIONS = {
  lpWSPAccept: "WSAAccept",
  lpWSPBind: "bind",
  lpWSPConnect: "WSAConnect",
  lpWSPEnumNetworkEvents: "WSAEnumNetworkEvents",
  lpWSPEventSelect: "WSAEventSelect",
  lpWSPGetOverlappedResult: "WSAGetOverlappedResult",
  lpWSPGetPeerName: "getpeername",
  lpWSPGetSockName: "getsockname",
  lpWSPIoctl: "WSAIoctl",
  lpWSPListen: "listen",
  lpWSPRecv: "WSARecv",
  lpWSPRecvDisconnect: "WSARecvDisconnect",
  lpWSPRecvFrom: "WSARecvFrom",
  lpWSPSelect: "select",
  lpWSPSend: "WSASend",
  lpWSPSendDisconnect: "WSASendDisconnect",
  lpWSPSendTo: "WSASendTo",
  lpWSPShutdown: "shutdown",
} as const satisfies Record<PassedOnName, string>;

/** The functions whose last parameters are `lpCompletionRoutine`, `lpThreadId` and `lpErrno`. */
const COMPLETING: ReadonlySet<SpiFunctionName> = new Set([
  "lpWSPIoctl",
  "lpWSPRecv",
  "lpWSPRecvFrom",
  "lpWSPSend",
  "lpWSPSendTo",
]);

/** Returns whether a function has the parameters `lpCompletionRoutine` and `lpThreadId`, before `lpErrno`. */
export function hasCompletionRoutine(name: SpiFunctionName): boolean {
  return COMPLETING.has(name);
}

/** Returns a function of WSPPROC_TABLE as ws2_32.dll has it, with pointers as parameters. */
export function systemFunction(name: PassedOnName): Deno.ForeignFunction {
  const { parameters, result } = asCallback(WSPPROC_FUNCTIONS[name]);
  return {
    name: PASSED_ON_FUNCTIONS[name],
    parameters: parameters.slice(0, hasCompletionRoutine(name) ? -2 : -1),
    result,
  };
}

/** The functions that return BOOL or an event. 0 means failure. */
const ZERO_FAILS: ReadonlySet<SpiFunctionName> = new Set([
  "lpWSPGetOverlappedResult",
  "lpWSPGetQOSByName",
  "lpWPUCloseEvent",
  "lpWPUCreateEvent",
  "lpWPUFDIsSet",
  "lpWPUPostMessage",
  "lpWPUResetEvent",
  "lpWPUSetEvent",
]);

/**
 * Returns the result of a function that fails.
 *
 * @param name The function.
 * @param result The type of its result.
 * @returns FALSE, `INVALID_SOCKET` or `SOCKET_ERROR`.
 */
export function failure(name: SpiFunctionName, result: "i32" | "usize"): number | bigint {
  if (ZERO_FAILS.has(name)) return result === "usize" ? 0n : 0;
  return result === "usize" ? INVALID_SOCKET : SOCKET_ERROR;
}

/**
 * Converts a function to a callback: arrays become pointers.
 *
 * @param definition The function as it is called.
 * @returns The function as it is defined.
 */
export function asCallback(
  { parameters, result }: { readonly parameters: readonly Deno.NativeType[]; readonly result: Deno.NativeResultType },
): Deno.UnsafeCallbackDefinition {
  return { parameters: parameters.map((type) => type === "buffer" ? "pointer" : type), result };
}
