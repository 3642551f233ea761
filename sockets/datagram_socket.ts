/**
 * The class `DatagramSocket` and the function `listenDatagram`.
 *
 * @module
 */
import {
  BOOLEAN,
  BYTES,
  check,
  checkOptions,
  HANDLE,
  integer,
  MAX_UINT32,
  OBJECT,
  shown,
  STRING,
} from "../internal/options.ts";
import type { Datagram, DatagramReceiver } from "../ffi/nonblocking_io.ts";
import { type SocketMaker, toBindOptions } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { asDeno } from "../ffi/winsock_error.ts";
import { Descriptor, SocketWithOptions } from "./descriptor.ts";
import {
  checkName,
  type InternetAddress,
  isAddress,
  type SocketAddr,
  type SocketAddress,
  toAddress,
} from "../ffi/socket_address.ts";
import { addressToBind, transportOf } from "./listener.ts";

/** Receives datagrams on a socket that is open, while receiving is not paused or finished. */
class PausableReceiver {
  readonly #descriptor: Descriptor;
  #referenced = true;
  #receiver: DatagramReceiver | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** While receiving is paused: resolves when receiving is resumed. */
  #paused: PromiseWithResolvers<void> | undefined;
  #finished = false;

  constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
  }

  /** Whether more datagrams can be received. */
  get open(): boolean {
    return this.#descriptor.open && !this.#finished;
  }

  /** Whether a pending receive keeps the process running. It does at first. */
  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    if (this.#receiver !== undefined) this.#receiver.referenced = referenced;
  }

  /** Returns the next datagram, in the order of the calls; `undefined` when no more will be received. */
  next(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined> {
    const next = this.#last.then(() => this.#receive(buffer));
    this.#last = next.catch(() => {});
    return next;
  }

  /** Pauses receiving. Resolves when no receive is in progress. */
  async pause(): Promise<void> {
    this.#paused ??= Promise.withResolvers();
    await this.#stop();
  }

  resume(): void {
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  /** Ends receiving permanently. Resolves when no receive is in progress. */
  async finish(): Promise<void> {
    this.#finished = true;
    this.resume();
    await this.#stop();
  }

  async #receive(buffer: Uint8Array<ArrayBuffer> | undefined): Promise<Datagram | undefined> {
    while (this.open) {
      if (this.#paused !== undefined) {
        await this.#paused.promise;
        continue;
      }
      const datagram = await this.#descriptor.wait((s) => this.#openReceiver(s).receive(buffer));
      if (datagram !== undefined) return datagram;
    }
    return undefined;
  }

  #openReceiver(s: bigint): DatagramReceiver {
    if (this.#receiver !== undefined) return this.#receiver;
    this.#receiver = systemCalls().receiver(s);
    this.#receiver.referenced = this.#referenced;
    return this.#receiver;
  }

  async #stop(): Promise<void> {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    await receiver?.stop();
  }
}

/** Membership in an IPv4 multicast group, in the shape of Deno's membership objects. */
export interface MulticastV4Membership {
  /**
   * Leaves the group.
   *
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.AddrNotAvailable} If the socket is not a member; on Windows it may be a
   * {@linkcode WinsockError}.
   */
  leave(): Promise<void>;
  /**
   * Sets whether members on this host get the datagrams that this socket sends (`IP_MULTICAST_LOOP`). This applies to
   * all groups. On Windows the setting of the receiving socket applies.
   *
   * @param loopback Whether members on this host get the datagrams.
   */
  setLoopback(loopback: boolean): Promise<void>;
  /**
   * Sets the number of routers that a datagram from this socket may pass (`IP_MULTICAST_TTL`). This applies to all
   * groups.
   *
   * @param ttl The number, 0 to 255. It is 1 at first: routers do not forward the datagram.
   */
  setTTL(ttl: number): Promise<void>;
}

