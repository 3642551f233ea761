/**
 * What service providers ask of a system beyond sockets themselves: one interface, implemented on ws2_32 and on libc.
 *
 * @module
 */

/** Event objects, where the system has them. */
export interface EventCalls {
  /** `WSACreateEvent`: an event that is not signalled. */
  create(): bigint;
  /** `WSASetEvent` */
  set(event: bigint): void;
  /** `WSAResetEvent` */
  reset(event: bigint): void;
  /** `WSACloseEvent` */
  close(event: bigint): void;
}

/** The system's own catalogue of service providers, where it has one. */
export interface CatalogCalls {
  /** `WSCEnumProtocols`: the entries, 628 bytes each, in the catalogue's order; layers and chains among them. */
  entries(): Uint8Array<ArrayBuffer>[];
  /** `WSCGetProviderPath`: the library of the provider with this GUID, of 16 bytes; `undefined` if it has none. */
  providerPath(providerId: Uint8Array<ArrayBuffer>): string | undefined;
  /** `WSAIoctl` with `SIO_BASE_HANDLE`: the base provider's handle under a socket. */
  baseHandle(s: bigint): bigint;
}

/** Calls on descriptors and addresses that throw a {@linkcode WinsockError}. Levels, options and families are the system's numbers. */
export interface ProviderCalls {
  /** One more descriptor of the same socket in this process, not inherited by children. */
  duplicate(s: bigint): bigint;
  /** `getsockopt` as it is: fills `optval` and returns how many bytes of it were used. */
  getOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number;
  /** `setsockopt` as it is. */
  setOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void;
  /** `WSAAddressToString`: `127.0.0.1:80`, `[fe80::1%2]:80`; without a port, the address alone. */
  addressToString(address: Uint8Array<ArrayBuffer>): string;
  /** `WSAStringToAddress`: the address a text like those is about, as the system keeps it. */
  stringToAddress(text: string, family: number): Uint8Array<ArrayBuffer>;
  /**
   * Whether a `WSPStartup`, by the path of its library or its own address, is a placeholder of Wine's: calling it would
   * end the process.
   */
  isPlaceholder(code: string | bigint): boolean;
  /** Event objects; none on a system without. */
  readonly events: EventCalls | undefined;
  /** The catalogue; none on a system without. */
  readonly catalog: CatalogCalls | undefined;
}
