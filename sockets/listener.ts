/**
 * A listening socket and its owner, and making one.
 *
 * @module
 */
import { asDeno, hasWinsockCode } from "../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../structs/constants.ts";
import { type SocketAddr, toAddress } from "../ffi/socket_address.ts";
import { ownSocket, type Socket } from "./socket.ts";
import { type Acceptor, type SocketMaker, toBindOptions } from "../ffi/platform.ts";
import type { SocketOptions } from "../ffi/socket_options.ts";
import { systemCalls } from "../ffi/system.ts";
import { Descriptor, onRelease } from "./descriptor.ts";

const DEFAULT_BACKLOG = 511;

/** How long to wait after the system could not accept: with too many files open, trying again at once is no use. */
const RETRY_MS = 100;

/**
 * Accepts the next connection, however often the system cannot meanwhile.
 *
 * @param listener Where.
 * @param onError Told of what kept the system from accepting; what it throws ends this.
 * @param accept Accepts one.
 * @returns The connection; `undefined` once the listener is closed or given up.
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

/** Throws an error that does not go by itself, as a shortage of descriptors or memory does. */
export function throwUnlessTransient(error: unknown): void {
  if (!hasWinsockCode(error, WSA_ERRORS.WSAEMFILE, WSA_ERRORS.WSAENOBUFS)) throw error;
}

/** Makes the {@linkcode Listener} of a descriptor the system has just made. */
export let ownListener: <A extends SocketAddr = Deno.NetAddr>(handle: bigint, maker?: SocketMaker) => Listener<A>;

/**
 * Accepts the next connection, until a signal is aborted: what it aborts has accepted nothing.
 *
 * @returns The connection; `undefined` when the signal is aborted, or the listener is closed or given up.
 * @throws {WinsockError} As {@linkcode Listener.accept}.
 */
export let acceptUntil: <A extends SocketAddr>(
  listener: Listener<A>,
  signal: AbortSignal,
) => Promise<Socket<A> | undefined>;

/**
 * Accepts on a listener for as long as connections are wanted, it is open and not paused. In place of its other ways of
 * accepting, not beside them, and without counting its connections.
 *
 * @param wanted As {@linkcode Acceptor.acceptWhile} asks it.
 * @param accepted Gets the socket of each connection, in the step in which it was accepted.
 */
export let acceptWhile: <A extends SocketAddr>(
  listener: Listener<A>,
  wanted: () => boolean,
  accepted: (socket: Socket<A>) => void,
) => Promise<void>;

/** What accepts on a listener in other processes, and stops when the listener here does. */
export interface CoAcceptor {
  /** Resolves when it accepts no more, for now. */
  pause(): Promise<void>;
  /** Accepts again. */
  resume(): void;
  /** The listener was closed or released. */
  closed(): void;
}

/**
 * Has another acceptor follow a listener: it is resumed at once if the listener is open and not paused.
 *
 * @returns Ends that.
 */
export let follow: (listener: Listener<SocketAddr>, acceptor: CoAcceptor) => Disposable;

/**
 * A listening socket of TCP, or except on Windows a local one. The object owns its descriptor, as {@linkcode Socket}
 * does.
 *
 * Accepting never blocks the event loop, and {@linkcode Listener.close} ends a pending {@linkcode Listener.accept} at
 * once. On Windows two processes must not accept on the same listener at the same time: give the listener away, or pass
 * on its connections.
 *
 * @typeParam A What its addresses are: of TCP, or `Deno.UnixAddr`.
 */
export class Listener<A extends SocketAddr = Deno.NetAddr> implements AsyncIterable<Socket<A>>, Disposable {
  readonly #descriptor: Descriptor;
  /** As it was when the listener was open. */
  readonly #addr: A;
  #acceptor: Acceptor | undefined;
  #referenced = true;
  #last: Promise<unknown> = Promise.resolve();
  readonly #followers = new Set<CoAcceptor>();
  /** While accepting is paused: resolves when that ends. */
  #paused: PromiseWithResolvers<void> | undefined;
  /** While a call waits until it may accept: has it look again. */
  #waiting: (() => void) | undefined;
  #connections = 0;
  #drained = Promise.withResolvers<void>();

