/**
 * The class `Listener` and the function `listen`.
 *
 * @module
 */
import { check, HANDLE, integer, OBJECT, oneOf, STRING } from "../internal/options.ts";
import { asDeno, hasWinsockCode } from "../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../structs/constants.ts";
import { checkName, type InternetAddress, isAddress, type SocketAddr, toAddress } from "../ffi/socket_address.ts";
import { ownSocket, type Socket } from "./socket.ts";
import { type Acceptor, type LocalType, type SocketMaker, toBindOptions } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { Descriptor, onRelease, SocketWithOptions } from "./descriptor.ts";

const DEFAULT_BACKLOG = 511;
const TRANSPORT = oneOf("tcp", "unix");
const LOCAL_TYPE = oneOf("stream", "seqpacket");
const BACKLOG = integer(0, 2 ** 31 - 1);

/**
 * Milliseconds to wait after the system could not accept. An immediate retry fails again while too many files are open.
 */
const RETRY_MS = 100;

/**
 * Accepts the next connection, and tries again each time the system cannot accept.
 *
 * @param listener The listener to accept on.
 * @param onError Called with each error of the system. An error that it throws ends the attempts, and is thrown.
 * @param accept Accepts one connection. Defaults to {@linkcode Listener.accept}.
 * @returns The connection; `undefined` after the listener is closed or released.
 */
