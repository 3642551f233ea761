/**
 * The service provider interface: the functions by their native names, and counting `WSPStartup` and `WSPCleanup`,
 * which come in pairs.
 *
 * @module
 */
import type { WSPDATA } from "../structs/spi.ts";
import { spiError } from "./service_provider.ts";

/**
 * The version of the interface there is: 2.2, the major number in the low byte.
 *
 * @experimental
 */
export const SPI_VERSION = 0x0202;

/**
 * The functions of a provider: those of
 * [WSPPROC_TABLE](https://learn.microsoft.com/windows/win32/api/ws2spi/ns-ws2spi-wspproc_table) that have to do with
 * shared sockets. Base providers, layers and native code are all alike behind it.
 *
 * Each throws a {@linkcode WinsockError} with the code that native code finds in `lpErrno`. A function called before
 * {@linkcode ProviderFunctions.WSPStartup}, or after as many calls of {@linkcode ProviderFunctions.WSPCleanup}, fails with
 * WSANOTINITIALISED.
 *
 * `lpProtocolInfo` is 628 bytes everywhere. What goes into it in a chain, {@linkcode entryForNext} says.
 *
 * @experimental
 */
export interface ProviderFunctions {
  /**
   * [WSPStartup](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wspstartup): agrees on a version and
   * takes what the provider may call back.
   *
   * @param wVersionRequested The highest version the caller can use, such as 0x0202.
   * @param lpProtocolInfo The catalogue entry the provider is started for; in a chain the chain's.
   * @param upcalls What the provider may call.
   * @returns The version to be used, and the highest there is.
   * @throws {WinsockError} WSAVERNOTSUPPORTED if the provider has no version that old, WSAEPROVIDERFAILEDINIT if it
   * cannot work.
   */
  WSPStartup(wVersionRequested: number, lpProtocolInfo: Uint8Array<ArrayBuffer>, upcalls: Upcalls): WSPDATA;

  /**
   * [WSPSocket](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspsocket): makes a new socket of a
   * catalogue entry, or opens what `WSPDuplicateSocket` has prepared.
   *
   * @param af Address family, or `FROM_PROTOCOL_INFO` (-1).
   * @param type Socket type, or `FROM_PROTOCOL_INFO`.
   * @param protocol Protocol, or `FROM_PROTOCOL_INFO`.
   * @param lpProtocolInfo The entry, or the blob.
   * @param g Reserved.
   * @param dwFlags `WSA_FLAG_*`.
   * @returns The descriptor; the caller's to close.
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
   * @param dwProcessId The process that may open it.
   * @param lpProtocolInfo On call, the entry the socket belongs to, for layers to find their way down; on return, the
   * special structure for the target.
   */
  WSPDuplicateSocket(s: bigint, dwProcessId: number, lpProtocolInfo: Uint8Array<ArrayBuffer>): void;

  /**
   * [WSPCloseSocket](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspclosesocket).
   *
   * @param s The descriptor.
   */
  WSPCloseSocket(s: bigint): void;

  /**
   * [WSPSetSockOpt](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspsetsockopt), with the system's own
   * numbers.
   *
   * @param s The socket.
   * @param level The option's level.
   * @param optname The option.
   * @param optval Its value, as it stands in memory.
   */
  WSPSetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void;

  /**
   * [WSPGetSockOpt](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspgetsockopt), with the system's own
   * numbers.
   *
   * @param s The socket.
   * @param level The option's level.
   * @param optname The option.
   * @param optval Filled with its value.
   * @returns How many bytes the value has.
   */
  WSPGetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number;

  /**
   * [WSPAddressToString](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspaddresstostring).
   *
   * @param lpsaAddress A `sockaddr` of the system's.
   * @param lpProtocolInfo The entry it belongs to.
   * @returns The text, without NUL.
   */
  WSPAddressToString(lpsaAddress: Uint8Array<ArrayBuffer>, lpProtocolInfo: Uint8Array<ArrayBuffer>): string;