/** Membership in an IPv6 multicast group, in the shape of Deno's membership objects. */
export interface MulticastV6Membership {
  /**
   * Leaves the group.
   *
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.AddrNotAvailable} If the socket is not a member; on Windows it may be a
   * {@linkcode WinsockError}.
   */
  leave(): Promise<void>;
  /**
   * Sets whether members on this host get the datagrams that this socket sends (`IPV6_MULTICAST_LOOP`). This applies to
   * all groups. On Windows the setting of the receiving socket applies.
   *
   * @param loopback Whether members on this host get the datagrams.
   */
  setLoopback(loopback: boolean): Promise<void>;
}

/** Makes the {@linkcode DatagramSocket} that owns a descriptor which the system has just made. */
export let ownDatagramSocket: <A extends SocketAddr = Deno.NetAddr>(
  handle: bigint,
  maker?: SocketMaker,
) => DatagramSocket<A>;

/** Milliseconds between attempts to send to a local socket whose queue is full: there is no event for when that changes. */
const SEND_DELAY_MS = 2;

/**
 * A bound UDP socket, or on Linux and macOS a local datagram socket, in the shape of `Deno.DatagramConn`. The object owns
 * its descriptor, as {@linkcode Socket} does.
 *
 * If several processes have the socket, each datagram goes to one of the processes that are receiving at the time.
 * Which one is not defined. While no process receives, the system keeps the datagrams that `SO_RCVBUF` has room for.
 * Therefore, receive in one process only, or in processes that can each answer any datagram.
 *
 * A host can answer an earlier datagram with an error, such as for a port that is not in use (WSAECONNRESET on
 * Windows). Such errors are skipped, and receiving continues. Sending and receiving do not block the event loop. On
 * Windows the socket is non-blocking for every process that shares it. A pending receive keeps the process running.
 *
 * Needs ffi access to the system's socket library, and no net permission.
 *
 * @example Sending and receiving
 * ```ts
 * import { listenDatagram } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using server = listenDatagram({ hostname: "127.0.0.1", port: 0 });
 * using client = listenDatagram({ hostname: "127.0.0.1", port: 0 });
 * await client.send(new TextEncoder().encode("hello"), server.addr);
 * const [data, sender] = await server.receive();
 * assertEquals([new TextDecoder().decode(data), sender.port], ["hello", client.addr.port]);
 * ```
 *
 * @typeParam A The type of its addresses: `Deno.NetAddr` for UDP, or `Deno.UnixAddr`.
 */
