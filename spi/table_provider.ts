/**
 * Converts between a {@linkcode ServiceProvider} and a table of functions for layers and native code.
 *
 * @module
 */
import type { NativeArgument, PassedOnName } from "../ffi/platform.ts";
import { BYTES, check, checkDuplication, HANDLE, integer, MAX_UINT32, STRING } from "../internal/options.ts";
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

/** The functions of a base provider. Its descriptors and their options are those of the system. */
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
      throw spiError("WSAEOPNOTSUPP", "WSPSocket", operation, "the provider has to wait, and its caller cannot");
    }
    return this.#announce(this.#provider.socketSync(lpProtocolInfo, dwFlags), upcalls, catalogEntryId);
  }

  passOn(name: PassedOnName, args: readonly NativeArgument[]): number | bigint {
    const functionName = name.slice("lp".length);
    const operation = "use a socket for native code";
    const { upcalls, catalogEntryId } = this.#startups.current(functionName, operation);
    const { passOn } = providerCalls();
    if (passOn === undefined) {
      throw spiError("WSAEOPNOTSUPP", functionName, operation, "use the functions of the system");
    }
    const result = passOn(name, args);
    return name === "lpWSPAccept" ? this.#announce(result as bigint, upcalls, catalogEntryId) : result;
  }

  /** Announces a new descriptor to the caller. Closes it if that fails. */
  #announce(s: bigint, upcalls: Upcalls, catalogEntryId: number): bigint {
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

/** The most bytes of an option's value. */
const MAX_OPTION = 65_536;
const INT = integer(-(2 ** 31), 2 ** 31 - 1);

function checkOption(s: unknown, level: unknown, optname: unknown): void {
  check("s", s, HANDLE);
  check("level", level, INT);
  check("optname", optname, INT);
}

/**
 * Does for a provider what ws2_32 does for its providers. It starts the provider at first use and passes it the
 * structure of its catalog entry in each call. It stores the descriptors that the provider registers, and stops the
 * provider when it is disposed.
 *
 * {@linkcode ProviderCatalog.open} makes it for a chain and {@linkcode openNativeProvider} for native code. It needs
 * the permissions that they need.
 *
 * @experimental
 */
export class TableProvider implements ServiceProvider, Disposable {
  /** The catalog entry that the provider is used as; for a chain, that of the chain. */
  readonly protocolInfo: WSAPROTOCOL_INFOW;
  /** The functions of the provider. */
  readonly functions: ProviderFunctions;
  /** The descriptors that the provider has registered. */
  readonly descriptors: DescriptorTable;
  #started = false;

  /**
   * Makes the provider. No function is called before its first use.
   *
   * @param functions The functions of the provider.
   * @param protocolInfo The entry that it is used as.
   * @param descriptors The table that receives its upcalls. Defaults to a new table.
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
    checkDuplication(s, processId);
    const info = WSAPROTOCOL_INFOW.encode(this.protocolInfo);
    this.#start().WSPDuplicateSocket(s, processId, info);
    return info;
  }

  // deno-lint-ignore require-await -- the contract is asynchronous, the interface is not
  async socket(info: Uint8Array, flags?: number): Promise<bigint> {
    return this.socketSync(info, flags);
  }

  socketSync(info: Uint8Array, flags: number = DEFAULT_SOCKET_FLAGS): bigint {
    check("flags", flags, integer(0, MAX_UINT32));
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
    check("s", s, HANDLE);
    this.#start().WSPCloseSocket(s);
    this.descriptors.forget(s);
  }

  /**
   * Reads an option (`WSPGetSockOpt`), with the numbers of the system.
   *
   * @param s The socket.
   * @param level The level of the option.
   * @param optname The option.
   * @param size The most bytes of the value. Defaults to `4`, the size of an `int`.
   * @returns The value in memory order.
   * @throws {WinsockError} If the provider refuses, such as WSAENOTSOCK or WSAENOPROTOOPT.
   */
  getSockOpt(s: bigint, level: number, optname: number, size: number = 4): Uint8Array<ArrayBuffer> {
    checkOption(s, level, optname);
    check("size", size, integer(0, MAX_OPTION));
    const value = new Uint8Array(size);
    return value.subarray(0, this.#start().WSPGetSockOpt(s, level, optname, value));
  }

  /**
   * Sets an option (`WSPSetSockOpt`), with the numbers of the system.
   *
   * @param s The socket.
   * @param level The level of the option.
   * @param optname The option.
   * @param value The value in memory order.
   * @throws {WinsockError} If the provider refuses, such as WSAENOTSOCK or WSAENOPROTOOPT.
   */
  setSockOpt(s: bigint, level: number, optname: number, value: Uint8Array<ArrayBuffer>): void {
    checkOption(s, level, optname);
    check("value", value, BYTES);
    this.#start().WSPSetSockOpt(s, level, optname, value);
  }

  /**
   * Formats an address as text (`WSPAddressToString`), such as `127.0.0.1:80`.
   *
   * @param address A `sockaddr` in the format of the system.
   * @returns The text.
   * @throws {WinsockError} WSAEINVAL if it is not an address of the provider.
   */
  addressToString(address: Uint8Array<ArrayBuffer>): string {
    check("address", address, BYTES);
    return this.#start().WSPAddressToString(address, WSAPROTOCOL_INFOW.encode(this.protocolInfo));
  }

  /**
   * Parses an address (`WSPStringToAddress`).
   *
   * @param text The text, such as `127.0.0.1:80`.
   * @param family The address family, as a number of the system.
   * @returns A `sockaddr` in the format of the system.
   * @throws {WinsockError} WSAEINVAL if the text is not an address.
   */
  stringToAddress(text: string, family: number): Uint8Array<ArrayBuffer> {
    check("text", text, STRING);
    check("family", family, INT);
    return this.#start().WSPStringToAddress(text, family, WSAPROTOCOL_INFOW.encode(this.protocolInfo));
  }

  /** Stops the provider (`WSPCleanup`). Its descriptors stay open. The next use starts it again. */
  [Symbol.dispose](): void {
    if (!this.#started) return;
    this.functions.WSPCleanup();
    this.#started = false;
  }

  /** Starts the provider. Fails unless it supports version 2.2. */
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
      const detail = `it uses version ${wVersion & 0xff}.${wVersion >>> 8}, not 2.2`;
      throw spiError("WSAVERNOTSUPPORTED", "WSPStartup", "start a service provider", detail);
    }
    this.#started = true;
    return functions;
  }
}

/**
 * Returns the functions of any provider, for layers above it and for native code.
 *
 * @experimental
 * @param provider Any provider. One without `socketSync` cannot open sockets this way (WSAEOPNOTSUPP).
 * @returns Its functions, not started.
 */
export function functionsOf(provider: ServiceProvider): ProviderFunctions {
  return provider instanceof TableProvider ? provider.functions : new ProviderAdapter(provider);
}
