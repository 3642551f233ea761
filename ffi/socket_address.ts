/**
 * Socket addresses: as the kernel takes and returns them, and as callers write them.
 *
 * @module
 */
import { SOCKADDR_IN, SOCKADDR_IN6 } from "../structs/sockaddr.ts";

/** An IP address and a port. */
export interface InternetAddress {
  readonly hostname: string;
  readonly port: number;
}

/** The address of a local socket: a file, or behind a NUL an abstract name. */
interface LocalAddress {
  readonly path: string;
}

/** What a socket can be bound or connected to. */
export type SocketAddress = InternetAddress | LocalAddress;

/** Both libraries' functions for addresses. */
export interface AddressFunctions {
  inet_pton(family: number, text: BufferSource, address: BufferSource): number;
  inet_ntop(family: number, address: BufferSource, text: BufferSource, size: number): bigint;
}

/** How a system's addresses begin, and what names its local sockets can have. */
interface AddressFormat {
  /** Whether they begin with their length, as in 4.4BSD: one byte, and one for the family, instead of two for it. */
  readonly lengthPrefixed: boolean;
  /** Whether local sockets can have names that are no files. */
  readonly abstractNames: boolean;
}

export const AF_UNIX = 1;
export const AF_INET = 2;
/** Room for any address: SOCKADDR_STORAGE. */
export const ADDRESS_SIZE = 128;
const TEXT_SIZE = 64;
const readIpv4 = SOCKADDR_IN.reader("sin_addr");
const readPort = SOCKADDR_IN.reader("sin_port");
const LAST_SCOPE = 0xffffffff;
/** An IPv6 address, and behind it the number of its scope. */
const SCOPED = /^([^%]*:[^%]*)%(\d{1,10})$/;

/** An address in words, for errors. */
export function describeAddress(address: SocketAddress): string {
  if ("path" in address) return address.path.replace(/^\0/, "@");
  return `${address.hostname} port ${address.port}`;
}

/** The address family at the beginning of an address; 0 if the address is too short to have one. */
export function readFamily(name: Uint8Array, lengthPrefixed: boolean): number {
  const second = name[1] ?? 0;
  return lengthPrefixed ? second : (name[0] ?? 0) | second << 8;
}

/** Begins an address with its family. */
export function writeFamily(name: Uint8Array, family: number, lengthPrefixed: boolean): void {
  name[0] = lengthPrefixed ? name.byteLength : family;
  name[1] = lengthPrefixed ? family : 0;
}

/** Encodes and decodes one system's addresses. */
export class AddressCodec {
  constructor(
    readonly functions: AddressFunctions,
    readonly AF_INET6: number,
    readonly format: AddressFormat = { lengthPrefixed: false, abstractNames: true },
  ) {}

  /** The family a hostname belongs to. */
  familyOf(hostname: string): number {
    return hostname.includes(":") ? this.AF_INET6 : AF_INET;
  }

  /**
   * The bytes of an IP address, in network order: 4, or 16 and the number of its scope.
   *
   * @throws {TypeError} If it is none; a scope's name is no number.
   */
  parse(hostname: string): { address: Uint8Array<ArrayBuffer>; scope: number } {
    const [, text = hostname, digits = "0"] = SCOPED.exec(hostname) ?? [];
    const family = this.familyOf(text);
    const address = new Uint8Array(family === AF_INET ? 4 : 16);
    const parsed = this.functions.inet_pton(family, new TextEncoder().encode(`${text}\0`), address);
    const scope = Number(digits);
    if (parsed !== 1 || text.includes("%") || scope > LAST_SCOPE) {
      throw new TypeError(`"${hostname}" is no IP address`);
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

  /** Whether it is none, or of no family (AF_UNSPEC). */
  isUnspecified(name: Uint8Array<ArrayBuffer>): boolean {
    return name.byteLength < 2 || readFamily(name, this.format.lengthPrefixed) === 0;
  }

  /** @param name As much of it as the kernel has filled in. */
  decode(name: Uint8Array<ArrayBuffer>): Deno.NetAddr | Deno.UnixAddr {
    if (readFamily(name, this.format.lengthPrefixed) === AF_UNIX) {
      return { transport: "unix", path: this.#path(name.subarray(2)) };
    }
    return this.decodeInternet(name, "tcp");
  }

  /** An address of the Internet families. */
  decodeInternet(name: Uint8Array<ArrayBuffer>, transport: Deno.NetAddr["transport"]): Deno.NetAddr {
    const family = readFamily(name, this.format.lengthPrefixed);
    if (family === AF_INET) {
      const address = name.subarray(0, SOCKADDR_IN.size);
      return { transport, hostname: readIpv4(address).join("."), port: readPort(address) };
    }
    if (family === this.AF_INET6) {
      const { sin6_port, sin6_addr, sin6_scope_id } = SOCKADDR_IN6.decode(name.subarray(0, SOCKADDR_IN6.size));
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

  /** A file's name ends at a NUL; an abstract one begins with it; a socket that was not bound has none. */
  #path(path: Uint8Array): string {
    const end = this.format.abstractNames && path[0] === 0 ? path.byteLength : path.indexOf(0);
    return new TextDecoder().decode(end === -1 ? path : path.subarray(0, end));
  }
}

/** What a socket's address can be: of TCP or UDP, or except on Windows of a local socket. */
export type SocketAddr = Deno.NetAddr | Deno.UnixAddr;

/** `[::1]`, as URLs have it. */
const BRACKETED = /^\[([^\]]*:[^\]]*)\]$/;

/**
 * An address with its defaults filled in and its port checked, as Deno reads it: an IPv6 address may be in brackets, and a
 * port may be a text of digits.
 *
 * @param defaultPort Where the port may be left out, which is used then.
 * @throws {TypeError} If the port is not an integer.
 * @throws {RangeError} If it is not between 0 and 65535.
 */
export function toAddress(
  { hostname, port }: { hostname?: string; port?: number | undefined },
  defaultHostname: string,
  defaultPort?: number,
): { hostname: string; port: number } {
  const [, host = hostname ?? defaultHostname] = BRACKETED.exec(hostname ?? "") ?? [];
  return { hostname: host === "localhost" ? "127.0.0.1" : host, port: toPort(port ?? defaultPort) };
}

function toPort(port: unknown): number {
  const number = typeof port === "number" || typeof port === "string" && port.trim() !== "" ? Number(port) : NaN;
  const shown = typeof port === "string" ? `"${port}"` : port;
  const message = `Invalid \`port\`: must be an integer from 0 to 65535, got ${shown}`;
  if (!Number.isInteger(number)) throw new TypeError(message);
  if (number < 0 || number > 65_535) throw new RangeError(message);
  return number;
}
