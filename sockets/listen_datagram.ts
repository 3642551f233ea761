/**
 * Making UDP sockets.
 *
 * @module
 */
import { systemCalls } from "../ffi/system.ts";
import { toAddress } from "./address.ts";
import { type DatagramSocket, ownDatagramSocket } from "./datagram_socket.ts";

/** Where {@linkcode listenDatagram} receives, in the shape of `Deno.UdpListenOptions`. */
export interface ListenDatagramOptions {
  /**
   * An IPv4 or IPv6 address, or `localhost` for 127.0.0.1; a scope behind it is a number (`fe80::1%3`).
   * Default `0.0.0.0`; `::` takes IPv4 datagrams too.
   */
  hostname?: string;
  /** The port; 0 lets the system choose one. */
  port: number;
  /**
   * Whether the address may be bound by several sockets that all allow it (`SO_REUSEADDR`), as members of a multicast
   * group on one host need it. A datagram for the address itself goes to any one of them. Default false.
   */
  reuseAddress?: boolean;
  /** Whether this host's members of a multicast group get what is sent to it from here. Default: as the system has it. */
  loopback?: boolean;
}

/**
 * Makes a UDP socket and binds it (`bind`).
 *
 * The port is this socket's alone unless `reuseAddress` is set (`SO_EXCLUSIVEADDRUSE` on Windows), and child processes do
 * not inherit it. Needs ffi access to the system's socket library, and no net permission.
 *
 * @example
 * ```ts
 * import { listenDatagram } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using socket = listenDatagram({ hostname: "127.0.0.1", port: 0 });
 * assertEquals(socket.addr.transport, "udp");
 * ```
 *
 * @param options Where.
 * @returns The socket; the caller's to close.
 * @throws {TypeError} If the hostname is no IP address, or has another scope than a number.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {WinsockError} WSAEADDRINUSE if the port is taken, WSAEACCES if it may not be used.
 */
export function listenDatagram(options: ListenDatagramOptions): DatagramSocket {
  const address = toAddress(options, "0.0.0.0");
  const socket = ownDatagramSocket(systemCalls().bindDatagram(address, options.reuseAddress ?? false));
  if (options.loopback === undefined) return socket;
  try {
    const option = address.hostname.includes(":") ? "IPV6_MULTICAST_LOOP" : "IP_MULTICAST_LOOP";
    socket.setOption(option, options.loopback);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}
