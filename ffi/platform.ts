/**
 * The interfaces that each system implements: sockets ({@linkcode SocketCalls}), and the additional calls for service
 * providers ({@linkcode ProviderCalls}). There is one implementation on ws2_32 and one on libc.
 *
 * @module
 */
import { WSA_ERRORS } from "../structs/constants.ts";
import { WinsockError } from "./winsock_error.ts";
import { BOOLEAN, checkOptions, shown } from "../internal/options.ts";
import type { InternetAddress, SocketAddress } from "./socket_address.ts";
import type { SocketOptions } from "./socket_options.ts";
import type { DatagramReceiver, StreamIo } from "./nonblocking_io.ts";

/** `INVALID_SOCKET`: the value that is never a valid handle, all bits set. Calls with it fail with WSAENOTSOCK. */
export const INVALID_SOCKET = 0xffff_ffff_ffff_ffffn;

/** The largest number that a descriptor can have. Windows has handles of 32 bits, and never more of them than this. */
const LAST_DESCRIPTOR = 0x7fff_ffffn;

/**
 * Refuses a number that no descriptor has. System calls would cut it to 32 bits, and use another descriptor.
 *
 * @throws {WinsockError} WSAENOTSOCK
 */
export function checkDescriptor(s: bigint, operation: string, functionName: string): void {
  if (s <= LAST_DESCRIPTOR) return;
  throw new WinsockError(WSA_ERRORS.WSAENOTSOCK, { operation, functionName, detail: "no descriptor has this number" });
}

/** Returns the name of a socket in error messages. */
export function socketName(s: bigint): string {
  return s === INVALID_SOCKET ? "a socket that was closed or released" : `socket ${s}`;
}

/** The kind of socket behind a descriptor. */
export type SocketKind = "connection" | "listener" | "datagram";

/** The creator of a socket, such as a service provider. The creator also closes the socket. */
export interface SocketMaker {
  /**
   * Closes a socket.
   *
   * @throws {WinsockError} If the socket cannot be closed.
   */
  closeSocket(s: bigint): void;
}

/** Accepts connections on one listening socket, without blocking the event loop. */
export interface Acceptor {
  /**
   * Waits for the next connection, which child processes do not inherit. Returns `undefined` once the acceptor is
   * stopped. Only one call may be pending.
   *
   * @throws {WinsockError} If accepting fails permanently.
   */
  accept(): Promise<bigint | undefined>;
  /**
   * Accepts connections while the caller wants them. Returns when the caller wants no more, or when the acceptor is
   * stopped. Call it in place of {@linkcode Acceptor.accept}, not while a call of that is pending.
   *
   * @param wanted Called before each `accept`. On Unix this is the same step, so that no unwanted connection is accepted.
   * On Windows it is called before a thread waits in `accept`, which can return one connection that is no longer wanted.
   * @param accepted Gets each connection, in the step in which it was accepted.
   * @returns Whether it can be called again: `false` once the acceptor is stopped.
   * @throws {WinsockError} If accepting fails permanently.
   */
  acceptWhile(wanted: () => boolean, accepted: (s: bigint) => void): Promise<boolean>;
  /**
   * Ends a pending {@linkcode Acceptor.accept} at once. The listening socket stays open.
   *
   * @returns Resolves when no thread uses the listening socket any more.
   */
  stop(): Promise<void>;
  /**
   * Ends a pending {@linkcode Acceptor.accept} for good, before the listening socket is closed.
   *
   * @returns Resolves when the socket can be closed; `undefined` if it can be closed in this turn.
   */
  end(): Promise<void> | undefined;
  /** Whether a pending {@linkcode Acceptor.accept} keeps the process running. It does at first. */
  set referenced(referenced: boolean);
}

