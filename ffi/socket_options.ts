/**
 * Socket options by name: the types of their values, and the layout of the values in memory.
 *
 * @module
 */

import { BOOLEAN, check, integer, type Rule, shown, STRING } from "../internal/options.ts";

/**
 * The socket options that can be read and set by name, and the type of each value.
 *
 * The sockets of this library are already bound. Options that only take effect when a socket is bound are listed so
 * that they can be read; setting them has no effect any more.
 */
export interface SocketOptions {
  /** Send small segments at once instead of combining them (disables the Nagle algorithm). */
  TCP_NODELAY: boolean;
  /** Seconds that a connection must be idle before the first probe. Windows 10 version 1709 or newer. */
  TCP_KEEPIDLE: number;
  /** Seconds between two probes. Windows 10 version 1709 or newer. */
  TCP_KEEPINTVL: number;
  /** Number of unanswered probes after which the connection is ended. Windows 10 version 1703 or newer. */
  TCP_KEEPCNT: number;
  /** Probe an idle connection to detect that the peer is gone. */
  SO_KEEPALIVE: boolean;
  /**
   * Seconds for which closing may continue to deliver written data. 0 resets the connection instead; `null` delivers
   * without a time limit. At most 65 535. With a number, closing a descriptor blocks meanwhile.
   */
  SO_LINGER: number | null;
  /** Size of the receive buffer in bytes. Linux doubles the value that is set, and limits it. */
  SO_RCVBUF: number;
  /**
   * Size of the send buffer in bytes. Linux doubles the value that is set, and limits it. On macOS it is also the
   * longest datagram, 9216 bytes at first.
   */
  SO_SNDBUF: number;
  /**
   * Windows only: no other socket may bind the address. Read only, because it takes effect when the socket is bound.
   * `listen` sets it, and so does `listenDatagram` unless `reuseAddress` is given.
   */
  SO_EXCLUSIVEADDRUSE: boolean;
  /**
   * Bind to an address in use. Read only, because it takes effect when the socket is bound.
   *
   * * On Windows (since Server 2003) another socket can bind a port only if the first socket and the other one both set
   *   this option.
   * * On Linux a TCP socket can bind while earlier connections are still closing; `listen` sets it for that. Datagram
   *   sockets share an address if both set it.
   * * On macOS `listen` sets it for the same reason. An address is shared only for multicast, or beside a socket bound
   *   to all addresses.
   */
  SO_REUSEADDR: boolean;
  /**
   * Not on Windows: several sockets on one port. On Linux each receives a part of the traffic. Read only, because it
   * takes effect when the socket is bound.
   */
  SO_REUSEPORT: boolean;
  /** Allow datagrams to broadcast addresses. */
  SO_BROADCAST: boolean;
  /**
   * Milliseconds after which a blocking receive of another program that has the socket gives up; 0 for no limit. The
   * calls of this library do not block, and ignore it.
   */
  SO_RCVTIMEO: number;
  /**
   * Milliseconds after which a blocking send of another program that has the socket gives up; 0 for no limit. The calls
   * of this library do not block, and ignore it.
   */
  SO_SNDTIMEO: number;
  /** The Winsock code of the pending error, or 0. Reading it clears the error. Read only. */
  SO_ERROR: number;
  /** Number of routers that an IPv4 packet may pass, 1 to 255. */
  IP_TTL: number;
  /** Type of service of IPv4 packets, 0 to 255. Windows ignores it unless an administrator allows it. */
  IP_TOS: number;
  /**
   * Linux only: bind to an address that this host does not have yet. Read only, because it takes effect when the socket
   * is bound. The option `freeBind` sets it.
   */
  IP_FREEBIND: boolean;
  /** Number of routers that an IPv6 packet may pass, 0 to 255. */
  IPV6_UNICAST_HOPS: number;
  /** Traffic class of IPv6 packets, 0 to 255. */
  IPV6_TCLASS: number;
  /** IPv6 only: do not receive IPv4 traffic on `::`. Read only, because it takes effect when the socket is bound. */
  IPV6_V6ONLY: boolean;
  /** Address of the interface for outgoing IPv4 multicast. With `0.0.0.0` the system chooses. */
  IP_MULTICAST_IF: string;
  /**
   * Whether group members on this host receive the IPv4 multicast that this host sends. On Windows the option of the
   * receiver counts.
   */
  IP_MULTICAST_LOOP: boolean;
  /** Number of routers that an IPv4 multicast may pass, 0 to 255. Initially 1. */
  IP_MULTICAST_TTL: number;
  /** Index of the interface for outgoing IPv6 multicast. With 0 the system chooses. */
  IPV6_MULTICAST_IF: number;
  /**
   * Whether group members on this host receive the IPv6 multicast that this host sends. On Windows the option of the
   * receiver counts.
   */
  IPV6_MULTICAST_LOOP: boolean;
  /** Number of routers that an IPv6 multicast may pass, 0 to 255. Initially 1. */
  IPV6_MULTICAST_HOPS: number;
}