  private constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
    this.#addr = descriptor.use((s) => systemCalls().localAddress(s)) as A;
  }

  /**
   * Takes ownership of a listening stream socket's descriptor. The file of a local one stays when it is closed, for what
   * made it may still use it.
   *
   * @param handle The descriptor. It is left alone if this throws.
   * @returns The listener that owns it; whoever names a type of address vouches for it.
   * @throws {TypeError} If it does not listen, or belongs to another object already.
   * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
   */
  static fromHandle<A extends SocketAddr = Deno.NetAddr>(handle: bigint): Listener<A> {
    const kind = systemCalls().kind(handle, `take over socket ${handle}`);
    if (kind !== "listener") throw new TypeError(`Cannot take over socket ${handle}: it is a ${kind}, not a listener`);
    return new Listener(Descriptor.adopt(handle));
  }

  static {
    ownListener = (handle, maker) => {
      const descriptor = Descriptor.own(handle, maker);
      try {
        const listener = new Listener<SocketAddr>(descriptor);
        const { addr } = listener;
        if (addr.transport === "unix") descriptor.path = addr.path;
        // deno-lint-ignore no-explicit-any -- the caller vouches for the type of address
        return listener as Listener<any>;
      } catch (error) {
        descriptor.release();
        throw error;
      }
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
    acceptWhile = (listener, wanted, accepted) => listener.#acceptWhile(wanted, accepted);
  }

  /** The descriptor; `INVALID_SOCKET` (all 64 bits set) once the object has given it up. */
  get handle(): bigint {
    return this.#descriptor.handle;
  }

  /** The address and port, or the path, listened on (`getsockname`); also after the listener was closed or given up. */
  get addr(): A {
    return this.#addr;
  }

  /**
   * Waits for the next connection. Calls made while one is pending are answered in turn.
   *
   * @returns The connection's socket, which child processes do not inherit; the caller's to close.
   * @throws {Deno.errors.BadResource} If the listener is closed or given up, also while this waits.
   * @throws {WinsockError} If the system cannot accept now, such as WSAEMFILE while too many files are open: Deno has no
   * class for that. The listener stays open, and connections wait: accept again after a pause.
   */
  async accept(): Promise<Socket<A>> {
    const socket = await this.#next();
    if (socket === undefined) throw new Deno.errors.BadResource("Listener has been closed");
    return socket;
  }

  /**
   * The connections, until the listener is closed or given up. Leaving the loop closes the listener, as in Deno; who wants
   * to keep it calls {@linkcode Listener.accept}.
   *
   * While too many files are open, or there is no memory, connections wait, and the loop with them: it tries again every
   * 100 ms. Who wants to hear of that calls {@linkcode Listener.accept}.
   *
   * @throws {WinsockError} As {@linkcode Listener.accept} otherwise. That ends the loop, and another can follow it.
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
   * Stops accepting: {@linkcode Listener.accept} and the loop wait. Connections go on arriving, and wait in the system to
   * be accepted, here or by whoever else has the socket.
   *
   * @returns Resolves when nothing is being accepted any more; of a listener that was closed, when this process has
   * nothing at its address any more.
   */
  async pause(): Promise<void> {
    this.#paused ??= Promise.withResolvers();
    await Promise.all([this.#acceptor?.stop(), ...[...this.#followers].map((follower) => follower.pause())]);
    await this.#descriptor.closing;
  }

  /** Accepts again; if it was not paused, does nothing. */
  resume(): void {
    const paused = this.#paused;
    if (paused === undefined) return;
    this.#paused = undefined;
    paused.resolve();
    for (const follower of this.#followers) follower.resume();
  }

  /** Has a pending {@linkcode Listener.accept}, and the loop, keep the process running, which they do at first. */
  ref(): void {
    this.#setReferenced(true);
  }

  /**
   * Lets the process end while {@linkcode Listener.accept} or the loop waits. Connections are accepted as before, on macOS
   * up to 10 ms later.
   */
  unref(): void {
    this.#setReferenced(false);
  }

  #setReferenced(referenced: boolean): void {
    this.#referenced = referenced;
    if (this.#acceptor !== undefined) this.#acceptor.referenced = referenced;
  }

  /** How many of the connections accepted here this process has, and has not closed or given up. */
  get connectionCount(): number {
    return this.#connections;
  }

  /** Resolves when this process has none of the connections accepted here: at once, if it has none now. */
  drained(): Promise<void> {
    if (this.#connections === 0) return Promise.resolve();
    return this.#drained.promise;
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
   * Gives up ownership: the descriptor stays open and is the caller's to close. A pending accept ends.
   *
   * @returns The descriptor; `INVALID_SOCKET` if it was closed or given up before.
   */
  detach(): bigint {
    this.#acceptor?.stop().catch(() => {});
    const handle = this.#descriptor.release();
    this.#end();
    return handle;
  }

  /**
   * Closes this descriptor and ends a pending accept; once it is closed or given up, does nothing.
   *
   * The file of a local socket that {@linkcode listen} made, here or in the process that handed it over, is removed with
   * the last descriptor: while another process has one, it stays.
   *
   * Where an accept was pending, the address may be in use until that has ended, a moment later: to listen there at once,
   * await {@linkcode Listener.pause}, before or after.
   *
   * @throws {WinsockError} If it cannot be closed. The listener then still owns it, unless there is no such socket.
   */
  close(): void {
    try {
      this.#descriptor.close(this.#descriptor.open ? this.#acceptor?.end() : undefined);
    } finally {
      this.#end();
    }
  }

  /** What waits until accepting is resumed learns that it is not. */
  #end(): void {
    for (const follower of this.#followers) follower.closed();
    this.#followers.clear();
    this.resume();
  }

  /** The same as {@linkcode Listener.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Has the call that accepts, or waits until it may, look again whether it is wanted. */
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

  async #acceptWhile(wanted: () => boolean, accepted: (socket: Socket<A>) => void): Promise<void> {
    while (this.#descriptor.open && this.#paused === undefined && wanted()) {
      const goesOn = await this.#descriptor.wait((s) => {
        return this.#openAcceptor(s).acceptWhile(wanted, (handle) => accepted(ownSocket(handle)));
      });
      if (!goesOn) this.#acceptorStopped();
    }
  }

  #openAcceptor(s: bigint): Acceptor {
    if (this.#acceptor !== undefined) return this.#acceptor;
    this.#acceptor = systemCalls().acceptor(s, () => this.#descriptor.sole);
    this.#acceptor.referenced = this.#referenced;
    return this.#acceptor;
  }

  /** One that has stopped is replaced; that of a listener that was closed is kept for whoever waits for its end. */
  #acceptorStopped(): void {
    if (this.#descriptor.open) this.#acceptor = undefined;
  }

  #own(handle: bigint): Socket<A> {
    const socket = ownSocket<A>(handle);
    this.#connections++;
    onRelease(socket, () => {
      if (--this.#connections > 0) return;
      this.#drained.resolve();
      this.#drained = Promise.withResolvers();
    });
    return socket;
  }
}

/** Where {@linkcode listen} listens, in the shape of `Deno.TcpListenOptions`. */
export interface ListenOptions {
  /** Which protocol. Defaults to `"tcp"`. */
  transport?: "tcp";
  /**
   * An IPv4 or IPv6 address, which may be in brackets, or `localhost` for 127.0.0.1; a scope behind it is a number
   * (`fe80::1%3`). Defaults to `"0.0.0.0"`; `::` takes IPv4 connections too.
   */
  hostname?: string;
  /** The port; 0 lets the system choose one. Defaults to `0`. */
  port?: number;
  /** Connections that may wait to be accepted. Defaults to `511`; the system may have a lower limit. */
  tcpBacklog?: number;
  /**
   * Whether several sockets that all set it may listen on the port (`SO_REUSEPORT`); on Linux each gets a part of the
   * connections, and those that wait for one are lost when it is closed. Not on Windows. Defaults to `false`.
   */
  reusePort?: boolean;
  /**
   * Whether an IPv6 socket takes IPv6 connections only (`IPV6_V6ONLY`). Defaults to `false` for `::`, and for other
   * addresses to what the system has.
   */
  ipv6Only?: boolean;
}

/** Which local socket {@linkcode listen} listens on, on Linux and macOS. */
export interface ListenLocalOptions {
  /** Which protocol. Defaults to `"unix"`. */
  transport?: "unix";
  /**
   * A file, or on Linux `"\0"` and an abstract name, which goes with its last descriptor (unix(7)); at most 107 bytes, on
   * macOS 103.
   */
  path: string;
  /** Connections that may wait to be accepted. Defaults to `511`; the system may have a lower limit. */
  backlog?: number;
}

/**
 * Which transport options are for.
 *
 * @throws {TypeError} If it is unknown, or does not go with a path.
 */
export function transportOf(
  options: { readonly transport?: string | undefined; readonly path?: unknown },
): "tcp" | "unix" {
  const { transport = typeof options.path === "string" ? "unix" : "tcp" } = options;
  if (transport !== "tcp" && transport !== "unix") {
    throw new TypeError(`Invalid \`transport\`: must be "tcp" or "unix", got "${transport}"`);
  }
  if (transport === "unix" && typeof options.path !== "string") {
    throw new TypeError(`Invalid \`path\`: must be a string, got ${options.path}`);
  }
  return transport;
}

/**
 * Listens for TCP connections (`bind`, `listen`), in the shape of `Deno.listen`.
 *
 * The port is this socket's alone unless `reusePort` is set (`SO_EXCLUSIVEADDRUSE` on Windows), and child processes do not
 * inherit it. Names other than `localhost` are not looked up. Needs ffi access to the system's socket library, and no net
 * permission.
 *
 * @example
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * assertEquals(listener.addr.hostname, "127.0.0.1");
 * ```
 *
 * @param options Where to listen.
 * @returns The listener; the caller's to close.
 * @throws {TypeError} If the hostname is not an IP address, or has another scope than a number; if the port is not an
 * integer; if `ipv6Only` is set for an IPv4 address.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 * @throws {Deno.errors.AddrNotAvailable} If this host does not have the address.
 * @throws {Deno.errors.PermissionDenied} If the port may not be used.
 * @throws {Deno.errors.NotSupported} If `reusePort` is set on Windows.
 * @throws {WinsockError} If the system refuses for a reason that Deno has no class for; it is the `cause` of the others.
 */
export function listen(options: ListenOptions): Listener;
/**
 * Listens on a local socket, on Linux and macOS, in the shape of `Deno.listen`.
 *
 * The socket's file is removed when the last process that has the listener closes it; one that is killed leaves it behind.
 * Then this throws AddrInUse. Remove the file before listening if connecting to it fails with ConnectionRefused: then no
 * process listens. Child processes do not inherit the socket. Needs ffi access to the system's socket library, and no
 * read or write permission; a process that may write to the directory may listen there.
 *
 * @param options Where to listen.
 * @returns The listener; the caller's to close.
 * @throws {TypeError} If the path is empty, or a file's with a NUL in it.
 * @throws {RangeError} If the path is too long.
 * @throws {Deno.errors.AddrInUse} If there is such a file, or such an abstract name in use.
 * @throws {Deno.errors.NotFound} If there is no such directory.
 * @throws {Deno.errors.PermissionDenied} If the file may not be made.
 * @throws {Deno.errors.NotSupported} On Windows; on macOS for an abstract name.
 * @throws {WinsockError} If the system refuses for a reason that Deno has no class for; it is the `cause` of the others.
 */
export function listen(options: ListenLocalOptions): Listener<Deno.UnixAddr>;
export function listen(options: ListenOptions | ListenLocalOptions): Listener<SocketAddr> {
  if (transportOf(options) === "unix") {
    const { path, backlog = DEFAULT_BACKLOG } = options as ListenLocalOptions;
    return ownListener(asDeno(() => systemCalls().listen({ path }, backlog)));
  }
  const { tcpBacklog = DEFAULT_BACKLOG, ...others } = options as ListenOptions;
  const address = toAddress(others, "0.0.0.0", 0);
  const before = toBindOptions(others, address.hostname);
  return ownListener(asDeno(() => systemCalls().listen(address, tcpBacklog, before)));
}
