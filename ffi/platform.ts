/**
 * What the library asks of a system: its sockets ({@linkcode SocketCalls}), and what service providers need besides
 * ({@linkcode ProviderCalls}). Each is implemented once on ws2_32 and once on libc.
 *
 * @module
 */
import type { InternetAddress, SocketAddress } from "./socket_address.ts";
import type { SocketOptions } from "./socket_options.ts";
import type { DatagramReceiver, StreamIo } from "./nonblocking_io.ts";

/** `INVALID_SOCKET`: the handle of no socket, all bits set. Calls given it fail with WSAENOTSOCK. */
export const INVALID_SOCKET = 0xffff_ffff_ffff_ffffn;

/** What an error calls a socket that its owner names. */
export function socketName(s: bigint): string {
  return s === INVALID_SOCKET ? "a socket that was closed or given up" : `socket ${s}`;
}

/** What a descriptor is. */
export type SocketKind = "connection" | "listener" | "datagram";

/** What has made a socket, such as a service provider, and closes it. */
export interface SocketMaker {
  /**
   * Closes it.
   *
   * @throws {WinsockError} If that fails.
   */
  closeSocket(s: bigint): void;
}

/** Waits for connections on one listening socket, without blocking the event loop. */
export interface Acceptor {
  /**
   * The next connection, not inheritable; `undefined` once the acceptor is stopped. One call at a time.
   *
   * @throws {WinsockError} If accepting fails for good.
   */
  accept(): Promise<bigint | undefined>;
  /**
   * Accepts for as long as connections are wanted, and returns when none is any more, or when the acceptor is stopped. In
   * place of {@linkcode Acceptor.accept}, not beside it.
   *
   * @param wanted Asked before each `accept`: on Unix in the same step, so that nothing is accepted that is not wanted; on
   * Windows before a thread goes there, which can bring one connection that is not wanted any more.
   * @param accepted Gets each connection, in the step in which it was accepted.
   * @returns Whether it can be called again: not once the acceptor is stopped.
   * @throws {WinsockError} If accepting fails for good.
   */
  acceptWhile(wanted: () => boolean, accepted: (s: bigint) => void): Promise<boolean>;
  /**
   * Wakes a pending {@linkcode Acceptor.accept} at once; the listening socket stays open.
   *
   * @returns Resolves when nobody uses the listening socket any more.
   */
  stop(): Promise<void>;
  /**
   * The same, for good: the listening socket is about to be closed.
   *
   * @returns When it can be; `undefined` if it can be closed in this turn.
   */
  end(): Promise<void> | undefined;
  /** Whether a pending {@linkcode Acceptor.accept} keeps the process running; at first it does. */
  set referenced(referenced: boolean);
}

/** What is set on a socket before it is bound. */
export interface BindOptions {
  /** `SO_REUSEPORT`, where the system has it. */
  readonly reusePort?: boolean | undefined;
  /** `IPV6_V6ONLY`; by default off for `::`, and for others as the system has it. */
  readonly ipv6Only?: boolean | undefined;
}

/**
 * The options of a socket that count when it is bound.
 *
 * @throws {TypeError} If the address is not of IPv6, and only IPv6 is wanted.
 */
export function toBindOptions({ reusePort, ipv6Only }: BindOptions, hostname: string): BindOptions {
  if (ipv6Only === true && !hostname.includes(":")) {
    throw new TypeError(`Invalid \`ipv6Only\`: must be with an IPv6 address, got "${hostname}"`);
  }
  return { reusePort, ipv6Only };
}

/** What is set on a datagram socket before it is bound. */
export interface DatagramBindOptions extends BindOptions {
  /** What lets several sockets have one address. */
  readonly reuseAddress?: boolean | undefined;
}

/**
 * Socket calls that throw. Handles are bigints on every system; errors are {@linkcode WinsockError}s.
 *
 * Sockets made here are not inherited by child processes.
 */
