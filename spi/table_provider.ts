/**
 * A {@linkcode ServiceProvider} as a table of functions for layers and native code, and such a table as a provider.
 *
 * @module
 */
import { providerCalls } from "../ffi/provider_platform.ts";
import type { WSPDATA } from "../structs/spi.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import {
  checkVersion,
  type ProviderFunctions,
  SPI_VERSION,
  StartupCounter,
  type Upcalls,
} from "./provider_functions.ts";
import { type ServiceProvider, spiError } from "./service_provider.ts";
import { DEFAULT_SOCKET_FLAGS, FROM_PROTOCOL_INFO } from "../structs/constants.ts";
import { DescriptorTable } from "./descriptor_table.ts";

/** A base provider's functions; its descriptors are the system's, and so are their options. */
class ProviderAdapter implements ProviderFunctions {
  readonly #provider: ServiceProvider;
  readonly #startups = new StartupCounter<{ upcalls: Upcalls; catalogEntryId: number }>();

  constructor(provider: ServiceProvider) {
    this.#provider = provider;
  }

  WSPStartup(wVersionRequested: number, lpProtocolInfo: Uint8Array, upcalls: Upcalls): WSPDATA {
    checkVersion(wVersionRequested);
    const { dwCatalogEntryId, szProtocol } = WSAPROTOCOL_INFOW.decode(lpProtocolInfo);
    this.#startups.add({ upcalls, catalogEntryId: dwCatalogEntryId });
    return { wVersion: SPI_VERSION, wHighVersion: SPI_VERSION, szDescription: szProtocol.split("\0")[0]! };
  }

  WSPSocket(
    _af: number,
    _type: number,
    _protocol: number,
    lpProtocolInfo: Uint8Array<ArrayBuffer>,
    _g: number,
    dwFlags: number,
  ): bigint {
    const operation = "open a socket";
    const { upcalls, catalogEntryId } = this.#startups.current("WSPSocket", operation);
    if (this.#provider.socketSync === undefined) {
      throw spiError("WSAEOPNOTSUPP", "WSPSocket", operation, "the provider must wait, and its caller cannot");
    }
    const s = this.#provider.socketSync(lpProtocolInfo, dwFlags);
    try {
      return upcalls.WPUModifyIFSHandle(catalogEntryId, s);
    } catch (error) {
      this.#provider.closeSocket(s);
      throw error;
    }
  }

  WSPDuplicateSocket(s: bigint, dwProcessId: number, lpProtocolInfo: Uint8Array<ArrayBuffer>): void {
    this.#startups.current("WSPDuplicateSocket", `duplicate socket ${s} for process ${dwProcessId}`);
    lpProtocolInfo.set(this.#provider.duplicateSocket(s, dwProcessId));
  }

  WSPCloseSocket(s: bigint): void {
    this.#startups.current("WSPCloseSocket", `close socket ${s}`);
    this.#provider.closeSocket(s);
  }

  WSPSetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void {
    this.#startups.current("WSPSetSockOpt", `set option ${optname} of level ${level} of socket ${s}`);
    providerCalls().setOption(s, level, optname, optval);
  }

  WSPGetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number {
    this.#startups.current("WSPGetSockOpt", `get option ${optname} of level ${level} of socket ${s}`);
    return providerCalls().getOption(s, level, optname, optval);
  }

  WSPAddressToString(lpsaAddress: Uint8Array<ArrayBuffer>): string {
    this.#startups.current("WSPAddressToString", "write an address as text");
    return providerCalls().addressToString(lpsaAddress);
  }

  WSPStringToAddress(AddressString: string, AddressFamily: number): Uint8Array<ArrayBuffer> {
    this.#startups.current("WSPStringToAddress", `read the address "${AddressString}"`);
    return providerCalls().stringToAddress(AddressString, AddressFamily);
  }

  WSPCleanup(): void {
    this.#startups.remove();
  }

  withdraw(lpProtocolInfo: Uint8Array<ArrayBuffer>): void {
    this.#provider.withdraw(lpProtocolInfo);
  }
}

/**
 * What ws2_32 is to its providers: starts one at the first use, calls it with the structure of its catalogue entry, keeps
 * the descriptors it tells of, and stops it when it is disposed of.
 *
 * Made by {@linkcode ProviderCatalog.open} for a chain and {@linkcode openNativeProvider} for native code; needs what
 * they need.
 *
 * @experimental
 */
export class TableProvider implements ServiceProvider, Disposable {
  /** The catalogue entry the provider is used as; a chain's for a chain. */
  readonly protocolInfo: WSAPROTOCOL_INFOW;
  /** The provider's functions. */
  readonly functions: ProviderFunctions;
  /** The descriptors the provider has told of. */
  readonly descriptors: DescriptorTable;
  #started = false;