  /**
   * [WSPStringToAddress](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspstringtoaddress).
   *
   * @param AddressString The text.
   * @param AddressFamily The system's number of the family.
   * @param lpProtocolInfo The entry it belongs to.
   * @returns A `sockaddr` of the system's.
   */
  WSPStringToAddress(
    AddressString: string,
    AddressFamily: number,
    lpProtocolInfo: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer>;

  /**
   * [WSPCleanup](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspcleanup): one call for each
   * successful `WSPStartup`.
   */
  WSPCleanup(): void;

  /**
   * {@linkcode ServiceProvider.withdraw}, which the native table has no function for.
   *
   * @param lpProtocolInfo What `WSPDuplicateSocket` filled in.
   */
  withdraw?(lpProtocolInfo: Uint8Array<ArrayBuffer>): void;
}

/**
 * What a provider may call back: the functions of
 * [WSPUPCALLTABLE](https://learn.microsoft.com/windows/win32/api/ws2spi/ns-ws2spi-wspupcalltable) that make sense outside
 * ws2_32. Each throws a {@linkcode WinsockError}.
 *
 * Whoever allocates a descriptor tells of it: an IFS provider, whose descriptors are handles of the system, announces it
 * with {@linkcode Upcalls.WPUModifyIFSHandle}; a non-IFS provider gets it from {@linkcode Upcalls.WPUCreateSocketHandle}.
 *
 * @experimental
 */
export interface Upcalls {
  /**
   * [WPUModifyIFSHandle](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpumodifyifshandle).
   *
   * @param dwCatalogEntryId The provider's entry.
   * @param ProposedHandle The handle the provider has made.
   * @returns The descriptor to give to the caller in its place; often the same.
   */
  WPUModifyIFSHandle(dwCatalogEntryId: number, ProposedHandle: bigint): bigint;
  /**
   * [WPUCreateSocketHandle](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpucreatesockethandle).
   *
   * @param dwCatalogEntryId The provider's entry.
   * @param dwContext Whatever the provider wants to find again by the descriptor.
   * @returns A new descriptor, which only the provider understands.
   */
  WPUCreateSocketHandle(dwCatalogEntryId: number, dwContext: bigint): bigint;
  /**
   * [WPUCloseSocketHandle](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpuclosesockethandle).
   *
   * @param s A descriptor of `WPUCreateSocketHandle`.
   */
  WPUCloseSocketHandle(s: bigint): void;
  /**
   * [WPUQuerySocketHandleContext](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpuquerysockethandlecontext).
   *
   * @param s A descriptor of `WPUCreateSocketHandle`.
   * @returns The context it was made with.
   */
  WPUQuerySocketHandleContext(s: bigint): bigint;
  /**
   * [WPUGetProviderPath](https://learn.microsoft.com/windows/win32/api/ws2spi/nf-ws2spi-wpugetproviderpath).
   *
   * @param lpProviderId A provider's GUID.
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

/** How often a provider has been started, and what it was started with. */
export class StartupCounter<State> {
  #count = 0;
  #state: State | undefined;

  /** Counts a startup; the latest one's state is the one in use. */
  add(state: State): void {
    this.#count++;
    this.#state = state;
  }

  /**
   * Counts a cleanup.
   *
   * @returns The state, if this was the last; what belongs to it can go.
   * @throws {WinsockError} WSANOTINITIALISED if there were as many already.
   */
  remove(): State | undefined {
    const state = this.current("WSPCleanup", "stop a service provider");
    if (--this.#count > 0) return undefined;
    this.#state = undefined;
    return state;
  }

  /**
   * The state in use.
   *
   * @throws {WinsockError} WSANOTINITIALISED if the provider is not started.
   */
  current(functionName: string, operation: string): State {
    if (this.#count > 0) return this.#state!;
    throw spiError("WSANOTINITIALISED", functionName, operation, "WSPStartup was not called");
  }
}

/**
 * Refuses a version that is too old for 2.2, the only one there is.
 *
 * @throws {WinsockError} WSAVERNOTSUPPORTED
 */
export function checkVersion(wVersionRequested: number): void {
  const major = wVersionRequested & 0xff;
  const minor = wVersionRequested >>> 8;
  if (major > 2 || (major === 2 && minor >= 2)) return;
  const detail = `version ${major}.${minor} was asked for, this is ${SPI_VERSION & 0xff}.${SPI_VERSION >>> 8}`;
  throw spiError("WSAVERNOTSUPPORTED", "WSPStartup", "start a service provider", detail);
}