/** The options that are set on a socket before it is bound. */
export interface BindOptions {
  /** `SO_REUSEPORT`, on systems that have it. */
  readonly reusePort?: boolean | undefined;
  /** `IPV6_V6ONLY`. Defaults to off for `::`, and to the setting of the system for other addresses. */
  readonly ipv6Only?: boolean | undefined;
  /** `IP_FREEBIND`, on systems that have it. */
  readonly freeBind?: boolean | undefined;
  /** The type of a local socket. Defaults to `"stream"`. */
  readonly type?: LocalType | undefined;
}

/** The type of a local socket that connects: a stream of bytes, or messages in order (`SOCK_SEQPACKET`). */
export type LocalType = "stream" | "seqpacket";

/**
 * Checks the options that are set on a socket before it is bound.
 *
 * @throws {TypeError} If one is not a boolean; if `ipv6Only` is set and the address is not an IPv6 address.
 */
export function toBindOptions({ reusePort, ipv6Only, freeBind }: BindOptions, hostname: string): BindOptions {
  checkOptions({ reusePort, ipv6Only, freeBind }, { reusePort: BOOLEAN, ipv6Only: BOOLEAN, freeBind: BOOLEAN });
  if (ipv6Only === true && !hostname.includes(":")) {
    throw new TypeError(`Invalid \`ipv6Only\`: must be with an IPv6 address, got ${shown(hostname)}`);
  }
  return { reusePort, ipv6Only, freeBind };
}

/** The options that are set on a datagram socket before it is bound. */
export interface DatagramBindOptions extends BindOptions {
  /** Allows several sockets to have the same address. */
  readonly reuseAddress?: boolean | undefined;
}

/** What an open file is for. */
export interface FileAccess {
  readonly read: boolean;
  readonly write: boolean;
  /** Whether every write is at the end of the file. */
  readonly append: boolean;
  /** Whether only one open file may have the lock, which it has until the last process has closed it. */
  readonly lock: boolean;
}

/** The calls for files and pipes that several processes share. Handles are bigints on every system. */
export interface FileCalls {
  /**
   * Opens a file that exists. Child processes do not inherit it.
   *
   * @returns `undefined` if another open file has the lock.
   */
  open(path: string, access: FileAccess): bigint | undefined;
  /** Stops child processes from inheriting a descriptor that the caller passes, and checks that it is open. */
  adopt(handle: bigint): void;
  /** Reads what there is, at least one byte. Returns 0 at the end, and on some systems if the wait is ended. */
  read(handle: bigint, buffer: Uint8Array<ArrayBuffer>): Promise<number>;
  /** Writes at least one byte. Returns the number of bytes that were written. */
  write(handle: bigint, bytes: Uint8Array<ArrayBuffer>): Promise<number>;
  /** Ends pending waits for a pipe. */
  endWaits(handle: bigint): void;
  /** Closes a descriptor of a file. The lock stays with the other descriptors. */
  close(handle: bigint): void;
  /**
   * Gives another process descriptors of the same open files.
   *
   * @param handles The files, which stay open in this process.
   * @param processId The other process, which must not end meanwhile.
   * @param near The end of a local connection that this process keeps. Nothing was sent through it before.
   * @returns The number of each descriptor in the other process, where the system chooses it now.
   */
  share(handles: readonly bigint[], processId: number, near: bigint): number[];
  /**
   * Takes the descriptors that {@linkcode FileCalls.share} gave to this process.
   *
   * @param numbers What that returned.
   * @param far The other end of the connection. Nothing was read from it before.
   * @throws {WinsockError} WSAEMFILE if they have not arrived. Those that have are then closed.
   */
  receive(numbers: readonly number[], far: bigint): bigint[];
}

/**
 * The socket calls of a system. Handles are bigints on every system, and errors are {@linkcode WinsockError}s.
 *
 * Child processes do not inherit the sockets that these calls make.
 */