/** The level and number of an option in the headers of one system. */
export type OptionNumbers = readonly [level: number, optname: number];

/**
 * The numbers of every option in the headers of one system; `undefined` for an option that the system does not have.
 * Every system has SO_ERROR.
 */
export type OptionTable =
  & { readonly [Name in keyof SocketOptions]: OptionNumbers | undefined }
  & { readonly SO_ERROR: OptionNumbers };

type Kind = "boolean" | "number" | "linger" | "address" | "time";

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
  SO_RCVTIMEO: "time",
  SO_SNDTIMEO: "time",
  SO_ERROR: "number",
  IP_TTL: "number",
  IP_TOS: "number",
  IP_FREEBIND: "boolean",
  IPV6_UNICAST_HOPS: "number",
  IPV6_TCLASS: "number",
  IPV6_V6ONLY: "boolean",
  IP_MULTICAST_IF: "address",
  IP_MULTICAST_LOOP: "boolean",
  IP_MULTICAST_TTL: "number",
  IPV6_MULTICAST_IF: "number",
  IPV6_MULTICAST_LOOP: "boolean",
  IPV6_MULTICAST_HOPS: "number",
};

const LINGER = integer(0, 0xffff);
const RULES: Readonly<Record<Kind, Rule>> = {
  boolean: BOOLEAN,
  number: integer(0, 0x7fff_ffff),
  time: integer(0, 0x7fff_ffff),
  linger: {
    what: `${LINGER.what}, or null`,
    numeric: true,
    accepts: (value) => value === null || LINGER.accepts(value),
  },
  address: STRING,
};

const NAME: Rule = {
  what: "one of SocketOptions",
  accepts: (value) => typeof value === "string" && Object.hasOwn(KINDS, value),
};

/**
 * Checks the name of an option.
 *
 * @throws {TypeError} If there is no option of that name.
 */
export function checkOptionName(name: unknown): void {
  check("name", name, NAME);
}

/** `struct timeval`: the seconds, and the microseconds in the second half. */
const TIMEVAL_SIZE = 16;

/** The layout of option values in the memory of one system. */
export class OptionValues {
  readonly #lingerWidth: 2 | 4;
  readonly #hasTimeval: boolean;

  /**
   * @param lingerWidth The size of each member of `struct linger` in bytes.
   * @param hasTimeval Whether a time is a `struct timeval`. Otherwise it is a number of milliseconds.
   */
  constructor(lingerWidth: 2 | 4, hasTimeval: boolean) {
    this.#lingerWidth = lingerWidth;
    this.#hasTimeval = hasTimeval;
  }

  /** Returns the number of bytes to reserve for a value. */
  sizeOf(name: keyof SocketOptions): number {
    if (KINDS[name] === "linger") return 2 * this.#lingerWidth;
    return this.#hasTimeval && KINDS[name] === "time" ? TIMEVAL_SIZE : 4;
  }

  encode<Name extends keyof SocketOptions>(name: Name, value: SocketOptions[Name]): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.sizeOf(name));
    const view = new DataView(bytes.buffer);
    const put = (offset: number, number: number, width: number = 4) => {
      if (width === 2) view.setUint16(offset, number, true);
      else view.setInt32(offset, number, true);
    };
    check(name, value, RULES[KINDS[name]]);
    if (KINDS[name] === "address") bytes.set(parseIPv4(name, String(value)));
    else if (KINDS[name] === "time" && this.#hasTimeval) {
      const milliseconds = Number(value);
      view.setBigInt64(0, BigInt(Math.floor(milliseconds / 1_000)), true);
      put(8, milliseconds % 1_000 * 1_000);
    } else if (KINDS[name] !== "linger") put(0, Number(value));
    else if (value !== null) {
      put(0, 1, this.#lingerWidth);
      put(this.#lingerWidth, Number(value), this.#lingerWidth);
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
      case "time":
        // The kernel may round up to its own clock.
        if (this.#hasTimeval) return Number(view.getBigInt64(0, true)) * 1_000 + Math.round(get(8, 4) / 1_000);
        return get(0, 4);
      case "number":
        return get(0, 4);
      case "linger":
        return get(0, this.#lingerWidth) === 0 ? null : get(this.#lingerWidth, this.#lingerWidth);
      case "address":
        return bytes.subarray(0, 4).join(".");
    }
  }
}

function parseIPv4(name: keyof SocketOptions, text: string): number[] {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > 255)) {
    throw new TypeError(`Invalid \`${name}\`: must be an IPv4 address, got ${shown(text)}`);
  }
  return parts;
}
