/**
 * What the library asks of a system's sockets: one interface, implemented once on ws2_32 and once on libc.
 *
 * @module
 */

/** `INVALID_SOCKET`: the handle of no socket, all bits set. Calls given it fail with WSAENOTSOCK. */
export const INVALID_SOCKET = 0xffff_ffff_ffff_ffffn;

/** The socket options that can be read and set by name, with the type of their value. */
export interface SocketOptions {
  /** Send small segments at once instead of gathering them (Nagle's algorithm off). */
  TCP_NODELAY: boolean;
  /** Probe an idle connection to notice that the peer is gone. */
  SO_KEEPALIVE: boolean;
  /** Size of the receive buffer in bytes; Linux doubles what is set. */
  SO_RCVBUF: number;
  /** Size of the send buffer in bytes; Linux doubles what is set. */
  SO_SNDBUF: number;
}

/** What a descriptor is. */
export type SocketKind = "connection" | "listener" | "datagram";

/** Waits for connections on one listening socket, without blocking the event loop. */
export interface Acceptor {
  /**
   * The next connection, not inheritable; `undefined` once the acceptor is closed. One call at a time.
   *
   * @throws {WinsockError} If accepting fails for good.
   */
  accept(): Promise<bigint | undefined>;
  /** Wakes a pending {@linkcode Acceptor.accept} at once; the listening socket stays open. */
  stop(): Promise<void>;
  /** Wakes a pending {@linkcode Acceptor.accept} at once and closes the listening socket. */
  close(): void;
}

/**
 * Socket calls that throw. Handles are bigints on every system; errors are {@linkcode WinsockError}s.
 *
 * Sockets made here are not inherited by child processes.
 */
export interface SocketCalls {
  /** Makes an unbound TCP socket of the address family `hostname` belongs to. */
  open(hostname: string): bigint;
  /** Binds and listens, for this process exclusively, and returns the listening socket. */
  listen(address: { hostname: string; port: number }, backlog: number): bigint;
  /** Connects an unbound socket; an aborted `signal` ends the attempt and throws its reason. */
  connect(s: bigint, address: { hostname: string; port: number }, signal?: AbortSignal): Promise<void>;
  /** Two connected local sockets. */
  pair(): [bigint, bigint];
  /** What `s` is, asked for the sake of `operation`. */
  kind(s: bigint, operation: string): SocketKind;
  /** Whether `s` is a datagram socket (`SO_TYPE`); this is also how a number shows that it is a socket at all. */
  isDatagram(s: bigint, operation: string): boolean;
  /** Whether `s` listens (`SO_ACCEPTCONN`). */
  isListening(s: bigint, operation: string): boolean;
  /** `getsockname` */
  localAddress(s: bigint): Deno.NetAddr;
  /** `getpeername` */
  remoteAddress(s: bigint): Deno.NetAddr;
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
   * Waits until there is something to read, or a while has passed, and looks at it (`recv` with `MSG_PEEK`).
   *
   * @returns How many bytes were copied; 0 at the end; `undefined` if there is nothing yet.
   */
  peek(s: bigint, buffer: Uint8Array): Promise<number | undefined>;
  /** Starts waiting for connections on a listening socket. */
  acceptor(listener: bigint): Acceptor;
  /** `closesocket` */
  close(s: bigint): void;
}