export interface SocketCalls {
  /** Makes an unbound TCP socket of the address family of `hostname`. */
  open(hostname: string): bigint;
  /**
   * Makes an unbound local socket.
   *
   * @throws {Deno.errors.NotSupported} If the system cannot share local sockets, or does not have the type.
   */
  openLocal(path: string, type?: LocalType): bigint;
  /**
   * Binds and listens, exclusively for this process unless `reusePort` is set, and returns the listening socket.
   *
   * @throws {Deno.errors.NotSupported} If the system does not have an option.
   */
  listen(address: SocketAddress, backlog: number, options?: BindOptions): bigint;
  /**
   * Resolves the name of a host (`getaddrinfo`) on a pool thread.
   *
   * @returns The IP addresses, at least one, in the order of preference of the system.
   * @throws {WinsockError} If the name cannot be resolved, such as WSAHOST_NOT_FOUND.
   * @throws The reason of the signal, if it is aborted first.
   */
  resolve(hostname: string, signal?: AbortSignal): Promise<string[]>;
  /** Resolves a name as {@linkcode SocketCalls.resolve} does, but blocks the calling thread. */
  resolveNow(hostname: string): string[];
  /** Connects an unbound socket. An aborted `signal` ends the attempt and throws its reason. */
  connect(s: bigint, address: SocketAddress, signal?: AbortSignal): Promise<void>;
  /**
   * Makes and binds a UDP socket that may broadcast, exclusively for this process unless `reuseAddress` is set; or a
   * local datagram socket.
   *
   * @throws {Deno.errors.NotSupported} If the system does not have an option.
   */
  bindDatagram(address: SocketAddress, options?: DatagramBindOptions): bigint;
  /** Calls `connect` on a UDP socket: it then sends to that address, and receives only from it. */
  connectDatagram(s: bigint, address: InternetAddress): void;
  /** Makes two connected local sockets. */
  pair(): [bigint, bigint];
  /** Returns another descriptor of the same socket in this process. Child processes do not inherit it. */
  duplicate(s: bigint): bigint;
  /** Returns the kind of socket `s`. An error names `operation`. */
  kind(s: bigint, operation: string): SocketKind;
  /**
   * Checks that a number is the descriptor of an open socket of this process.
   *
   * @throws {WinsockError} WSAENOTSOCK if it is not, with `operation` in its message.
   */
  assertSocket(s: bigint, operation: string): void;
  /** Returns whether `s` is a datagram socket (`SO_TYPE`). */
  isDatagram(s: bigint, operation: string): boolean;
  /** Returns whether a connection keeps the boundaries of messages (`SOCK_SEQPACKET`). */
  keepsMessages(s: bigint): boolean;
  /** Returns whether `s` is listening (`SO_ACCEPTCONN`). */
  isListening(s: bigint, operation: string): boolean;
  /** Calls `getsockname`. */
  localAddress(s: bigint): Deno.NetAddr | Deno.UnixAddr;
  /** Calls `getpeername`. */
  remoteAddress(s: bigint): Deno.NetAddr | Deno.UnixAddr;
  /** Calls `getsockopt`. */
  getOption<Name extends keyof SocketOptions>(s: bigint, name: Name): SocketOptions[Name];
  /** Calls `setsockopt`. */
  setOption<Name extends keyof SocketOptions>(s: bigint, name: Name, value: SocketOptions[Name]): void;
  /** Calls `getsockopt` with numbers of the system. Returns the bytes of the value, at most `size`. */
  getRawOption(s: bigint, level: number, optname: number, size: number): Uint8Array<ArrayBuffer>;
  /** Calls `setsockopt` with numbers of the system. */
  setRawOption(s: bigint, level: number, optname: number, value: Uint8Array<ArrayBuffer>): void;
  /**
   * Pauses accepting until the result is disposed. On some systems a child process can inherit a new connection before
   * its flag is changed; the caller must hold this while it spawns one.
   */
  holdAccepting(): Promise<Disposable>;
  /**
   * Calls `recv` with `MSG_PEEK` once `atLeast` bytes are available or the peer has ended its side.
   *
   * @returns The number of bytes copied; fewer than `atLeast` if no more will arrive; 0 at the end.
   * @throws {WinsockError} WSAENOTSOCK if {@linkcode SocketCalls.endWaits} is called meanwhile.
   * @throws The reason of the signal, if it is aborted first.
   */
  peek(s: bigint, buffer: Uint8Array<ArrayBuffer>, atLeast: number, signal?: AbortSignal): Promise<number>;
  /**
   * Waits for data and calls `recv`. Nothing is read after the signal is aborted or the wait has ended.
   *
   * @returns The number of bytes read; 0 at the end.
   * @throws {WinsockError} WSAENOTSOCK if {@linkcode SocketCalls.endWaits} is called meanwhile.
   * @throws The reason of the signal, if it is aborted first.
   */
  receive(s: bigint, buffer: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Promise<number>;
  /**
   * Starts accepting on a listening socket.
   *
   * @param isSole Returns whether no other process can be accepting on the socket at the moment.
   */
  acceptor(listener: bigint, isSole: () => boolean): Acceptor;
  /** Prepares a datagram socket of any origin for the following calls, which do not wait. */
  unblock(s: bigint): void;
  /**
   * Calls `sendto` without waiting. Returns the number of bytes sent, or `undefined` if there is no room at the moment.
   */
  sendDatagram(s: bigint, data: Uint8Array, address: SocketAddress): number | undefined;
  /**
   * Waits until there is room to send, or until a send would report an error.
   *
   * @throws {WinsockError} WSAENOTSOCK if {@linkcode SocketCalls.endWaits} is called meanwhile.
   */
  writable(s: bigint): Promise<void>;
  /** Starts receiving datagrams. */
  receiver(s: bigint): DatagramReceiver;
  /**
   * Shuts down both sides of a connection for every process that shares it. The peer reads the end after the data in
   * flight. Does nothing if the connection has ended.
   */
  shutDown(s: bigint): void;
  /**
   * Takes a connected stream socket, to read and write it by calls that do not wait.
   *
   * @param nonBlocking Whether the socket is already non-blocking. Defaults to `false`.
   */
  stream(s: bigint, nonBlocking?: boolean): StreamIo;
  /** Joins or leaves a multicast group on the interface with the given address (IPv4) or index (IPv6). */
  setMembership(s: bigint, member: boolean, group: string, networkInterface: string | number): void;
  /**
   * Ends all pending waits for a socket at once, because it is about to be closed or released and another socket may
   * get its number. Nothing uses the number after that. Waits that have no other way to end fail with WSAENOTSOCK.
   */
  endWaits(s: bigint): void;
  /** Calls `closesocket`, after {@linkcode SocketCalls.endWaits}. */
  close(s: bigint): void;
  /**
   * Removes the file of a local socket that was closed, if no process has a socket bound to it any more. A file that is
   * not a socket, or that may not be removed, stays.
   */
  removeLocal(path: string): void;
  /**
   * Closes a socket on a pool thread, because another process that shares it may have set `SO_LINGER`, which makes
   * closing block. Errors are ignored.
   *
   * @param end Whether both sides are shut down first.
   * @returns Resolves when it is closed.
   */
  closeElsewhere(s: bigint, end: boolean): Promise<void>;
  /**
   * Interrupts all calls of {@linkcode SocketCalls.closeElsewhere} that wait. The system sends what is left to send. Does
   * nothing on a system that cannot do this.
   */
  interruptCloses(): void;
  /** Prepares to watch which sockets other processes have open. `undefined` if the system cannot tell. */
  watchOpenSockets(): OpenSockets | undefined;
}

/**
 * Tells which sockets are still open, in whatever process, after this process has closed its own descriptors of them.
 * Nothing that another process does can make an open socket look closed.
 */
export interface OpenSockets {
  /**
   * Begins to watch a socket that this process has open.
   *
   * @param s The descriptor. It can be closed afterwards.
   * @param token The number by which {@linkcode OpenSockets.list} names the socket, from 0 to 2^32 - 1.
   * @returns Whether the system can watch it.
   */
  add(s: bigint, token: number): boolean;
  /** Returns the tokens of the sockets of which any process has a descriptor; `undefined` if the system does not tell. */
  list(): Set<number> | undefined;
  /** Ends watching. */
  close(): void;
}

/** The calls for event objects. */
export interface EventCalls {
  /** Calls `WSACreateEvent`. The event is not signalled. */
  create(): bigint;
  /** Calls `WSASetEvent`. */
  set(event: bigint): void;
  /** Calls `WSAResetEvent`. */
  reset(event: bigint): void;
  /** Calls `WSACloseEvent`. */
  close(event: bigint): void;
}

/** The catalog of service providers of the system. */
export interface CatalogCalls {
  /**
   * Calls `WSCEnumProtocols`. Returns the entries, 628 bytes each, in the order of the catalog, including layers and
   * chains.
   */
  entries(): Uint8Array<ArrayBuffer>[];
  /**
   * Calls `WSCGetProviderPath`. Returns the path of the library of the provider with this GUID (16 bytes); `undefined`
   * if it has none.
   */
  providerPath(providerId: Uint8Array<ArrayBuffer>): string | undefined;
  /** Calls `WSAIoctl` with `SIO_BASE_HANDLE`. Returns the base provider's handle of a socket. */
  baseHandle(s: bigint): bigint;
}

/**
 * A function that a provider passes on to the system, by the name of its member in WSPPROC_TABLE.
 *
 * @experimental
 */
export type PassedOnName =
  | "lpWSPAccept"
  | "lpWSPBind"
  | "lpWSPConnect"
  | "lpWSPEnumNetworkEvents"
  | "lpWSPEventSelect"
  | "lpWSPGetOverlappedResult"
  | "lpWSPGetPeerName"
  | "lpWSPGetSockName"
  | "lpWSPIoctl"
  | "lpWSPListen"
  | "lpWSPRecv"
  | "lpWSPRecvDisconnect"
  | "lpWSPRecvFrom"
  | "lpWSPSelect"
  | "lpWSPSend"
  | "lpWSPSendDisconnect"
  | "lpWSPSendTo"
  | "lpWSPShutdown";

/**
 * An argument that native code passes: a number, a handle, or a pointer to its memory.
 *
 * @experimental
 */
export type NativeArgument = number | bigint | Deno.PointerValue;

/**
 * Calls on descriptors and addresses. Each throws a {@linkcode WinsockError} on failure. Levels, options and families
 * have the numbers of the system.
 */
export interface ProviderCalls {
  /** Calls `getsockopt`: fills `optval` and returns the number of bytes used. */
  getOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number;
  /** Calls `setsockopt`. */
  setOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void;
  /**
   * Calls `WSAAddressToString`. Returns text such as `127.0.0.1:80` or `[fe80::1%2]:80`; without a port, only the
   * address.
   */
  addressToString(address: Uint8Array<ArrayBuffer>): string;
  /** Calls `WSAStringToAddress`: parses such a text and returns the address in the form that the system uses. */
  stringToAddress(text: string, family: number): Uint8Array<ArrayBuffer>;
  /**
   * Returns whether a `WSPStartup`, given by the path of its library or by its own address, is a placeholder in Wine.
   * Calling a placeholder would end the process.
   */
  isPlaceholder(code: string | bigint): boolean;
  /**
   * Calls a function of the system with the arguments of its function in WSPPROC_TABLE. `undefined` if the system does
   * not have these functions.
   *
   * @param name The function.
   * @param args The arguments, without `lpErrno`.
   * @returns Its result.
   */
  readonly passOn: ((name: PassedOnName, args: readonly NativeArgument[]) => number | bigint) | undefined;
  /** The calls for event objects; `undefined` if the system does not have them. */
  readonly events: EventCalls | undefined;
  /** The catalog; `undefined` if the system does not have one. */
  readonly catalog: CatalogCalls | undefined;
}