export interface SocketCalls {
  /** Makes an unbound TCP socket of the address family `hostname` belongs to. */
  open(hostname: string): bigint;
  /**
   * Makes an unbound local stream socket.
   *
   * @throws {Deno.errors.NotSupported} Where local sockets cannot be shared.
   */
  openLocal(path: string): bigint;
  /**
   * Binds and listens, for this process exclusively unless the port may be reused, and returns the listening socket.
   *
   * @throws {Deno.errors.NotSupported} If the system does not have an option.
   */
  listen(address: SocketAddress, backlog: number, options?: BindOptions): bigint;
  /** Connects an unbound socket; an aborted `signal` ends the attempt and throws its reason. */
  connect(s: bigint, address: SocketAddress, signal?: AbortSignal): Promise<void>;
  /**
   * Makes and binds a UDP socket that may broadcast, for this process exclusively unless the address may be reused.
   *
   * @throws {Deno.errors.NotSupported} If the system does not have an option.
   */
  bindDatagram(address: InternetAddress, options?: DatagramBindOptions): bigint;
  /** `connect` of a UDP socket: it sends to that address, and receives from it only. */
  connectDatagram(s: bigint, address: InternetAddress): void;
  /** Two connected local sockets. */
  pair(): [bigint, bigint];
  /** One more descriptor of the same socket in this process, not inherited by children. */
  duplicate(s: bigint): bigint;
  /** What `s` is, asked for the sake of `operation`. */
  kind(s: bigint, operation: string): SocketKind;
  /**
   * Makes sure that a number is that of an open socket of this process.
   *
   * @throws {WinsockError} WSAENOTSOCK if it is not, with `operation` as what cannot be done.
   */
  assertSocket(s: bigint, operation: string): void;
  /** Whether `s` is a datagram socket (`SO_TYPE`). */
  isDatagram(s: bigint, operation: string): boolean;
  /** Whether `s` listens (`SO_ACCEPTCONN`). */
  isListening(s: bigint, operation: string): boolean;
  /** `getsockname` */
  localAddress(s: bigint): Deno.NetAddr | Deno.UnixAddr;
  /** `getpeername` */
  remoteAddress(s: bigint): Deno.NetAddr | Deno.UnixAddr;
  /** `getsockopt` */
  getOption<Name extends keyof SocketOptions>(s: bigint, name: Name): SocketOptions[Name];
  /** `setsockopt` */
  setOption<Name extends keyof SocketOptions>(s: bigint, name: Name, value: SocketOptions[Name]): void;
  /**
   * Sees to it that no connection is being accepted until the result is disposed. Where a new connection can be inherited
   * until it is told otherwise, no child process may be spawned meanwhile.
   */
  holdAccepting(): Promise<Disposable>;
  /**
   * Looks at what comes next (`recv` with `MSG_PEEK`), once so many bytes are there or the peer has ended its side.
   *
   * @returns How many bytes were copied; fewer if no more come; 0 at the end.
   * @throws {WinsockError} WSAENOTSOCK if {@linkcode SocketCalls.endWaits} is called meanwhile.
   * @throws The signal's reason, if it is aborted first.
   */
  peek(s: bigint, buffer: Uint8Array<ArrayBuffer>, atLeast: number, signal?: AbortSignal): Promise<number>;
  /**
   * Reads what comes next (`recv`). Nothing is read once the signal is aborted, or the wait ended.
   *
   * @returns How many bytes were read; 0 at the end.
   * @throws {WinsockError} WSAENOTSOCK if {@linkcode SocketCalls.endWaits} is called meanwhile.
   * @throws The signal's reason, if it is aborted first.
   */
  receive(s: bigint, buffer: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Promise<number>;
  /**
   * Starts waiting for connections on a listening socket.
   *
   * @param isSole Whether no other process can be accepting on it at the moment.
   */
  acceptor(listener: bigint, isSole: () => boolean): Acceptor;
  /** Makes a datagram socket, whoever made it, fit for the calls below, none of which waits. */
  unblock(s: bigint): void;
  /** `sendto`, without waiting: the bytes that were sent, or `undefined` if there is no room at the moment. */
  sendDatagram(s: bigint, data: Uint8Array, address: InternetAddress): number | undefined;
  /**
   * Waits until there is room to send, or sending tells why not.
   *
   * @throws {WinsockError} WSAENOTSOCK if {@linkcode SocketCalls.endWaits} is called meanwhile.
   */
  writable(s: bigint): Promise<void>;
  /** Starts waiting for datagrams. */
  receiver(s: bigint): DatagramReceiver;
  /**
   * `shutdown` of both sides, whoever reads and writes it: the peer reads the end after what is on its way. Does nothing if
   * the connection has ended.
   */
  shutDown(s: bigint): void;
  /**
   * Takes a connected stream socket, to read and write it by calls that do not wait.
   *
   * @param nonBlocking Whether it is non-blocking already. Default false.
   */
  stream(s: bigint, nonBlocking?: boolean): StreamIo;
  /** Joins or leaves a multicast group, on the interface with that address (IPv4) or index (IPv6). */
  setMembership(s: bigint, member: boolean, group: string, networkInterface: string | number): void;
  /**
   * Ends whatever waits for a socket here, at once: it is about to be closed or given up, and its number to be another's.
   * Nothing uses the number after that. What waits and has no other way of being told fails with WSAENOTSOCK.
   */
  endWaits(s: bigint): void;
  /** `closesocket`, after {@linkcode SocketCalls.endWaits}. */
  close(s: bigint): void;
  /**
   * Removes the file of a local socket that was closed, if no process has a socket bound to it any more. What is not a
   * socket's file, or may not be removed, stays.
   */
  removeLocal(path: string): void;
  /**
   * Closes a socket on a pool thread, for whoever shares it may have made closing it block (`SO_LINGER`). What fails is not
   * told.
   *
   * @param end Whether both sides are shut down first.
   */
  closeElsewhere(s: bigint, end: boolean): void;
}

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
