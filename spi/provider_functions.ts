/**
 * The service provider interface: its functions by their native names, and a counter for `WSPStartup` and `WSPCleanup`,
 * which must be paired.
 *
 * @module
 */
import type { NativeArgument, PassedOnName } from "../ffi/platform.ts";
import type { WSPDATA } from "../structs/spi.ts";
import { spiError } from "./service_provider.ts";

/**
 * The version of the interface: 2.2, with the major number in the low byte.
 *
 * @experimental
 */
export const SPI_VERSION = 0x0202;

/**
 * The functions of a provider: those of
 * [WSPPROC_TABLE](https://learn.microsoft.com/windows/win32/api/ws2spi/ns-ws2spi-wspproc_table) that are about shared
 * sockets. Base providers, layers and native code all have this interface.
 *
 * Each function throws a {@linkcode WinsockError} with the code that native code would find in `lpErrno`. A call before
 * {@linkcode ProviderFunctions.WSPStartup}, or after as many calls of {@linkcode ProviderFunctions.WSPCleanup}, fails
 * with WSANOTINITIALISED.
 *
 * `lpProtocolInfo` is always 628 bytes. {@linkcode entryForNext} describes its content in a chain.
 *
 * @experimental
 */
export interface ProviderFunctions {
  /**
   * [WSPStartup](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wspstartup): negotiates a version and
   * passes the upcalls to the provider.
   *
   * @param wVersionRequested The highest version that the caller supports, such as 0x0202.
   * @param lpProtocolInfo The catalog entry that the provider is started for; in a chain, that of the chain.
   * @param upcalls The functions that the provider may call.
   * @returns The version to use, and the highest that the provider supports.
   * @throws {WinsockError} WSAVERNOTSUPPORTED if the provider does not support a version that old,
   * WSAEPROVIDERFAILEDINIT if it cannot work.
   */
  WSPStartup(wVersionRequested: number, lpProtocolInfo: Uint8Array<ArrayBuffer>, upcalls: Upcalls): WSPDATA;

  /**
   * [WSPSocket](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspsocket): makes a new socket of a
   * catalog entry, or opens the duplicate of a `WSPDuplicateSocket`.
   *
   * @param af Address family, or `FROM_PROTOCOL_INFO` (-1).
   * @param type Socket type, or `FROM_PROTOCOL_INFO`.
   * @param protocol Protocol, or `FROM_PROTOCOL_INFO`.
   * @param lpProtocolInfo The entry, or the blob.
   * @param g A reserved value.
   * @param dwFlags `WSA_FLAG_*`.
   * @returns The descriptor. The caller must close it.
   */
  WSPSocket(
    af: number,
    type: number,
    protocol: number,
    lpProtocolInfo: Uint8Array<ArrayBuffer>,
    g: number,
    dwFlags: number,
  ): bigint;

  /**
   * [WSPDuplicateSocket](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspduplicatesocket).
   *
   * @param s The socket.
   * @param dwProcessId The process that may open the duplicate.
   * @param lpProtocolInfo Before the call, the entry of the socket, by which layers find the next provider; after it,
   * the blob for the target.
   */
  WSPDuplicateSocket(s: bigint, dwProcessId: number, lpProtocolInfo: Uint8Array<ArrayBuffer>): void;

  /**
   * [WSPCloseSocket](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspclosesocket).
   *
   * @param s The descriptor.
   */
  WSPCloseSocket(s: bigint): void;

  /**
   * [WSPSetSockOpt](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspsetsockopt), with the numbers
   * of the system.
   *
   * @param s The socket.
   * @param level The level of the option.
   * @param optname The option.
   * @param optval The value, in memory order.
   */
  WSPSetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void;

  /**
   * [WSPGetSockOpt](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspgetsockopt), with the numbers
   * of the system.
   *
   * @param s The socket.
   * @param level The level of the option.
   * @param optname The option.
   * @param optval Filled with the value.
   * @returns The number of bytes of the value.
   */
  WSPGetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number;

  /**
   * [WSPAddressToString](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspaddresstostring).
   *
   * @param lpsaAddress A `sockaddr` in the format of the system.
   * @param lpProtocolInfo The entry that the address belongs to.
   * @returns The text, without NUL.
   */
  WSPAddressToString(lpsaAddress: Uint8Array<ArrayBuffer>, lpProtocolInfo: Uint8Array<ArrayBuffer>): string;