export class DatagramSocket<A extends SocketAddr = Deno.NetAddr> extends SocketWithOptions
  implements AsyncIterable<[Uint8Array<ArrayBuffer>, A]>, Disposable {
  readonly #descriptor: Descriptor;
  readonly #inlet: PausableReceiver;
  /** The address when the object was made. */
  readonly #addr: A;
  #isIPv6: boolean | undefined;

  private constructor(descriptor: Descriptor) {
    super();
    this.#descriptor = descriptor;
    this.#inlet = new PausableReceiver(descriptor);
    const addr = descriptor.useFirst((s) => {
      const calls = systemCalls();
      const addr = calls.localAddress(s);
      calls.unblock(s);
      return addr;
    });
    this.#addr = { ...addr, transport: "path" in addr ? "unixpacket" : "udp" } as A;
  }

  /**
   * Takes ownership of the descriptor of a datagram socket: a SOCKET on Windows, a file descriptor on other systems. On
   * Windows the socket becomes non-blocking for every process that shares it. The file of a local socket stays when the
   * socket is closed, because the program that made the file may still use it.
   *
   * @param handle The descriptor. It is unchanged if this throws.
   * @returns The socket that owns the descriptor. The type parameter is not checked.
   * @throws {TypeError} If it is a stream socket, or if another object of this process owns it.
   * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket, WSAEINVAL on Windows if it is not bound.
   */
  static fromHandle<A extends SocketAddr = Deno.NetAddr>(handle: bigint): DatagramSocket<A> {
    check("handle", handle, HANDLE);
    const kind = systemCalls().kind(handle, `take over socket ${handle}`);
    if (kind !== "datagram") {
      throw new TypeError(`Cannot take over socket ${handle}: it is a ${kind}, not a datagram socket`);
    }
    return new DatagramSocket(Descriptor.adopt(handle));
  }

  static {
    ownDatagramSocket = (handle, maker) => {
      const descriptor = Descriptor.own(handle, maker);
      const socket = new DatagramSocket<SocketAddr>(descriptor);
      const { addr } = socket;
      if ("path" in addr) descriptor.path = addr.path;
      // deno-lint-ignore no-explicit-any -- the caller is responsible for the type of address
      return socket as DatagramSocket<any>;
    };
  }

  /** The descriptor. `INVALID_SOCKET` (all 64 bits set) after the object has closed or released it. */
  get handle(): bigint {
    return this.#descriptor.handle;
  }

  /**
   * The address and port, or the path, that the socket is bound to (`getsockname`). It stays available after the socket
   * is closed or released.
   */
  get addr(): A {
    return this.#addr;
  }

  /**
   * Sends one datagram (`sendto`). Waits while the system has no room for it. A datagram that was sent may still be
   * lost.
   *
   * @param data The bytes of the datagram. It may be empty.
   * @param addr The destination: an IPv4 or IPv6 address, optionally in brackets, `localhost` for 127.0.0.1, or the name
   * of a host, and a port. The system looks up a name for each datagram, on a pool thread, as for {@linkcode connect}: for
   * many datagrams use an address. A socket on `::` can also send to IPv4 addresses. Or the path of a local socket. The
   * `transport` is ignored.
   * @returns The number of bytes sent, which is always the length of `data`.
   * @throws {TypeError} If the address is not valid, or its scope is not a number; if the port is not an integer.
   * @throws {RangeError} If the port is not between 0 and 65535.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.Interrupted} If the socket is closed or released while this waits.
   * @throws {Deno.errors.ConnectionRefused} If no local socket has the path. `Deno.errors.NotFound` if there is no file.
   * @throws {Deno.errors.PermissionDenied} For a broadcast address, if `SO_BROADCAST` is off;
   * {@linkcode listenDatagram} sets it.
   * @throws {WinsockError} WSAEMSGSIZE if the datagram is too long. The limit is 65 507 bytes with IPv4, 65 527 with
   * IPv6.
   */
  async send(data: Uint8Array, addr: A): Promise<number> {
    check("data", data, BYTES);
    check("addr", addr, OBJECT);
    const calls = systemCalls();
    const destination = this.#destination(addr);
    const address = destination instanceof Promise ? await destination : destination;
    return await this.#descriptor.wait(async (s) => {
      for (;;) {
        const sent = calls.sendDatagram(s, data, address);
        if (sent !== undefined) return sent;
        if ("path" in address) await new Promise((resolve) => setTimeout(resolve, SEND_DELAY_MS));
        else await calls.writable(s);
        // The number may belong to another socket by now.
        s = this.handle;
      }
    });
  }

  #destination(addr: SocketAddr): SocketAddress | Promise<SocketAddress> {
    if ("path" in this.addr) {
      transportOf({ transport: "unix", path: (addr as Deno.UnixAddr).path });
      return { path: (addr as Deno.UnixAddr).path };
    }
    this.#isIPv6 ??= this.addr.hostname.includes(":");
    const address = toAddress(addr as Deno.NetAddr, "127.0.0.1");
    return isAddress(address.hostname) ? this.#toFamily(address) : this.#lookUp(address);
  }

  /** Looks up a name, and prefers an address of the family of this socket. */
  async #lookUp({ hostname, port }: InternetAddress): Promise<SocketAddress> {
    checkName(hostname);
    const found = await systemCalls().resolve(hostname);
    const address = found.find((each) => each.includes(":") === this.#isIPv6) ?? found[0]!;
    return this.#toFamily({ hostname: address, port });
  }

  #toFamily(address: InternetAddress): InternetAddress {
    if (!this.#isIPv6 || address.hostname.includes(":")) return address;
    return { ...address, hostname: `::ffff:${address.hostname}` };
  }

  /**
   * Waits for the next datagram (`recvfrom`). Concurrent calls are served in order.
   *
   * @param buffer The buffer to receive into. Bytes that do not fit are lost, on every system without an error.
   * Defaults to a buffer with room for any datagram.
   * @returns The datagram, and the address of its sender. The datagram may be empty, and is a part of `buffer` if one
   * was passed. On `::`, the address of an IPv4 sender is `::ffff:` followed by the IPv4 address. The path of a local
   * sender that is not bound is empty.
   * @throws {Deno.errors.BadResource} If the socket was closed or released, or if receiving was finished.
   * @throws {Deno.errors.Interrupted} If one of these happens while this waits.
   * @throws {WinsockError} If the system reports an error.
   */
  async receive(buffer?: Uint8Array<ArrayBuffer>): Promise<[Uint8Array<ArrayBuffer>, A]> {
    if (buffer !== undefined) check("buffer", buffer, BYTES);
    if (!this.#inlet.open) throw new Deno.errors.BadResource("Socket has been closed");
    const datagram = await this.#inlet.next(buffer);
    if (datagram === undefined) throw new Deno.errors.Interrupted("operation canceled");
    return [datagram.data, datagram.sender as A];
  }

  /** Yields the datagrams until the socket is closed or released. Leaving the loop does not close the socket. */
  async *[Symbol.asyncIterator](): AsyncGenerator<[Uint8Array<ArrayBuffer>, A], void, void> {
    const next = () => this.#inlet.next();
    for (let datagram = await next(); datagram !== undefined; datagram = await next()) {
      yield [datagram.data, datagram.sender as A];
    }
  }

  /** Makes a pending {@linkcode DatagramSocket.receive} or loop keep the process running. This is the default. */
  ref(): void {
    this.#inlet.referenced = true;
  }

  /**
   * Lets the process end while {@linkcode DatagramSocket.receive} or a loop is pending. On Windows and macOS, datagrams
   * are then received up to 10 ms later.
   */
  unref(): void {
    this.#inlet.referenced = false;
  }

  /**
   * Pauses receiving: {@linkcode DatagramSocket.receive} and a loop wait. The system keeps the datagrams that arrive.
   * This process, or another process that has the socket, can receive them later. Sending is not affected.
   *
   * @returns Resolves when no receive is in progress.
   */
  async pause(): Promise<void> {
    await this.#inlet.pause();
  }

  /** Resumes receiving. Does nothing if receiving was not paused. */
  resume(): void {
    this.#inlet.resume();
  }

  /**
   * Ends receiving permanently. A pending receive or loop ends as it does with {@linkcode DatagramSocket.close}.
   * Sending is not affected, so that received datagrams can still be answered.
   *
   * @returns Resolves when no receive is in progress.
   */
  async finishReceiving(): Promise<void> {
    await this.#inlet.finish();
  }

  /**
   * Joins an IPv4 multicast group (`IP_ADD_MEMBERSHIP`). Membership belongs to the underlying socket, and ends with it.
   *
   * @param address The address of the group, such as `239.1.2.3`.
   * @param networkInterface The address of the interface. With `0.0.0.0` the system chooses.
   * @returns The membership.
   * @throws {TypeError} If one of them is not an IPv4 address.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {WinsockError} WSAEINVAL if the address is not a multicast address.
   */
  // deno-lint-ignore require-await -- in the shape of Deno's method
  async joinMulticastV4(address: string, networkInterface: string): Promise<MulticastV4Membership> {
    check("address", address, STRING);
    check("networkInterface", networkInterface, STRING);
    this.#setMembership(true, address, networkInterface);
    return {
      leave: () => Promise.try(() => this.#setMembership(false, address, networkInterface)),
      setLoopback: (loopback) => Promise.try(() => this.setOption("IP_MULTICAST_LOOP", loopback)),
      setTTL: (ttl) => Promise.try(() => this.setOption("IP_MULTICAST_TTL", ttl)),
    };
  }

  /**
   * Joins an IPv6 multicast group (`IPV6_ADD_MEMBERSHIP`). Membership belongs to the underlying socket, and ends with
   * it.
   *
   * @param address The address of the group, such as `ff02::1234`.
   * @param networkInterface The index of the interface. With 0 the system chooses.
   * @returns The membership.
   * @throws {TypeError} If the address of the group is not an IPv6 address.
   * @throws {RangeError} If the index is not an integer from 0 to 4 294 967 295.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {WinsockError} WSAEINVAL if the address is not a multicast address.
   */
  // deno-lint-ignore require-await -- in the shape of Deno's method
  async joinMulticastV6(address: string, networkInterface: number): Promise<MulticastV6Membership> {
    check("address", address, STRING);
    check("networkInterface", networkInterface, integer(0, MAX_UINT32));
    this.#setMembership(true, address, networkInterface);
    return {
      leave: () => Promise.try(() => this.#setMembership(false, address, networkInterface)),
      setLoopback: (loopback) => Promise.try(() => this.setOption("IPV6_MULTICAST_LOOP", loopback)),
    };
  }

  #setMembership(member: boolean, group: string, networkInterface: string | number): void {
    this.#descriptor.use((s) => systemCalls().setMembership(s, member, group, networkInterface));
  }

  /**
   * Releases the descriptor. It stays open, and the caller must close it. A pending receive ends.
   *
   * @returns The descriptor; `INVALID_SOCKET` if it was closed or released before.
   */
  detach(): bigint {
    const handle = this.#descriptor.release();
    this.#inlet.finish().catch(() => {});
    return handle;
  }

  /**
   * Closes the descriptor and ends a pending receive. Does nothing if it was closed or released.
   *
   * If a receive is pending, the port stays in use until that receive has ended, shortly afterwards. To use the port
   * again at once, await {@linkcode DatagramSocket.pause} before closing.
   *
   * The file of a local socket is removed with the last descriptor, if {@linkcode listenDatagram} made it.
   */
  close(): void {
    this.#inlet.finish().catch(() => {});
    this.#descriptor.close();
  }

  /** Closes the socket like {@linkcode DatagramSocket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Options for {@linkcode listenDatagram}, in the shape of `Deno.UdpListenOptions`. */
export interface ListenDatagramOptions {
  /** The protocol. Defaults to `"udp"`. */
  transport?: "udp";
  /**
   * An IPv4 or IPv6 address, optionally in brackets, `localhost` for 127.0.0.1, or the name of a host, which is looked up
   * as for {@linkcode listen}. The scope of an address must be a
   * number (`fe80::1%3`). Defaults to `"0.0.0.0"`. With `::`, IPv4 datagrams are also received.
   */
  hostname?: string;
  /** The port. With 0 the system chooses one. Defaults to `0`. */
  port?: number;
  /**
   * Whether several sockets may bind the address, if all of them set this (`SO_REUSEADDR`). Several members of a
   * multicast group on one host need it. A datagram for the address itself goes to any one of the sockets. Defaults to
   * `false`.
   */
  reuseAddress?: boolean;
  /**
   * Whether several sockets may have the port, if all of them set this (`SO_REUSEPORT`). On Linux each socket gets a
   * part of the datagrams. Not supported on Windows. Defaults to `false`.
   */
  reusePort?: boolean;
  /**
   * Whether an IPv6 socket receives only IPv6 datagrams (`IPV6_V6ONLY`). Defaults to `false` for `::`, and to the
   * setting of the system for other addresses.
   */
  ipv6Only?: boolean;
  /** As for {@linkcode ListenOptions.freeBind}. Linux only. Defaults to `false`. */
  freeBind?: boolean;
  /**
   * Whether members of a multicast group on this host get the datagrams that the socket sends to the group. Defaults to
   * the setting of the system.
   */
  loopback?: boolean;
}

/** Options for {@linkcode listenDatagram} with a local socket, on Linux and macOS. */
export interface ListenLocalDatagramOptions {
  /** The protocol. */
  transport: "unixpacket";
  /** The path of a file, or on Linux `"\\0"` and an abstract name (unix(7)). At most 107 bytes, on macOS 103. */
  path: string;
}

/**
 * Makes a UDP socket and binds it (`bind`), in the shape of `Deno.listenDatagram`. It may send to broadcast addresses.
 *
 * No other socket can bind the port unless `reuseAddress` or `reusePort` is set (`SO_EXCLUSIVEADDRUSE` on Windows).
 * Child processes do not inherit the socket. Needs ffi access to the system's socket library, and no net permission.
 *
 * @example A UDP socket on a port that the system chooses
 * ```ts
 * import { listenDatagram } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using socket = listenDatagram({ hostname: "127.0.0.1", port: 0 });
 * assertEquals(socket.addr.transport, "udp");
 * ```
 *
 * @param options The address to bind the socket to, and its options.
 * @returns The socket, which the caller must close.
 * @throws {TypeError} If the address is not valid, or its scope is not a number; if the port is not an integer; if
 * `ipv6Only` is set for an IPv4 address; if the transport is not `"udp"`.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {Deno.errors.AddrInUse} If the port is in use.
 * @throws {Deno.errors.AddrNotAvailable} If this host does not have the address.
 * @throws {Deno.errors.PermissionDenied} If the process may not use the port; on Windows also if another socket uses it
 * exclusively.
 * @throws {Deno.errors.NotSupported} If `reusePort` is set on Windows, or `freeBind` on a system other than Linux.
 * @throws {WinsockError} If the system reports an error that Deno has no class for, such as WSAHOST_NOT_FOUND for a name
 * that is not known. It is also the `cause` of the errors of the system that Deno has a class for.
 */
export function listenDatagram(options: ListenDatagramOptions): DatagramSocket;
/**
 * Makes a local datagram socket and binds it, on Linux and macOS, in the shape of `Deno.listenDatagram`. A datagram is
 * not lost: while the queue of the receiver is full, {@linkcode DatagramSocket.send} waits.
 *
 * The file of the socket is removed as for {@linkcode listen}, and the socket refuses descriptors in the same way. Child
 * processes do not inherit the socket. Needs ffi access to the system's socket library, and no read or write permission.
 *
 * @param options The local socket to bind.
 * @returns The socket, which the caller must close.
 * @throws {TypeError} If the path is empty, or is the path of a file and contains a NUL.
 * @throws {RangeError} If the path is too long.
 * @throws {Deno.errors.AddrInUse} If the file exists, or the abstract name is in use.
 * @throws {Deno.errors.NotFound} If the directory does not exist.
 * @throws {Deno.errors.PermissionDenied} If the process may not make the file.
 * @throws {Deno.errors.NotSupported} On Windows, and on macOS for an abstract name.
 * @throws {WinsockError} If the system reports an error that Deno has no class for.
 */
export function listenDatagram(options: ListenLocalDatagramOptions): DatagramSocket<Deno.UnixAddr>;
export function listenDatagram(
  options: ListenDatagramOptions | ListenLocalDatagramOptions,
): DatagramSocket<SocketAddr> {
  check("options", options, OBJECT);
  if (options.transport === "unixpacket") {
    const { path } = options;
    transportOf({ transport: "unix", path });
    return ownDatagramSocket<SocketAddr>(asDeno(() => systemCalls().bindDatagram({ path })));
  }
  checkOptions(options, { reuseAddress: BOOLEAN, loopback: BOOLEAN });
  const { transport = "udp", reuseAddress } = options;
  if (transport !== "udp") {
    throw new TypeError(`Invalid \`transport\`: must be "udp" or "unixpacket", got ${shown(transport)}`);
  }
  const address = addressToBind(options);
  const before = { ...toBindOptions(options, address.hostname), reuseAddress };
  const socket = ownDatagramSocket<SocketAddr>(asDeno(() => systemCalls().bindDatagram(address, before)));
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
