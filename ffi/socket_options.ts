/**
 * Socket options by name: their types, and how a value stands in memory.
 *
 * @module
 */

/**
 * The socket options that can be read and set by name, with the type of their value.
 *
 * Sockets of this library are bound already. Options that matter when a socket is bound are there to be read: setting
 * them comes too late.
 */
export interface SocketOptions {
  /** Send small segments at once instead of gathering them (Nagle's algorithm off). */
  TCP_NODELAY: boolean;
  /** Seconds a connection must be idle before it is probed. Windows 10 version 1709 or newer. */
  TCP_KEEPIDLE: number;
  /** Seconds between two probes. Windows 10 version 1709 or newer. */
  TCP_KEEPINTVL: number;
  /** Probes without an answer after which the connection is given up. Windows 10 version 1703 or newer. */
  TCP_KEEPCNT: number;
  /** Probe an idle connection to notice that the peer is gone. */
  SO_KEEPALIVE: boolean;
  /**
   * Seconds for which closing may go on delivering what was written; 0 resets the connection instead; `null` delivers it
   * without limit. At most 65 535. Closing a descriptor blocks meanwhile where it is set.
   */
  SO_LINGER: number | null;
  /** Size of the receive buffer in bytes; Linux doubles what is set, and has a limit for it. */
  SO_RCVBUF: number;
  /**
   * Size of the send buffer in bytes; Linux doubles what is set, and has a limit for it. On macOS no datagram can be
   * longer, 9216 bytes at first.
   */
  SO_SNDBUF: number;
  /**
   * Windows only: no other socket may take the address over. To be read, for it counts at binding; `listen` sets it, and
   * so does `listenDatagram` unless `reuseAddress` is given.
   */
  SO_EXCLUSIVEADDRUSE: boolean;
  /**
   * Bind to an address in use. To be read, for it counts at binding. On Windows (since Server 2003) a port is taken over
   * only where the first socket set it too, and then by any other that sets it. On Linux a TCP socket binds past
   * connections that are still closing, for which `listen` sets it, and datagram sockets share an address if both have
   * it. On macOS `listen` sets it for the same, and an address is shared only for multicast, or beside a socket bound to
   * all addresses.
   */
  SO_REUSEADDR: boolean;
  /**
   * Not on Windows: several sockets on one port; on Linux each with a part of what arrives. To be read, for it counts at
   * binding.
   */
  SO_REUSEPORT: boolean;
  /** Allow sending datagrams to broadcast addresses. */
  SO_BROADCAST: boolean;
  /** IPv6 only: take no IPv4 traffic on `::`. To be read, for it counts at binding. */
  IPV6_V6ONLY: boolean;
  /** Address of the interface that IPv4 multicast leaves by; `0.0.0.0` lets the system choose. */
  IP_MULTICAST_IF: string;
  /** Whether this host's members of an IPv4 group get what is sent to it from here. On Windows the receiver says so. */
  IP_MULTICAST_LOOP: boolean;
  /** How many routers an IPv4 multicast may pass, 0 to 255; 1 at first. */
  IP_MULTICAST_TTL: number;
  /** Index of the interface that IPv6 multicast leaves by; 0 lets the system choose. */
  IPV6_MULTICAST_IF: number;
  /** Whether this host's members of an IPv6 group get what is sent to it from here. On Windows the receiver says so. */
  IPV6_MULTICAST_LOOP: boolean;
  /** How many routers an IPv6 multicast may pass, 0 to 255; 1 at first. */
  IPV6_MULTICAST_HOPS: number;
}

/** An option's level and number in one system's headers. */
export type OptionNumbers = readonly [level: number, optname: number];

/** The numbers of every option in one system's headers; `undefined` where it has no such option. */
export type OptionTable = { readonly [Name in keyof SocketOptions]: OptionNumbers | undefined };

type Kind = "boolean" | "number" | "linger" | "address";

const KINDS: { readonly [Name in keyof SocketOptions]: Kind } = {
  TCP_NODELAY: "boolean",
  TCP_KEEPIDLE: "number",
  TCP_KEEPINTVL: "number",
  TCP_KEEPCNT: "number",
  SO_KEEPALIVE: "boolean",
  SO_LINGER: "linger",
  SO_RCVBUF: "number",
  SO_SNDBUF: "number",
  SO_EXCLUSIVEADDRUSE: "boolean",
  SO_REUSEADDR: "boolean",
  SO_REUSEPORT: "boolean",
  SO_BROADCAST: "boolean",
  IPV6_V6ONLY: "boolean",
  IP_MULTICAST_IF: "address",
  IP_MULTICAST_LOOP: "boolean",
  IP_MULTICAST_TTL: "number",
  IPV6_MULTICAST_IF: "number",
  IPV6_MULTICAST_LOOP: "boolean",
  IPV6_MULTICAST_HOPS: "number",
};

const MOST = 0x7fff_ffff;
const MAX_LINGER = 0xffff;

/** How values stand in the memory of one system. */
export class OptionValues {
  readonly #lingerWidth: 2 | 4;

  /** @param lingerWidth Bytes of each member of `struct linger`. */
  constructor(lingerWidth: 2 | 4) {
    this.#lingerWidth = lingerWidth;
  }

  /** How many bytes the system is to be given room for. */
  sizeOf(name: keyof SocketOptions): number {
    return KINDS[name] === "linger" ? 2 * this.#lingerWidth : 4;
  }

  encode<Name extends keyof SocketOptions>(name: Name, value: SocketOptions[Name]): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.sizeOf(name));
    const view = new DataView(bytes.buffer);
    const put = (offset: number, number: number, width: number = 4) => {
      if (width === 2) view.setUint16(offset, number, true);
      else view.setInt32(offset, number, true);
    };
    if (KINDS[name] === "address") bytes.set(parseIPv4(String(value)));
    else if (KINDS[name] !== "linger") put(0, checked(name, Number(value), MOST));
    else if (value !== null) {
      put(0, 1, this.#lingerWidth);
      put(this.#lingerWidth, checked(name, Number(value), MAX_LINGER), this.#lingerWidth);
    }
    return bytes;
  }

  decode<Name extends keyof SocketOptions>(name: Name, bytes: Uint8Array<ArrayBuffer>): SocketOptions[Name] {
    return this.#decode(KINDS[name], bytes) as SocketOptions[Name];
  }

  #decode(kind: Kind, bytes: Uint8Array<ArrayBuffer>): boolean | number | string | null {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const get = (offset: number, width: number) =>
      width === 2 ? view.getUint16(offset, true) : view.getInt32(offset, true);
    switch (kind) {
      case "boolean":
        return get(0, 4) !== 0;
      case "number":
        return get(0, 4);
      case "linger":
        return get(0, this.#lingerWidth) === 0 ? null : get(this.#lingerWidth, this.#lingerWidth);
      case "address":
        return bytes.subarray(0, 4).join(".");
    }
  }
}

function checked(name: keyof SocketOptions, value: number, most: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw new RangeError(`Option ${name} cannot be ${value}: it is a whole number from 0 to ${most}`);
}

function parseIPv4(text: string): number[] {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > 255)) throw new TypeError(`"${text}" is no IPv4 address`);
  return parts;
}