export async function acceptWithRetry<A extends SocketAddr>(
  listener: Listener<A>,
  onError: (error: unknown) => void = () => {},
  accept: () => Promise<Socket<A> | undefined> = () => listener.accept(),
): Promise<Socket<A> | undefined> {
  for (;;) {
    try {
      return await accept();
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return undefined;
      onError(error);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** Throws an error unless it is transient, such as a shortage of descriptors or memory. */
export function throwUnlessTransient(error: unknown): void {
  if (!hasWinsockCode(error, WSA_ERRORS.WSAEMFILE, WSA_ERRORS.WSAENOBUFS)) throw error;
}

/** Makes the {@linkcode Listener} that owns a descriptor which the system has just made. */
export let ownListener: <A extends SocketAddr = Deno.NetAddr>(handle: bigint, maker?: SocketMaker) => Listener<A>;

/**
 * Accepts the next connection, or stops when a signal is aborted. An aborted call has not accepted a connection.
 *
 * @returns The connection; `undefined` if the signal is aborted, or if the listener is closed or released.
 * @throws {WinsockError} The errors of {@linkcode Listener.accept}.
 */
export let acceptUntil: <A extends SocketAddr>(
  listener: Listener<A>,
  signal: AbortSignal,
) => Promise<Socket<A> | undefined>;

/**
 * Accepts on a listener while the caller wants connections and the listener is open. While the listener is paused, it
 * waits. It replaces the other ways of accepting on the listener, which must not be used at the same time. It costs
 * several promises less for each connection.
 *
 * @param wanted Returns whether another connection is wanted, as for {@linkcode Acceptor.acceptWhile}.
 * @param accepted Gets the socket of each connection, in the step in which it was accepted.
 * @param counted Whether {@linkcode Listener.connectionCount} counts the connections.
 */
export let acceptWhile: <A extends SocketAddr>(
  listener: Listener<A>,
  wanted: () => boolean,
  accepted: (socket: Socket<A>) => void,
  counted: boolean,
) => Promise<void>;

/**
 * The method by which an iterable passes its elements on, each in the step in which it arrives. A loop over the
 * iterable costs several promises for each element.
 */
export const passWhile: unique symbol = Symbol("passWhile");

/** An iterable that has the method {@linkcode passWhile}. */
export interface Passing<Element> {
  /**
   * Passes elements on while they are wanted. Must not be called while a call is pending.
   *
   * @param wanted Returns whether another element is wanted.
   * @param passed Gets each element. It must not throw.
   * @returns Resolves with whether more elements may arrive.
   * @throws Any error of the iterable.
   */
  [passWhile](wanted: () => boolean, passed: (element: Element) => void): Promise<boolean>;
}

/** Accepts on a listener in other processes. It is paused and resumed with the listener of this process. */
export interface CoAcceptor {
  /** Pauses accepting. Resolves when no accept is in progress. */
  pause(): Promise<void>;
  /** Resumes accepting. */
  resume(): void;
  /** Called when the listener was closed or released. */
  closed(): void;
}

/**
 * Makes another acceptor follow a listener. The acceptor is resumed at once if the listener is open and not paused.
 *
 * @returns A disposable. After it is disposed, the acceptor does not follow the listener any more.
 */
export let follow: (listener: Listener<SocketAddr>, acceptor: CoAcceptor) => Disposable;

/**
 * A listener for TCP, or on Linux and macOS for a local socket. The object owns its descriptor, as {@linkcode Socket}
 * does.
 *
 * Accepting does not block the event loop, and {@linkcode Listener.close} ends a pending {@linkcode Listener.accept} at
 * once. On Windows two processes must not accept on the same listener at the same time. Hand off the listener, or hand
 * off its connections.
 *
 * @typeParam A The type of its addresses: `Deno.NetAddr` for TCP, or `Deno.UnixAddr`.
 */
export class Listener<A extends SocketAddr = Deno.NetAddr> extends SocketWithOptions
  implements AsyncIterable<Socket<A>>, Disposable {
  readonly #descriptor: Descriptor;
  /** The address when the object was made. */
  readonly #addr: A;
  #acceptor: Acceptor | undefined;
  #referenced = true;
  #last: Promise<unknown> = Promise.resolve();
  readonly #followers = new Set<CoAcceptor>();
  /** While accepting is paused: resolves when accepting is resumed. */
  #paused: PromiseWithResolvers<void> | undefined;
  /** While a call waits until it may accept: makes the call check again. */
  #waiting: (() => void) | undefined;
  #connections = 0;
  #drained = Promise.withResolvers<void>();

  private constructor(descriptor: Descriptor) {
    super();
    this.#descriptor = descriptor;
    this.#addr = descriptor.useFirst((s) => systemCalls().localAddress(s)) as A;
  }

  /**
   * Takes ownership of the descriptor of a listener. The file of a local socket stays when the listener is closed,
   * because the program that made the file may still use it.
   *
   * @param handle The descriptor. It is unchanged if this throws.
   * @returns The listener that owns the descriptor. The type parameter is not checked.
   * @throws {TypeError} If it is not a listener, or if another object of this process owns it.
   * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
   */
  static fromHandle<A extends SocketAddr = Deno.NetAddr>(handle: bigint): Listener<A> {
    check("handle", handle, HANDLE);
    const kind = systemCalls().kind(handle, `take over socket ${handle}`);
    if (kind !== "listener") throw new TypeError(`Cannot take over socket ${handle}: it is a ${kind}, not a listener`);
    return new Listener(Descriptor.adopt(handle));
  }

  static {
    ownListener = (handle, maker) => {
      const descriptor = Descriptor.own(handle, maker);
      const listener = new Listener<SocketAddr>(descriptor);
      const { addr } = listener;
      if (addr.transport === "unix") descriptor.path = addr.path;
      // deno-lint-ignore no-explicit-any -- the caller is responsible for the type of address
      return listener as Listener<any>;
    };
    acceptUntil = async (listener, signal) => {
      const stop = () => void listener.#interrupt();
      signal.addEventListener("abort", stop);
      try {
        return await listener.#next(signal);
      } finally {
        signal.removeEventListener("abort", stop);
      }
    };
    follow = (listener, acceptor) => {
      if (!listener.#descriptor.open) acceptor.closed();
      else {
        listener.#followers.add(acceptor);
        if (listener.#paused === undefined) acceptor.resume();
      }
      return { [Symbol.dispose]: () => void listener.#followers.delete(acceptor) };
    };
    acceptWhile = (listener, wanted, accepted, counted) => listener.#acceptWhile(wanted, accepted, counted);
  }

  /** The descriptor. `INVALID_SOCKET` (all 64 bits set) after the object has closed or released it. */
  get handle(): bigint {
    return this.#descriptor.handle;
  }

  /**
   * The address and port, or the path, that the listener listens on (`getsockname`). It stays available after the
   * listener is closed or released.
   */
  get addr(): A {
    return this.#addr;
  }

  /**
   * Waits for the next connection. Concurrent calls are served in order.
   *
   * @returns The socket of the connection, which the caller must close. Child processes do not inherit it.
   * @throws {Deno.errors.BadResource} If the listener is closed or released, also while this waits.
   * @throws {WinsockError} If the system cannot accept now, such as WSAEMFILE while too many files are open, which Deno
   * has no class for. The listener stays open, and connections wait in the backlog. Accept again after a delay.
   */
  async accept(): Promise<Socket<A>> {
    const socket = await this.#next();
    if (socket === undefined) throw new Deno.errors.BadResource("Listener has been closed");
    return socket;
  }

  /**
   * Yields the connections until the listener is closed or released. Leaving the loop closes the listener, as in Deno.
   * To keep the listener open, use {@linkcode Listener.accept}.
   *
   * While too many files are open, or memory is exhausted, connections wait in the backlog. The loop tries again every
   * 100 ms. To get these errors, use {@linkcode Listener.accept}.
   *
   * @throws {WinsockError} The other errors of {@linkcode Listener.accept}. The loop then ends, and a new loop can be
   * started.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Socket<A>, void, void> {
    const next = () => acceptWithRetry(this, throwUnlessTransient);
    for (let socket = await next(); socket !== undefined; socket = await next()) {
      let left = true;
      try {
        yield socket;
        left = false;
      } finally {
        if (left) this.close();
      }
    }
  }

  /**
   * Pauses accepting: {@linkcode Listener.accept} and a loop wait. The system keeps the connections that arrive. This
   * process, or another process that has the socket, can accept them later.
   *
   * @returns Resolves when no accept is in progress. For a listener that was closed, resolves when this process no
   * longer uses its address.
   */
  async pause(): Promise<void> {
    this.#paused ??= Promise.withResolvers();
    await Promise.all([this.#acceptor?.stop(), ...[...this.#followers].map((follower) => follower.pause())]);
    await this.#descriptor.closing;
  }

  /** Resumes accepting. Does nothing if accepting was not paused. */
  resume(): void {
    const paused = this.#paused;
    if (paused === undefined) return;
    this.#paused = undefined;
    paused.resolve();
    for (const follower of this.#followers) follower.resume();
  }

  /** Makes a pending {@linkcode Listener.accept} or loop keep the process running. This is the default. */
  ref(): void {
    this.#setReferenced(true);
  }

  /**
   * Lets the process end while {@linkcode Listener.accept} or a loop is pending. Connections are still accepted, on
   * macOS up to 10 ms later.
   */
  unref(): void {
    this.#setReferenced(false);
  }

  #setReferenced(referenced: boolean): void {
    this.#referenced = referenced;
    if (this.#acceptor !== undefined) this.#acceptor.referenced = referenced;
  }

  /** The number of connections accepted by this object that this process has not closed or released. */
  get connectionCount(): number {
    return this.#connections;
  }

  /** Resolves when {@linkcode Listener.connectionCount} is 0: at once if it is 0 now. */
  drained(): Promise<void> {
    if (this.#connections === 0) return Promise.resolve();
    return this.#drained.promise;
  }

  /**
   * Releases the descriptor. It stays open, and the caller must close it. A pending accept ends.
   *
   * @returns The descriptor; `INVALID_SOCKET` if it was closed or released before.
   */
  detach(): bigint {
    this.#acceptor?.stop().catch(() => {});
    const handle = this.#descriptor.release();
    this.#end();
    return handle;
  }

  /**
   * Closes the descriptor and ends a pending accept. Does nothing if it was closed or released.
   *
   * If {@linkcode listen} made a local socket, in this process or in the source of a hand-off, its file is removed with
   * the last descriptor. While another process has a descriptor, the file stays.
   *
   * If an accept is pending, the address may stay in use until that accept has ended, shortly afterwards. To listen on
   * the address again at once, await {@linkcode Listener.pause} before or after closing.
   *
   * @throws {WinsockError} If the descriptor cannot be closed. The listener still owns it, unless there is no such
   * socket.
   */
  close(): void {
    try {
      this.#descriptor.close(this.#descriptor.open ? this.#acceptor?.end() : undefined);
    } finally {
      this.#end();
    }
  }

  /** Ends the calls that wait until accepting is resumed, and informs the followers. */
  #end(): void {
    for (const follower of this.#followers) follower.closed();
    this.#followers.clear();
    this.resume();
  }

  /** Closes the listener like {@linkcode Listener.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Makes the call that accepts, or that waits until it may accept, check again whether it is still wanted. */
  #interrupt(): void {
    this.#acceptor?.stop().catch(() => {});
    this.#waiting?.();
  }

  #next(signal?: AbortSignal): Promise<Socket<A> | undefined> {
    const next = this.#last.then(() => this.#acceptOne(signal));
    this.#last = next.catch(() => {});
    return next;
  }

  async #acceptOne(signal: AbortSignal | undefined): Promise<Socket<A> | undefined> {
    while (this.#descriptor.open && !signal?.aborted) {
      if (this.#paused !== undefined) {
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#waiting = resolve;
        await Promise.race([this.#paused.promise, promise]);
        continue;
      }
      const handle = await this.#descriptor.wait((s) => this.#openAcceptor(s).accept());
      if (handle !== undefined) return this.#own(handle);
      this.#acceptorStopped();
    }
    return undefined;
  }

  async #acceptWhile(
    wanted: () => boolean,
    accepted: (socket: Socket<A>) => void,
    counted: boolean,
  ): Promise<void> {
    const take = (handle: bigint) => accepted(counted ? this.#own(handle) : ownSocket(handle));
    while (this.#descriptor.open && wanted()) {
      if (this.#paused !== undefined) {
        await this.#paused.promise;
        continue;
      }
      const goesOn = await this.#descriptor.wait((s) => this.#openAcceptor(s).acceptWhile(wanted, take));
      if (!goesOn) this.#acceptorStopped();
    }
  }

  #openAcceptor(s: bigint): Acceptor {
    if (this.#acceptor !== undefined) return this.#acceptor;
    this.#acceptor = systemCalls().acceptor(s, () => this.#descriptor.sole);
    this.#acceptor.referenced = this.#referenced;
    return this.#acceptor;
  }

  /**
   * Drops an acceptor that has stopped, so that the next call makes a new one. The acceptor of a closed listener is
   * kept, because callers may wait for its end.
   */
  #acceptorStopped(): void {
    if (this.#descriptor.open) this.#acceptor = undefined;
  }

  #own(handle: bigint): Socket<A> {
    const socket = ownSocket<A>(handle);
    this.#connections++;
    onRelease(socket, this.#released);
    return socket;
  }

  /** Notes that one of the connections was closed or released. */
  readonly #released = (): void => {
    if (--this.#connections > 0) return;
    this.#drained.resolve();
    this.#drained = Promise.withResolvers();
  };
}

/** Options for {@linkcode listen} with TCP, in the shape of `Deno.TcpListenOptions`. */
export interface ListenOptions {
  /** The protocol. Defaults to `"tcp"`. */
  transport?: "tcp";
  /**
   * An IPv4 or IPv6 address, optionally in brackets, `localhost` for 127.0.0.1, or the name of a host. The scope of an
   * address must be a number (`fe80::1%3`). Defaults to `"0.0.0.0"`. With `::`, IPv4 connections are also accepted.
   */
  hostname?: string;
  /** The port. With 0 the system chooses one. Defaults to `0`. */
  port?: number;
  /** The number of connections that may wait to be accepted. The system may have a lower limit. Defaults to `511`. */
  tcpBacklog?: number;
  /**
   * Whether several sockets may listen on the port, if all of them set this (`SO_REUSEPORT`). On Linux each socket gets
   * a part of the connections. Connections that wait for one socket are lost when that socket is closed. Not supported
   * on Windows. Defaults to `false`.
   */
  reusePort?: boolean;
  /**
   * Whether an IPv6 socket accepts only IPv6 connections (`IPV6_V6ONLY`). Defaults to `false` for `::`, and to the
   * setting of the system for other addresses.
   */
  ipv6Only?: boolean;
  /**
   * Whether to listen on an address that this host does not have yet (`IP_FREEBIND`), such as one that moves between
   * hosts. Linux only. Defaults to `false`.
   */
  freeBind?: boolean;
}

/** Options for {@linkcode listen} with a local socket, on Linux and macOS. */
export interface ListenLocalOptions {
  /** The protocol. Defaults to `"unix"`. */
  transport?: "unix";
  /**
   * The path of a file, or on Linux `"\0"` and an abstract name (unix(7)). An abstract name exists until its last
   * descriptor is closed. At most 107 bytes, on macOS 103.
   */
  path: string;
  /** The number of connections that may wait to be accepted. The system may have a lower limit. Defaults to `511`. */
  backlog?: number;
  /**
   * The type of the socket. With `"seqpacket"` its connections carry messages instead of a stream of bytes: each write
   * is one message, and each read returns one. What does not fit into the buffer of a read is lost, and an empty message
   * looks like the end. A stream made with `readable` reads at most 64 KiB of a message. Not supported on macOS.
   * Defaults to `"stream"`.
   */
  type?: LocalType;
}

/**
 * Returns the transport that options are for.
 *
 * @throws {TypeError} If the options are not an object; if the transport is unknown, or is `"unix"` and the path is not
 * a string.
 */
export function transportOf(
  options: { readonly transport?: string | undefined; readonly path?: unknown },
): "tcp" | "unix" {
  check("options", options, OBJECT);
  const { transport = options.path !== undefined ? "unix" : "tcp", path } = options;
  check("transport", transport, TRANSPORT);
  if (transport === "unix") check("path", path, STRING);
  return transport as "tcp" | "unix";
}

/**
 * Checks the type of a local socket.
 *
 * @throws {TypeError} If it is unknown.
 */
export function checkLocalType(type: unknown): void {
  if (type !== undefined) check("type", type, LOCAL_TYPE);
}

/**
 * Returns the address to bind a socket to. A name is looked up on this thread, as Deno does; its first address is used.
 *
 * @throws {TypeError} If the hostname is not a string, or cannot be looked up; or if the port is not an integer.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {WinsockError} If the name cannot be resolved.
 */
export function addressToBind(options: { hostname?: string; port?: number | undefined }): InternetAddress {
  const address = toAddress(options, "0.0.0.0", 0);
  if (isAddress(address.hostname)) return address;
  checkName(address.hostname);
  return { ...address, hostname: systemCalls().resolveNow(address.hostname)[0]! };
}

/**
 * Listens for TCP connections (`bind`, `listen`), in the shape of `Deno.listen`.
 *
 * No other socket can listen on the port unless `reusePort` is set (`SO_EXCLUSIVEADDRUSE` on Windows). Child processes
 * do not inherit the listener. The system looks up the name of a host, as for {@linkcode connect}, and this listens on its
 * first address. As with `Deno.listen`, this blocks the thread until the answer is there: an address, and `localhost`,
 * need no lookup. Needs ffi access to the system's socket library, and no net permission.
 *
 * @example A listener on a port that the system chooses
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * assertEquals(listener.addr.hostname, "127.0.0.1");
 * ```
 *
 * @param options The address to listen on, and its options.
 * @returns The listener, which the caller must close.
 * @throws {TypeError} If the address is not valid, or its scope is not a number; if the port is not an integer; if
 * `ipv6Only` is set for an IPv4 address.
 * @throws {RangeError} If the port is not between 0 and 65535, or `tcpBacklog` is not an integer from 0 to 2 147 483
 * 647.
 * @throws {Deno.errors.AddrInUse} If the port is in use.
 * @throws {Deno.errors.AddrNotAvailable} If this host does not have the address.
 * @throws {Deno.errors.PermissionDenied} If the process may not use the port.
 * @throws {Deno.errors.NotSupported} If `reusePort` is set on Windows, or `freeBind` on a system other than Linux.
 * @throws {WinsockError} If the system reports an error that Deno has no class for, such as WSAHOST_NOT_FOUND for a name
 * that is not known. It is also the `cause` of the errors of the system that Deno has a class for.
 */
export function listen(options: ListenOptions): Listener;
/**
 * Listens on a local socket, on Linux and macOS, in the shape of `Deno.listen`.
 *
 * The file of the socket is removed when the last process that has the listener closes it. If that process is killed,
 * the file stays, and listening there throws `Deno.errors.AddrInUse`. Before listening, connect to the file: if that
 * fails with `Deno.errors.ConnectionRefused`, no process listens, and you can remove the file.
 *
 * On Linux 6.16 or newer its connections refuse descriptors (`SO_PASSRIGHTS`): a client that sends one gets EPERM.
 * Closing a descriptor can block the thread, and nothing here receives it. For a program that does receive descriptors,
 * call `setRawOption(1, 83, 1)` on the listener at once.
 *
 * Child processes do not inherit the listener. Needs ffi access to the system's socket library, and no read or write
 * permission. The file system must allow the process to write to the directory.
 *
 * @param options The local socket to listen on.
 * @returns The listener, which the caller must close.
 * @throws {TypeError} If the path is empty, or is the path of a file and contains a NUL; if the type is unknown.
 * @throws {RangeError} If the path is too long, or `backlog` is not an integer from 0 to 2 147 483 647.
 * @throws {Deno.errors.AddrInUse} If the file exists, or the abstract name is in use.
 * @throws {Deno.errors.NotFound} If the directory does not exist.
 * @throws {Deno.errors.PermissionDenied} If the process may not make the file.
 * @throws {Deno.errors.NotSupported} On Windows, and on macOS for an abstract name or type `"seqpacket"`.
 * @throws {WinsockError} If the system reports an error that Deno has no class for. It is also the `cause` of the
 * errors of the system that Deno has a class for.
 */
export function listen(options: ListenLocalOptions): Listener<Deno.UnixAddr>;
export function listen(options: ListenOptions | ListenLocalOptions): Listener<SocketAddr> {
  if (transportOf(options) === "unix") {
    const { path, backlog = DEFAULT_BACKLOG, type } = options as ListenLocalOptions;
    check("backlog", backlog, BACKLOG);
    checkLocalType(type);
    return ownListener(asDeno(() => systemCalls().listen({ path }, backlog, { type })));
  }
  const { tcpBacklog = DEFAULT_BACKLOG, ...others } = options as ListenOptions;
  check("tcpBacklog", tcpBacklog, BACKLOG);
  const address = addressToBind(others);
  const before = toBindOptions(others, address.hostname);
  return ownListener(asDeno(() => systemCalls().listen(address, tcpBacklog, before)));
}
