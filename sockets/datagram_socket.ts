/**
 * A UDP socket and its owner, and making one.
 *
 * @module
 */
import type { Datagram, DatagramReceiver } from "../ffi/nonblocking_io.ts";
import { type SocketMaker, toBindOptions } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { asDeno } from "../ffi/winsock_error.ts";
import { Descriptor } from "./descriptor.ts";
import type { SocketOptions } from "../ffi/socket_options.ts";
import { toAddress } from "../ffi/socket_address.ts";

/** What receives for a socket, as long as it is open and nobody has paused or finished it. */
class PausableReceiver {
  readonly #descriptor: Descriptor;
  #referenced = true;
  #receiver: DatagramReceiver | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** While receiving is paused: resolves when that ends. */
  #paused: PromiseWithResolvers<void> | undefined;
  #finished = false;

  constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
  }

  /** Whether more can come. */
  get open(): boolean {
    return this.#descriptor.open && !this.#finished;
  }

  /** Whether a pending receive keeps the process running; at first it does. */
  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    if (this.#receiver !== undefined) this.#receiver.referenced = referenced;
  }

  /** The next datagram, after those asked for before; `undefined` when no more will be received. */
  next(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined> {
    const next = this.#last.then(() => this.#receive(buffer));
    this.#last = next.catch(() => {});
    return next;
  }

  /** Resolves when nothing is being received any more. */
  async pause(): Promise<void> {
    this.#paused ??= Promise.withResolvers();
    await this.#stop();
  }

  resume(): void {
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  /** For good. Resolves when nothing is being received any more. */
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

/** Membership in an IPv4 multicast group, in the shape of Deno's. */
export interface MulticastV4Membership {
  /**
   * Leaves the group.
   *
   * @throws {Deno.errors.BadResource} If the socket was closed or given up.
   * @throws {Deno.errors.AddrNotAvailable} If it is not a member; on Windows it may be a {@linkcode WinsockError}.
   */
  leave(): Promise<void>;
  /**
   * Sets whether this host's members get what is sent from this socket (`IP_MULTICAST_LOOP`): of any group. On Windows
   * the receiving socket decides.
   *
   * @param loopback Whether they do.
   */
  setLoopback(loopback: boolean): Promise<void>;
  /**
   * Sets how many routers what is sent from this socket may pass (`IP_MULTICAST_TTL`): to any group.
   *
   * @param ttl 0 to 255; 1 at first, which no router lets pass.
   */
  setTTL(ttl: number): Promise<void>;
}

/** Membership in an IPv6 multicast group, in the shape of Deno's. */
export interface MulticastV6Membership {
  /**
   * Leaves the group.
   *
   * @throws {Deno.errors.BadResource} If the socket was closed or given up.
   * @throws {Deno.errors.AddrNotAvailable} If it is not a member; on Windows it may be a {@linkcode WinsockError}.
   */
  leave(): Promise<void>;
  /**
   * Sets whether this host's members get what is sent from this socket (`IPV6_MULTICAST_LOOP`): of any group. On Windows
   * the receiving socket decides.
   *
   * @param loopback Whether they do.
   */
  setLoopback(loopback: boolean): Promise<void>;
}

/** Makes the {@linkcode DatagramSocket} of a descriptor the system has just made. */
export let ownDatagramSocket: (handle: bigint, maker?: SocketMaker) => DatagramSocket;

/**
 * A bound UDP socket, in the shape of `Deno.DatagramConn`. The object owns its descriptor, as {@linkcode Socket} does.
 *
 * Where several processes have the socket, each datagram goes to one that receives at the time, and nobody says which;
 * what arrives while none receives waits in the system, as much as `SO_RCVBUF` has room for. So let one receive, or any
 * that can answer alone.
 *
 * What a host answers to an earlier datagram, such as that nobody has that port (WSAECONNRESET on Windows), does not end
 * receiving: it is skipped. Neither call blocks the event loop; on Windows the socket is non-blocking for all who share
 * it. A pending receive keeps the process running.
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
 */
export class DatagramSocket implements AsyncIterable<[Uint8Array<ArrayBuffer>, Deno.NetAddr]>, Disposable {
  readonly #descriptor: Descriptor;
  readonly #inlet: PausableReceiver;
  /** As it was when the socket was open. */
  readonly #addr: Deno.NetAddr;
  #isIPv6: boolean | undefined;

  private constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
    this.#inlet = new PausableReceiver(descriptor);
    const { hostname, port } = descriptor.use((s) => systemCalls().localAddress(s)) as Deno.NetAddr;
    this.#addr = { transport: "udp", hostname, port };
  }

  /**
   * Takes ownership of a UDP socket's descriptor: a SOCKET on Windows, a file descriptor elsewhere. On Windows the socket
   * becomes non-blocking, for all who share it.
   *
   * @param handle The descriptor. It is left alone if this throws.
   * @returns The socket that owns it.
   * @throws {TypeError} If it is a stream or local socket, or belongs to another object already.
   * @throws {WinsockError} WSAENOTSOCK if it is no open socket, WSAEINVAL on Windows if it is not bound.
   */
  static fromHandle(handle: bigint): DatagramSocket {
    const calls = systemCalls();
    const kind = calls.kind(handle, `take over socket ${handle}`);
    if (kind !== "datagram") throw new TypeError(`Cannot take over socket ${handle}: it is a ${kind}, not UDP`);
    if ("path" in calls.localAddress(handle)) {
      throw new TypeError(`Cannot take over socket ${handle}: it is a local datagram socket, not UDP`);
    }
    const descriptor = Descriptor.adopt(handle);
    try {
      calls.unblock(handle);
    } catch (error) {
      descriptor.release();
      throw error;
    }
    return new DatagramSocket(descriptor);
  }

  static {
    ownDatagramSocket = (handle, maker) => {
      systemCalls().unblock(handle);
      const descriptor = Descriptor.own(handle, maker);
      try {
        return new DatagramSocket(descriptor);
      } catch (error) {
        descriptor.release();
        throw error;
      }
    };
  }

  /** The descriptor; `INVALID_SOCKET` (all 64 bits set) once the object has given it up. */
  get handle(): bigint {
    return this.#descriptor.handle;
  }

  /** The address and port the socket is bound to (`getsockname`); also after it was closed or given up. */
  get addr(): Deno.NetAddr {
    return this.#addr;
  }

  /**
   * Sends one datagram (`sendto`). Waits while the system has no room for it; that it was sent does not say that it
   * arrives.
   *
   * @param data Its bytes; none is a datagram too.
   * @param addr Where to: an IPv4 or IPv6 address, which may be in brackets, or `localhost` for 127.0.0.1, and a port. A
   * socket on `::` sends to IPv4 addresses too. Its `transport` says nothing more.
   * @returns The number of bytes sent: all.
   * @throws {TypeError} If the hostname is not an IP address, or has another scope than a number; if the port is not an
   * integer.
   * @throws {RangeError} If the port is not between 0 and 65535.
   * @throws {Deno.errors.BadResource} If the socket was closed or given up.
   * @throws {Deno.errors.Interrupted} If it is closed or given up while this waits.
   * @throws {Deno.errors.PermissionDenied} For a broadcast address, if `SO_BROADCAST` is off; {@linkcode listenDatagram}
   * sets it.
   * @throws {WinsockError} WSAEMSGSIZE if the datagram is too long: 65 507 bytes fit over IPv4, 65 527 over IPv6.
   */
  async send(data: Uint8Array, addr: Deno.NetAddr): Promise<number> {
    const calls = systemCalls();
    const address = toAddress(addr, "127.0.0.1");
    this.#isIPv6 ??= this.addr.hostname.includes(":");
    if (this.#isIPv6 && !address.hostname.includes(":")) address.hostname = `::ffff:${address.hostname}`;
    return await this.#descriptor.wait(async (s) => {
      for (;;) {
        const sent = calls.sendDatagram(s, data, address);
        if (sent !== undefined) return sent;
        await calls.writable(s);
        // By now the number may be another socket's.
        s = this.handle;
      }
    });
  }

  /**
   * Waits for the next datagram (`recvfrom`). Calls made while one is pending are answered in turn.
   *
   * @param buffer What to receive into; what does not fit is lost, on every system without an error. Default: room for
   * any.
   * @returns The datagram, a part of `buffer` if one was given, and who sent it. It may be empty. On `::` an IPv4 sender
   * is `::ffff:` and its address.
   * @throws {Deno.errors.BadResource} If the socket was closed or given up, or receives no more.
   * @throws {Deno.errors.Interrupted} If that happens while this waits.
   * @throws {WinsockError} If the system cannot receive.
   */
  async receive(buffer?: Uint8Array<ArrayBuffer>): Promise<[Uint8Array<ArrayBuffer>, Deno.NetAddr]> {
    if (!this.#inlet.open) throw new Deno.errors.BadResource("Socket has been closed");
    const datagram = await this.#inlet.next(buffer);
    if (datagram === undefined) throw new Deno.errors.Interrupted("operation canceled");
    return [datagram.data, datagram.sender];
  }

  /** The datagrams, until the socket is closed or given up. Leaving the loop leaves the socket open. */
  async *[Symbol.asyncIterator](): AsyncGenerator<[Uint8Array<ArrayBuffer>, Deno.NetAddr], void, void> {
    const next = () => this.#inlet.next();
    for (let datagram = await next(); datagram !== undefined; datagram = await next()) {
      yield [datagram.data, datagram.sender];
    }
  }

  /** Has a pending {@linkcode DatagramSocket.receive}, and the loop, keep the process running, which they do at first. */
  ref(): void {
    this.#inlet.referenced = true;
  }

  /**
   * Lets the process end while {@linkcode DatagramSocket.receive} or the loop waits. On Windows and macOS datagrams are then
   * received up to 10 ms later.
   */
  unref(): void {
    this.#inlet.referenced = false;
  }

  /**
   * Stops receiving: {@linkcode DatagramSocket.receive} and the loop wait. Datagrams go on arriving, and wait in the
   * system to be received, here or by whoever else has the socket. Sending goes on.
   *
   * @returns Resolves when nothing is being received any more.
   */
  async pause(): Promise<void> {
    await this.#inlet.pause();
  }

  /** Receives again; if it was not paused, does nothing. */
  resume(): void {
    this.#inlet.resume();
  }

  /**
   * Receives no more, for good: a pending receive ends as at {@linkcode DatagramSocket.close}, and so does the loop.
   * Sending goes on, for what is still to be answered.
   *
   * @returns Resolves when nothing is being received any more.
   */
  async finishReceiving(): Promise<void> {
    await this.#inlet.finish();
  }

  /**
   * Joins an IPv4 multicast group (`IP_ADD_MEMBERSHIP`). Membership belongs to the underlying socket, and ends with it.
   *
   * @param address The group, such as `239.1.2.3`.
   * @param networkInterface The address of the interface to join on; `0.0.0.0` lets the system choose.
   * @returns The membership.
   * @throws {TypeError} If either is no IPv4 address.
   * @throws {Deno.errors.BadResource} If the socket was closed or given up.
   * @throws {WinsockError} WSAEINVAL if the address is not that of a group.
   */
  // deno-lint-ignore require-await -- in the shape of Deno's
  async joinMulticastV4(address: string, networkInterface: string): Promise<MulticastV4Membership> {
    this.#setMembership(true, address, networkInterface);
    return {
      leave: () => Promise.try(() => this.#setMembership(false, address, networkInterface)),
      setLoopback: (loopback) => Promise.try(() => this.setOption("IP_MULTICAST_LOOP", loopback)),
      setTTL: (ttl) => Promise.try(() => this.setOption("IP_MULTICAST_TTL", ttl)),
    };
  }

  /**
   * Joins an IPv6 multicast group (`IPV6_ADD_MEMBERSHIP`). Membership belongs to the underlying socket, and ends with it.
   *
   * @param address The group, such as `ff02::1234`.
   * @param networkInterface The index of the interface to join on; 0 lets the system choose.
   * @returns The membership.
   * @throws {TypeError} If the group is no IPv6 address.
   * @throws {Deno.errors.BadResource} If the socket was closed or given up.
   * @throws {WinsockError} WSAEINVAL if the address is not that of a group.
   */
  // deno-lint-ignore require-await -- in the shape of Deno's
  async joinMulticastV6(address: string, networkInterface: number): Promise<MulticastV6Membership> {
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
   * Reads a socket option (`getsockopt`). Options belong to the underlying socket: every process that shares it sees the
   * same value.
   *
   * @param name The option.
   * @returns Its value.
   * @throws {Deno.errors.NotSupported} If this system has no such option.
   * @throws {Deno.errors.BadResource} If it was closed or given up.
   * @throws {WinsockError} WSAENOPROTOOPT if this kind of socket does not have it.
   */
  getOption<Name extends keyof SocketOptions>(name: Name): SocketOptions[Name] {
    return this.#descriptor.use((s) => systemCalls().getOption(s, name));
  }

  /**
   * Sets a socket option (`setsockopt`), for every process that shares the underlying socket.
   *
   * @param name The option.
   * @param value Its new value.
   * @throws {RangeError} If the value is out of range.
   * @throws {Deno.errors.NotSupported} If this system has no such option.
   * @throws {Deno.errors.BadResource} If it was closed or given up.
   * @throws {WinsockError} WSAENOPROTOOPT if this kind of socket does not have it.
   */
  setOption<Name extends keyof SocketOptions>(name: Name, value: SocketOptions[Name]): void {
    this.#descriptor.use((s) => systemCalls().setOption(s, name, value));
  }

  /**
   * Gives up ownership: the descriptor stays open and is the caller's to close. A pending receive ends.
   *
   * @returns The descriptor; `INVALID_SOCKET` if it was closed or given up before.
   */
  detach(): bigint {
    const handle = this.#descriptor.release();
    this.#inlet.finish().catch(() => {});
    return handle;
  }

  /**
   * Closes this descriptor and ends a pending receive; once it is closed or given up, does nothing.
   *
   * Where a receive was pending, the port is in use until that has ended, a moment later: whoever wants it at once awaits
   * {@linkcode DatagramSocket.pause} first.
   */
  close(): void {
    this.#inlet.finish().catch(() => {});
    this.#descriptor.close();
  }

  /** The same as {@linkcode DatagramSocket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Where {@linkcode listenDatagram} receives, in the shape of `Deno.UdpListenOptions`. */
export interface ListenDatagramOptions {
  /** Which protocol. Defaults to `"udp"`. */
  transport?: "udp";
  /**
   * An IPv4 or IPv6 address, which may be in brackets, or `localhost` for 127.0.0.1; a scope behind it is a number
   * (`fe80::1%3`). Defaults to `"0.0.0.0"`; `::` takes IPv4 datagrams too.
   */
  hostname?: string;
  /** The port; 0 lets the system choose one. Defaults to `0`. */
  port?: number;
  /**
   * Whether the address may be bound by several sockets that all allow it (`SO_REUSEADDR`), as members of a multicast
   * group on one host need it. A datagram for the address itself goes to any one of them. Defaults to `false`.
   */
  reuseAddress?: boolean;
  /**
   * Whether several sockets that all set it may have the port (`SO_REUSEPORT`); on Linux each gets a part of the datagrams.
   * Not on Windows. Defaults to `false`.
   */
  reusePort?: boolean;
  /**
   * Whether an IPv6 socket takes IPv6 datagrams only (`IPV6_V6ONLY`). Defaults to `false` for `::`, and for other addresses
   * to what the system has.
   */
  ipv6Only?: boolean;
  /** Whether this host's members of a multicast group get what is sent to it from here. Default: as the system has it. */
  loopback?: boolean;
}

/**
 * Makes a UDP socket and binds it (`bind`), in the shape of `Deno.listenDatagram`. It may send to broadcast addresses.
 *
 * The port is this socket's alone unless `reuseAddress` or `reusePort` is set (`SO_EXCLUSIVEADDRUSE` on Windows), and child
 * processes do not inherit it. Needs ffi access to the system's socket library, and no net permission.
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
 * @param options Where to receive.
 * @returns The socket; the caller's to close.
 * @throws {TypeError} If the hostname is not an IP address, or has another scope than a number; if the port is not an
 * integer; if `ipv6Only` is set for an IPv4 address; if the transport is not `"udp"`.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 * @throws {Deno.errors.AddrNotAvailable} If this host does not have the address.
 * @throws {Deno.errors.PermissionDenied} If the port may not be used, on Windows also if another socket has it for itself.
 * @throws {Deno.errors.NotSupported} If `reusePort` is set on Windows.
 * @throws {WinsockError} If the system refuses for a reason that Deno has no class for; it is the `cause` of the others.
 */
export function listenDatagram(options: ListenDatagramOptions): DatagramSocket {
  const { transport = "udp", reuseAddress } = options;
  if (transport !== "udp") throw new TypeError(`Invalid \`transport\`: must be "udp", got "${transport}"`);
  const address = toAddress(options, "0.0.0.0", 0);
  const before = { ...toBindOptions(options, address.hostname), reuseAddress };
  const socket = ownDatagramSocket(asDeno(() => systemCalls().bindDatagram(address, before)));
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