  /**
   * Makes the provider; nothing is called before it is used.
   *
   * @param functions What it is made of.
   * @param protocolInfo The entry it is used as.
   * @param descriptors Where its upcalls go. Default: a table of its own.
   */
  constructor(
    functions: ProviderFunctions,
    protocolInfo: WSAPROTOCOL_INFOW,
    descriptors: DescriptorTable = new DescriptorTable(),
  ) {
    this.functions = functions;
    this.protocolInfo = protocolInfo;
    this.descriptors = descriptors;
  }

  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer> {
    const info = WSAPROTOCOL_INFOW.encode(this.protocolInfo);
    this.#start().WSPDuplicateSocket(s, processId, info);
    return info;
  }

  // deno-lint-ignore require-await -- the contract is asynchronous, the interface is not
  async socket(info: Uint8Array, flags?: number): Promise<bigint> {
    return this.socketSync(info, flags);
  }

  socketSync(info: Uint8Array, flags: number = DEFAULT_SOCKET_FLAGS): bigint {
    WSAPROTOCOL_INFOW.decode(info);
    return this.#start().WSPSocket(
      FROM_PROTOCOL_INFO,
      FROM_PROTOCOL_INFO,
      FROM_PROTOCOL_INFO,
      info.slice(),
      0,
      flags,
    );
  }

  withdraw(info: Uint8Array): void {
    this.#start().withdraw?.(info.slice());
  }

  closeSocket(s: bigint): void {
    this.#start().WSPCloseSocket(s);
    this.descriptors.forget(s);
  }

  /**
   * Reads an option (`WSPGetSockOpt`), with the system's own numbers.
   *
   * @param s The socket.
   * @param level The option's level.
   * @param optname The option.
   * @param size Bytes there is room for. Default 4, an `int`.
   * @returns The value as it stands in memory.
   * @throws {WinsockError} WSAENOTSOCK, WSAENOPROTOOPT and whatever else the provider says.
   */
  getSockOpt(s: bigint, level: number, optname: number, size: number = 4): Uint8Array<ArrayBuffer> {
    const value = new Uint8Array(size);
    return value.subarray(0, this.#start().WSPGetSockOpt(s, level, optname, value));
  }

  /**
   * Sets an option (`WSPSetSockOpt`), with the system's own numbers.
   *
   * @param s The socket.
   * @param level The option's level.
   * @param optname The option.
   * @param value The value as it stands in memory.
   * @throws {WinsockError} WSAENOTSOCK, WSAENOPROTOOPT and whatever else the provider says.
   */
  setSockOpt(s: bigint, level: number, optname: number, value: Uint8Array<ArrayBuffer>): void {
    this.#start().WSPSetSockOpt(s, level, optname, value);
  }

  /**
   * Writes an address as text (`WSPAddressToString`), such as `127.0.0.1:80`.
   *
   * @param address A `sockaddr` of the system's.
   * @returns The text.
   * @throws {WinsockError} WSAEINVAL if it is no address of the provider's.
   */
  addressToString(address: Uint8Array<ArrayBuffer>): string {
    return this.#start().WSPAddressToString(address, WSAPROTOCOL_INFOW.encode(this.protocolInfo));
  }

  /**
   * Reads an address (`WSPStringToAddress`).
   *
   * @param text The text, such as `127.0.0.1:80`.
   * @param family The system's number of the address family.
   * @returns A `sockaddr` of the system's.
   * @throws {WinsockError} WSAEINVAL if it is none.
   */
  stringToAddress(text: string, family: number): Uint8Array<ArrayBuffer> {
    return this.#start().WSPStringToAddress(text, family, WSAPROTOCOL_INFOW.encode(this.protocolInfo));
  }

  /** Stops the provider (`WSPCleanup`); its descriptors stay open. It starts again when it is used again. */
  [Symbol.dispose](): void {
    if (!this.#started) return;
    this.functions.WSPCleanup();
    this.#started = false;
  }

  /** Agrees on version 2.2, or on none. */
  #start(): ProviderFunctions {
    if (this.#started) return this.functions;
    const { functions } = this;
    const { wVersion } = functions.WSPStartup(
      SPI_VERSION,
      WSAPROTOCOL_INFOW.encode(this.protocolInfo),
      this.descriptors,
    );
    if (wVersion !== SPI_VERSION) {
      functions.WSPCleanup();
      const detail = `it speaks version ${wVersion & 0xff}.${wVersion >>> 8}, not 2.2`;
      throw spiError("WSAVERNOTSUPPORTED", "WSPStartup", "start a service provider", detail);
    }
    this.#started = true;
    return functions;
  }
}

/**
 * The functions of any provider, for layers above it and for native code.
 *
 * @experimental
 * @param provider Any provider. One without `socketSync` cannot open sockets this way (WSAEOPNOTSUPP).
 * @returns Its functions, not started.
 */
export function functionsOf(provider: ServiceProvider): ProviderFunctions {
  return provider instanceof TableProvider ? provider.functions : new ProviderAdapter(provider);
}
