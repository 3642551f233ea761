/**
 * Socket addresses, in the form that the kernel uses and in the form that callers use.
 *
 * @module
 */
import { check, shown, STRING } from "../internal/options.ts";
import { untilAborted } from "../internal/runtime.ts";
import { SOCK } from "../structs/constants.ts";
import { SOCKADDR_IN, SOCKADDR_IN6 } from "../structs/sockaddr.ts";
import type { WinsockError } from "./winsock_error.ts";

/** An IP address and a port. */
export interface InternetAddress {
  readonly hostname: string;
  readonly port: number;
}

/** The address of a local socket: the path of a file, or a NUL followed by an abstract name. */
interface LocalAddress {
  readonly path: string;
}

/** An address that a socket can be bound or connected to. */
export type SocketAddress = InternetAddress | LocalAddress;

/** The address functions of both libraries. */
export interface AddressFunctions {
  inet_pton(family: number, text: BufferSource, address: BufferSource): number;
  inet_ntop(family: number, address: BufferSource, text: BufferSource, size: number): bigint;
}

/** The format of the addresses of a system, and the names that its local sockets can have. */
interface AddressFormat {
  /**
   * Whether an address begins with its length, as in 4.4BSD: one byte, followed by one byte for the family. Otherwise
   * the family has two bytes.
   */
  readonly lengthPrefixed: boolean;
  /** Whether local sockets can have abstract names, which are not files. */
  readonly abstractNames: boolean;
}

export const AF_UNIX = 1;
export const AF_INET = 2;
/** The size of SOCKADDR_STORAGE, which has room for any address. */
export const ADDRESS_SIZE = 128;
const TEXT_SIZE = 64;
const LAST_SCOPE = 0xffffffff;
/** An IPv6 address, followed by the number of its scope. */
const SCOPED = /^([^%]*:[^%]*)%(\d{1,10})$/;

/** Formats an address for errors. */
export function describeAddress(address: SocketAddress): string {
  if ("path" in address) return address.path.replace(/^\0/, "@");
  return `${address.hostname} port ${address.port}`;
}

/** Reads the address family at the beginning of an address. Returns 0 if the address is too short. */
export function readFamily(name: Uint8Array, lengthPrefixed: boolean): number {
  const second = name[1] ?? 0;
  return lengthPrefixed ? second : (name[0] ?? 0) | second << 8;
}

/** Writes the family at the beginning of an address. */
export function writeFamily(name: Uint8Array, family: number, lengthPrefixed: boolean): void {
  name[0] = lengthPrefixed ? name.byteLength : family;
  name[1] = lengthPrefixed ? family : 0;
}

/** Encodes and decodes the addresses of one system. */
export class AddressCodec {
  constructor(
    readonly functions: AddressFunctions,
    readonly AF_INET6: number,
    readonly format: AddressFormat = { lengthPrefixed: false, abstractNames: true },
  ) {}

  /** Returns the address family of a hostname. */
  familyOf(hostname: string): number {
    return hostname.includes(":") ? this.AF_INET6 : AF_INET;
  }

  /**
   * Parses an IP address into its bytes in network order: 4 bytes, or 16 bytes and the number of the scope.
   *
   * @param hostname The text.
   * @param name The name of the option that has it, for the error. Defaults to `hostname`.
   * @throws {TypeError} If the text is not an IP address. A scope must be a number, not a name.
   */
  parse(hostname: string, name: string = "hostname"): { address: Uint8Array<ArrayBuffer>; scope: number } {
    const [, text = hostname, digits = "0"] = SCOPED.exec(hostname) ?? [];
    const family = this.familyOf(text);
    const address = new Uint8Array(family === AF_INET ? 4 : 16);
    const parsed = this.functions.inet_pton(family, new TextEncoder().encode(`${text}\0`), address);
    const scope = Number(digits);
    if (parsed !== 1 || text.includes("%") || scope > LAST_SCOPE) {
      throw new TypeError(`Invalid \`${name}\`: must be an IP address, got ${shown(hostname)}`);
    }
    return { address, scope };
  }

  encode(address: InternetAddress): Uint8Array<ArrayBuffer> {
    const family = this.familyOf(address.hostname);
    const name = this.#encode(address, family);
    writeFamily(name, family, this.format.lengthPrefixed);
    return name;
  }

