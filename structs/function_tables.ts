/**
 * The order of the functions in the tables of the service provider interface.
 *
 * @module
 */

/**
 * The functions of
 * [WSPPROC_TABLE](https://learn.microsoft.com/windows/win32/api/ws2spi/ns-ws2spi-wspproc_table), 30 pointers, 240 bytes in
 * a 64-bit process: what `WSPStartup` gives its caller. `WSPDuplicateSocket` is at index 8.
 */
export const WSPPROC_TABLE = [
  "lpWSPAccept",
  "lpWSPAddressToString",
  "lpWSPAsyncSelect",
  "lpWSPBind",
  "lpWSPCancelBlockingCall",
  "lpWSPCleanup",
  "lpWSPCloseSocket",
  "lpWSPConnect",
  "lpWSPDuplicateSocket",
  "lpWSPEnumNetworkEvents",
  "lpWSPEventSelect",
  "lpWSPGetOverlappedResult",
  "lpWSPGetPeerName",
  "lpWSPGetSockName",
  "lpWSPGetSockOpt",
  "lpWSPGetQOSByName",
  "lpWSPIoctl",
  "lpWSPJoinLeaf",
  "lpWSPListen",
  "lpWSPRecv",
  "lpWSPRecvDisconnect",
  "lpWSPRecvFrom",
  "lpWSPSelect",
  "lpWSPSend",
  "lpWSPSendDisconnect",
  "lpWSPSendTo",
  "lpWSPSetSockOpt",
  "lpWSPShutdown",
  "lpWSPSocket",
  "lpWSPStringToAddress",
] as const;

/**
 * The functions of
 * [WSPUPCALLTABLE](https://learn.microsoft.com/windows/win32/api/ws2spi/ns-ws2spi-wspupcalltable), 15 pointers, 120 bytes
 * in a 64-bit process: what a provider may call back.
 */
export const WSPUPCALLTABLE = [
  "lpWPUCloseEvent",
  "lpWPUCloseSocketHandle",
  "lpWPUCreateEvent",
  "lpWPUCreateSocketHandle",
  "lpWPUFDIsSet",
  "lpWPUGetProviderPath",
  "lpWPUModifyIFSHandle",
  "lpWPUPostMessage",
  "lpWPUQueryBlockingCallback",
  "lpWPUQuerySocketHandleContext",
  "lpWPUQueueApc",
  "lpWPUResetEvent",
  "lpWPUSetEvent",
  "lpWPUOpenCurrentThread",
  "lpWPUCloseThread",
] as const;