  /**
   * [WSPStringToAddress](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspstringtoaddress).
   *
   * @param AddressString The text.
   * @param AddressFamily The address family, as a number of the system.
   * @param lpProtocolInfo The entry that the address belongs to.
   * @returns A `sockaddr` in the format of the system.
   */
  WSPStringToAddress(
    AddressString: string,
    AddressFamily: number,
    lpProtocolInfo: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer>;

  /**
   * [WSPCleanup](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspcleanup): call it once for each
   * successful `WSPStartup`.
   */
  WSPCleanup(): void;

  /**
   * Passes a call of native code on to the system's sockets, for the functions of the table that this interface does not
   * have: from `WSPAccept` and `WSPBind` to `WSPSend` and `WSPSelect`. Only on Windows; without this method, and on other
   * systems, these functions fail with WSAEOPNOTSUPP.
   *
   * A layer replaces its descriptors in the arguments by those of the next provider. A new descriptor, of `WSPAccept`, is
   * announced as in `WSPSocket`.
   *
   * @param name The function, by the name of its member in the table.
   * @param args The arguments of the function, without `lpErrno`. Pointers are to the memory of native code.
   * @returns The result of the function.
   */
  passOn?(name: PassedOnName, args: readonly NativeArgument[]): number | bigint;

  /**
   * {@linkcode ServiceProvider.withdraw}, for which the native table does not have a function.
   *
   * @param lpProtocolInfo The blob from `WSPDuplicateSocket`.
   */
  withdraw?(lpProtocolInfo: Uint8Array<ArrayBuffer>): void;
}

/**
 * The functions that a provider may call: those of
 * [WSPUPCALLTABLE](https://learn.microsoft.com/windows/win32/api/ws2spi/ns-ws2spi-wspupcalltable) that have a meaning
 * outside ws2_32. Each throws a {@linkcode WinsockError}.
 *
 * A provider registers each descriptor that it makes. An IFS provider, whose descriptors are handles of the system,
 * announces the descriptor with {@linkcode Upcalls.WPUModifyIFSHandle}. A non-IFS provider gets it from {@linkcode
 * Upcalls.WPUCreateSocketHandle}.
 *
 * @experimental
 */
export interface Upcalls {
  /**
   * [WPUModifyIFSHandle](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpumodifyifshandle).
   *
   * @param dwCatalogEntryId The provider's entry.
   * @param ProposedHandle The handle that the provider has made.
   * @returns The descriptor to return to the caller instead; often the same.
   */
  WPUModifyIFSHandle(dwCatalogEntryId: number, ProposedHandle: bigint): bigint;
  /**
   * [WPUCreateSocketHandle](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpucreatesockethandle).
   *
   * @param dwCatalogEntryId The provider's entry.
   * @param dwContext A value that the provider can later read by the descriptor.
   * @returns A new descriptor, which has a meaning only for the provider.
   */
  WPUCreateSocketHandle(dwCatalogEntryId: number, dwContext: bigint): bigint;
  /**
   * [WPUCloseSocketHandle](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpuclosesockethandle).
   *
   * @param s A descriptor from `WPUCreateSocketHandle`.
   */
  WPUCloseSocketHandle(s: bigint): void;
  /**
   * [WPUQuerySocketHandleContext](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpuquerysockethandlecontext).
   *
   * @param s A descriptor from `WPUCreateSocketHandle`.
   * @returns The context that it was made with.
   */
  WPUQuerySocketHandleContext(s: bigint): bigint;
  /**
   * [WPUGetProviderPath](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpugetproviderpath).
   *
   * @param lpProviderId The GUID of a provider.
   * @returns The path of its library.
   */
  WPUGetProviderPath(lpProviderId: string): string;
  /**
   * [WPUCreateEvent](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpucreateevent).
   *
   * @returns An event that is not signalled.
   */
  WPUCreateEvent(): bigint;
  /**
   * [WPUSetEvent](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpusetevent).
   *
   * @param hEvent The event.
   */
  WPUSetEvent(hEvent: bigint): void;
  /**
   * [WPUResetEvent](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpuresetevent).
   *
   * @param hEvent The event.
   */
  WPUResetEvent(hEvent: bigint): void;
  /**
   * [WPUCloseEvent](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpucloseevent).
   *
   * @param hEvent The event.
   */
  WPUCloseEvent(hEvent: bigint): void;
}

/** Counts the startups of a provider, and stores the state of the latest one. */
export class StartupCounter<State> {
  #count = 0;
  #state: State | undefined;

  /** Counts a startup. Its state replaces that of the previous one. */
  add(state: State): void {
    this.#count++;
    this.#state = state;
  }

  /**
   * Counts a cleanup.
   *
   * @returns The state, if this was the last cleanup; the caller can then free it.
   * @throws {WinsockError} WSANOTINITIALISED if there were as many cleanups as startups already.
   */
  remove(): State | undefined {
    const state = this.current("WSPCleanup", "stop a service provider");
    if (--this.#count > 0) return undefined;
    this.#state = undefined;
    return state;
  }

  /**
   * Returns the current state.
   *
   * @throws {WinsockError} WSANOTINITIALISED if the provider is not started.
   */
  current(functionName: string, operation: string): State {
    if (this.#count > 0) return this.#state!;
    throw spiError("WSANOTINITIALISED", functionName, operation, "WSPStartup was not called");
  }
}

/**
 * Rejects a version older than 2.2, the only supported version.
 *
 * @throws {WinsockError} WSAVERNOTSUPPORTED
 */
export function checkVersion(wVersionRequested: number): void {
  const major = wVersionRequested & 0xff;
  const minor = wVersionRequested >>> 8;
  if (major > 2 || (major === 2 && minor >= 2)) return;
  const detail = `version ${major}.${minor} was requested, this is ${SPI_VERSION & 0xff}.${SPI_VERSION >>> 8}`;
  throw spiError("WSAVERNOTSUPPORTED", "WSPStartup", "start a service provider", detail);
}