  #encode({ hostname, port }: InternetAddress, family: number): Uint8Array<ArrayBuffer> {
    const { address, scope } = this.parse(hostname);
    if (family === AF_INET) {
      return SOCKADDR_IN.encode({ sin_family: family, sin_port: port, sin_addr: address, sin_zero: new Uint8Array(8) });
    }
    return SOCKADDR_IN6.encode({
      sin6_family: family,
      sin6_port: port,
      sin6_flowinfo: 0,
      sin6_addr: address,
      sin6_scope_id: scope,
    });
  }

  /** Returns whether there is no address, or one without a family (AF_UNSPEC). */
  isUnspecified(name: Uint8Array<ArrayBuffer>, length: number): boolean {
    return length < 2 || readFamily(name, this.format.lengthPrefixed) === 0;
  }

  /**
   * Decodes the address at the beginning of a buffer.
   *
   * @param length The length of the address. Defaults to the whole buffer. A view of that length would cost more than the rest.
   */
  decode(name: Uint8Array<ArrayBuffer>, length = name.byteLength): Deno.NetAddr | Deno.UnixAddr {
    if (readFamily(name, this.format.lengthPrefixed) === AF_UNIX) {
      return { transport: "unix", path: this.#path(name.slice(2, length)) };
    }
    return this.decodeInternet(name, "tcp");
  }

  /** Decodes the address of the sender of a datagram. A local socket that is not bound has an empty path. */
  decodeSender(name: Uint8Array<ArrayBuffer>, length: number): Deno.NetAddr | Deno.UnixAddr {
    if (!this.isUnspecified(name, length) && readFamily(name, this.format.lengthPrefixed) !== AF_UNIX) {
      return this.decodeInternet(name, "udp");
    }
    return { transport: "unixpacket", path: this.#path(name.slice(2, length)) };
  }

  /** Decodes an address of the Internet families, at the beginning of a buffer. */
  decodeInternet(name: Uint8Array<ArrayBuffer>, transport: Deno.NetAddr["transport"]): Deno.NetAddr {
    const family = readFamily(name, this.format.lengthPrefixed);
    if (family === AF_INET) {
      // Every new connection has two addresses, and the codec of the structure takes ten times as long.
      return { transport, hostname: `${name[4]}.${name[5]}.${name[6]}.${name[7]}`, port: name[2]! << 8 | name[3]! };
    }
    if (family === this.AF_INET6) {
      const { sin6_port, sin6_addr, sin6_scope_id } = SOCKADDR_IN6.decode(name.slice(0, SOCKADDR_IN6.size));
      const scope = sin6_scope_id === 0 ? "" : `%${sin6_scope_id}`;
      return { transport, hostname: this.#text(family, sin6_addr) + scope, port: sin6_port };
    }
    throw new RangeError(`Address family ${family} is neither IPv4 nor IPv6`);
  }

  #text(family: number, address: Uint8Array): string {
    const text = new Uint8Array(TEXT_SIZE);
    this.functions.inet_ntop(family, address as Uint8Array<ArrayBuffer>, text, TEXT_SIZE);
    return new TextDecoder().decode(text.subarray(0, text.indexOf(0)));
  }

  /**
   * Decodes the path of a local socket. The name of a file ends at a NUL, an abstract name begins with one, and an
   * unbound socket has no name.
   */
  #path(path: Uint8Array): string {
    const end = this.format.abstractNames && path[0] === 0 ? path.byteLength : path.indexOf(0);
    return new TextDecoder().decode(end === -1 ? path : path.subarray(0, end));
  }
}

/** The functions of a system that look up the addresses of a host, and the layout of their result. */
export interface HostLookup {
  /** The offset of `ai_addr` in `struct addrinfo`. */
  readonly addressOffset: number;
  /**
   * Calls `getaddrinfo` on a pool thread, and writes the address of the list of results to `list`.
   *
   * @returns 0, or the number of the error.
   */
  find(hostname: string, hints: Uint8Array<ArrayBuffer>, list: BigUint64Array<ArrayBuffer>): Promise<number>;
  /** The same on the calling thread. */
  findNow(hostname: string, hints: Uint8Array<ArrayBuffer>, list: BigUint64Array<ArrayBuffer>): number;
  /** Copies from native memory. */
  copyOut(target: Uint8Array<ArrayBuffer>, address: bigint): void;
  /** Calls `freeaddrinfo`. */
  free(list: bigint): void;
  /** Makes the error for a number that `find` returned. */
  error(code: number, operation: string): WinsockError;
}

/** `struct addrinfo`: `ai_family` is at 4, `ai_socktype` at 8, `ai_addrlen` at 16 and `ai_next` at the end. */
const ADDRINFO_SIZE = 48;
/** The most lookups at a time. Each holds a pool thread, for many seconds if no name server answers. */
const MAX_LOOKUPS = 4;
let lookups = 0;
const waitingLookups: (() => void)[] = [];

/**
 * Looks up the IP addresses of a host, in the order of preference of the system.
 *
 * @param hostname The name of the host.
 * @param lookup The functions of the system.
 * @param addresses The codec for its addresses.
 * @param signal Ends the wait when it is aborted. The lookup itself cannot be ended, and continues.
 * @throws {WinsockError} If the name cannot be resolved.
 * @throws The reason of the signal, if it is aborted first.
 */
