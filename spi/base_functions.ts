/**
 * A {@linkcode ServiceProvider} as layers and native code see it.
 *
 * @module
 */
import { providerCalls } from "../ffi/system.ts";
import type { WSPDATA } from "../structs/startup_data.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { type ProviderFunctions, SPI_VERSION, type Upcalls } from "./provider_functions.ts";
import type { ServiceProvider } from "./service_provider.ts";
import { spiError } from "./spi_error.ts";
import { checkVersion, Startups } from "./startups.ts";

/** A base provider's functions; its descriptors are the system's, and so are their options. */
export class BaseFunctions implements ProviderFunctions {
  readonly #provider: ServiceProvider;
  readonly #startups = new Startups<{ upcalls: Upcalls; catalogEntryId: number }>();

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
    if (this.#provider.socketNow === undefined) {
      throw spiError("WSAEOPNOTSUPP", "WSPSocket", operation, "the provider must wait, and its caller cannot");
    }
    const s = this.#provider.socketNow(lpProtocolInfo, dwFlags);
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