export async function lookUpHost(
  hostname: string,
  lookup: HostLookup,
  addresses: AddressCodec,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  signal?.throwIfAborted();
  return await untilAborted(findHost(hostname, lookup, addresses, signal), signal);
}

async function findHost(
  hostname: string,
  lookup: HostLookup,
  addresses: AddressCodec,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (lookups === MAX_LOOKUPS) await new Promise<void>((resolve) => waitingLookups.push(resolve));
  else lookups++;
  try {
    if (signal?.aborted) return [];
    const list = new BigUint64Array(1);
    return takeAddresses(hostname, await lookup.find(hostname, lookupHints(), list), list, lookup, addresses);
  } finally {
    const next = waitingLookups.shift();
    if (next === undefined) lookups--;
    else next();
  }
}

/**
 * Looks up the IP addresses of a host as {@linkcode lookUpHost} does, but blocks the calling thread.
 *
 * @throws {WinsockError} If the name cannot be resolved.
 */
export function lookUpHostNow(hostname: string, lookup: HostLookup, addresses: AddressCodec): string[] {
  const list = new BigUint64Array(1);
  return takeAddresses(hostname, lookup.findNow(hostname, lookupHints(), list), list, lookup, addresses);
}

function lookupHints(): Uint8Array<ArrayBuffer> {
  const hints = new Uint8Array(ADDRINFO_SIZE);
  hints[8] = SOCK.SOCK_STREAM;
  return hints;
}

/** Returns the addresses of a lookup, and frees its list. */
function takeAddresses(
  hostname: string,
  code: number,
  list: BigUint64Array<ArrayBuffer>,
  lookup: HostLookup,
  addresses: AddressCodec,
): string[] {
  if (code !== 0) throw lookup.error(code, `resolve the name "${hostname}"`);
  try {
    return [...addressesIn(list[0]!, lookup, addresses)];
  } finally {
    lookup.free(list[0]!);
  }
}

/** Yields the IP addresses of a list of `struct addrinfo`. */
function* addressesIn(list: bigint, lookup: HostLookup, addresses: AddressCodec): Generator<string, void, void> {
  const entry = new Uint8Array(ADDRINFO_SIZE);
  const view = new DataView(entry.buffer);
  for (let next = list; next !== 0n; next = view.getBigUint64(ADDRINFO_SIZE - 8, true)) {
    lookup.copyOut(entry, next);
    const family = view.getInt32(4, true);
    if (family !== AF_INET && family !== addresses.AF_INET6) continue;
    const name = new Uint8Array(Math.min(view.getUint32(16, true), ADDRESS_SIZE));
    lookup.copyOut(name, view.getBigUint64(lookup.addressOffset, true));
    yield addresses.decodeInternet(name, "tcp").hostname;
  }
}

/** The address of a socket: of TCP or UDP, or of a local socket (not on Windows). */
export type SocketAddr = Deno.NetAddr | Deno.UnixAddr;

/** Returns whether a hostname is an IP address, valid or not. Otherwise it is a name. */
export function isAddress(hostname: string): boolean {
  return hostname.includes(":") || /^\d+\.\d+\.\d+\.\d+(%.*)?$/.test(hostname);
}

/**
 * Checks that a hostname can be looked up.
 *
 * @throws {TypeError} If it is empty, or contains a NUL.
 */
export function checkName(hostname: string): void {
  if (hostname !== "" && !hostname.includes("\0")) return;
  throw new TypeError(`Invalid \`hostname\`: must be a name or an IP address, got ${shown(hostname)}`);
}

/** An IPv6 address in brackets, as in URLs: `[::1]`. */
const BRACKETED = /^\[([^\]]*:[^\]]*)\]$/;

/**
 * Fills in the defaults of an address and checks its port, as Deno does: an IPv6 address may be in brackets, and a port
 * may be a string of digits.
 *
 * @param defaultPort The port to use if the address has none. Without it the port is required.
 * @throws {TypeError} If the hostname is not a string, or the port is not an integer.
 * @throws {RangeError} If the port is not between 0 and 65535.
 */
export function toAddress(
  { hostname, port }: { hostname?: string; port?: number | undefined },
  defaultHostname: string,
  defaultPort?: number,
): { hostname: string; port: number } {
  if (hostname !== undefined) check("hostname", hostname, STRING);
  const [, host = hostname ?? defaultHostname] = BRACKETED.exec(hostname ?? "") ?? [];
  return { hostname: host === "localhost" ? "127.0.0.1" : host, port: toPort(port === undefined ? defaultPort : port) };
}

function toPort(port: unknown): number {
  const number = typeof port === "number" || typeof port === "string" && port.trim() !== "" ? Number(port) : NaN;
  const message = `Invalid \`port\`: must be an integer from 0 to 65535, got ${shown(port)}`;
  if (!Number.isInteger(number)) throw new TypeError(message);
  if (number < 0 || number > 65_535) throw new RangeError(message);
  return number;
}
