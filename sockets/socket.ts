/**
 * A connected stream socket and its owner.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import type net from "node:net";
import { nodeBuiltin } from "../internal/runtime.ts";
import { type SocketMaker, socketName } from "../ffi/platform.ts";
import type { SocketOptions } from "../ffi/socket_options.ts";
import { systemCalls } from "../ffi/system.ts";
import { asDeno, hasWinsockCode } from "../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../structs/constants.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { StreamConn } from "./conn.ts";
import { Descriptor } from "./descriptor.ts";
import { adoptResource } from "./conn_io.ts";
import { openConnIo, openNodeSocket, type StreamOptions } from "./stream.ts";

/** How a {@linkcode Socket} is made from a handle. */
export interface FromHandleOptions {
  /** Bytes already read from the connection; whoever reads it next gets them first. Copied. */
  initialBytes?: Uint8Array;
}

/** How {@linkcode Socket.read} waits. */
export interface ReadOptions {
  /** Ends the wait. */
  signal?: AbortSignal;
}

/** What {@linkcode Socket.peek} waits for. */
export interface PeekOptions extends ReadOptions {
  /** How many bytes must be there. Default 1. */
  atLeast?: number;
}

/** Makes the {@linkcode Socket} that owns a descriptor which the system has just made. */
export let ownSocket: <A extends SocketAddr = Deno.NetAddr>(
  handle: bigint,
  options?: FromHandleOptions,
  maker?: SocketMaker,
) => Socket<A>;

/**
 * Makes a resource of Deno's of a socket, and gives it the descriptor. Initial bytes stay behind.
 *
 * @returns The resource's number, and what is to be called when it is closed.
 */
export let resourceOf: (socket: Socket<SocketAddr>) => { resource: number; closed: () => void };

/**
 * Takes a socket out of use while it is handed off.
 *
 * @returns Puts it into use again, unless it was closed or given up.
 * @throws {TypeError} If a `read` or `peek` waits, or it is being handed off already.
 */
export let beginHandoff: (socket: Socket<SocketAddr>) => () => void;

/** What {@linkcode Socket.toConn} makes, by the socket's addresses. */
export type ConnOf<A extends SocketAddr> = A extends Deno.NetAddr ? Deno.TcpConn : Deno.UnixConn;

/**
 * A connected socket of TCP, or, except on Windows, a local (unix) one. The object owns its descriptor: it closes it
 * with {@linkcode Socket.close} or `using`, or visibly gives it up, with {@linkcode Socket.detach},
 * {@linkcode Socket.toConn}, {@linkcode Socket.toNodeSocket} or by sending it to another process.
 *
 * Needs ffi access to the system's socket library:
 * `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll` on Windows,
 * `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6` on Linux (`LIBRARY_PATHS` on any system).
 *
 * @example Accepting a connection and echoing what it says
 * ```ts
 * import { connect, listen } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * using client = (await connect({ port: listener.addr.port })).toConn();
 * using server = (await listener.accept()).toConn();
 * await client.write(new TextEncoder().encode("hello"));
 * const buffer = new Uint8Array(16);
 * const length = await server.read(buffer);
 * assertEquals(new TextDecoder().decode(buffer.subarray(0, length ?? 0)), "hello");
 * ```
 *
 * @typeParam A What its addresses are: of TCP, or `Deno.UnixAddr`.
 */
export class Socket<A extends SocketAddr = Deno.NetAddr> implements Disposable {
  readonly #descriptor: Descriptor;
  #initialBytes: Uint8Array<ArrayBuffer>;
  /** The last read, which the next one waits for. */
  #reading: Promise<unknown> = Promise.resolve();
  /** How many calls of `read` and `peek` wait. */
  #waiting = 0;
  #handingOff = false;

  private constructor(descriptor: Descriptor, initialBytes?: Uint8Array) {
    this.#descriptor = descriptor;
    this.#initialBytes = initialBytes?.slice() ?? new Uint8Array(0);
  }

  /**
   * Takes ownership of a connected stream socket's descriptor: a SOCKET on Windows, a file descriptor elsewhere.
   *
   * @param handle The descriptor. It is unchanged if this throws.
   * @param options What else is known about it.
   * @returns The socket that owns it; whoever names a type of address vouches for it.
   * @throws {TypeError} If it is a listening or datagram socket, or belongs to another object already.
   * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
   */
  static fromHandle<A extends SocketAddr = Deno.NetAddr>(handle: bigint, options: FromHandleOptions = {}): Socket<A> {
    const kind = systemCalls().kind(handle, `take over socket ${handle}`);
    if (kind !== "connection") throw new TypeError(`Cannot take over socket ${handle}: it is a ${kind}`);
    return new Socket(Descriptor.adopt(handle), options.initialBytes);
  }

  static {
    ownSocket = (handle, options, maker) => new Socket(Descriptor.own(handle, maker), options?.initialBytes);
    resourceOf = (socket) => {
      socket.#checkInUse("serve");
      const resource = socket.#descriptor.use(adoptResource);
      return { resource, closed: socket.#descriptor.handOver() };
    };
    beginHandoff = (socket) => {
      socket.#checkInUse("hand off");
      if (socket.#waiting > 0) {
        throw new TypeError(`Cannot hand off ${socketName(socket.handle)}: a read or peek is pending`);
      }
      socket.#handingOff = true;
      return () => void (socket.#handingOff = false);
    };
  }

  /**
   * Makes two connected sockets: local ones (`socketpair`) on Linux and macOS, on Windows TCP over the loopback
   * interface. Child processes do not inherit them.
   *
   * @example
   * ```ts
   * import { Socket } from "@winsock/handoff";
   * import { assertEquals } from "@std/assert";
   *
   * const [near, far] = Socket.pair();
   * using conn = near.toConn();
   * await conn.write(new TextEncoder().encode("hello"));
   * assertEquals(new TextDecoder().decode(await far.read(5) ?? undefined), "hello");
   * far.close();
   * ```
   *
   * @returns Both; the caller's to close.
   * @throws {WinsockError} If the system refuses, such as WSAEMFILE while too many files are open.
   */
  static pair(): [Socket<SocketAddr>, Socket<SocketAddr>] {
    const [near, far] = asDeno(() => systemCalls().pair());
    return [ownSocket<SocketAddr>(near), ownSocket<SocketAddr>(far)];
  }

  /**
   * The descriptor, for native calls of one's own; `INVALID_SOCKET` (all 64 bits set) once the object has given it up.
   */
  get handle(): bigint {
    return this.#descriptor.handle;
  }

  /**
   * Bytes that were read from the connection before; whoever reads it next gets them first, here or after a hand-off.
   */
  get initialBytes(): Uint8Array {
    return this.#initialBytes;
  }

  /**
   * The address and port, or the path, on this side (`getsockname`). The path of a local socket that was not bound is
   * empty.
   *
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   */
  get localAddr(): A {
    return this.#descriptor.use((s) => systemCalls().localAddress(s)) as A;
  }

  /**
   * The address and port, or the path, of the peer (`getpeername`).
   *
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.NotConnected} If the peer has reset the connection.
   */
  get remoteAddr(): A {
    return this.#descriptor.use((s) => systemCalls().remoteAddress(s)) as A;
  }

  /**
   * Reads a socket option (`getsockopt`). Options belong to the underlying socket: every process that shares it sees
   * the same value.
   *
   * @param name The name of the option.
   * @returns The value of the option.
   * @throws {Deno.errors.NotSupported} If this system does not have the option.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {WinsockError} WSAENOPROTOOPT if this kind of socket does not have the option.
   */
  getOption<Name extends keyof SocketOptions>(name: Name): SocketOptions[Name] {
    return this.#descriptor.use((s) => systemCalls().getOption(s, name));
  }

  /**
   * Sets a socket option (`setsockopt`), for every process that shares the underlying socket.
   *
   * @param name The name of the option.
   * @param value The new value of the option.
   * @throws {RangeError} If the value is out of range.
   * @throws {Deno.errors.NotSupported} If this system does not have the option.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {WinsockError} WSAENOPROTOOPT if this kind of socket does not have the option.
   */
  setOption<Name extends keyof SocketOptions>(name: Name, value: SocketOptions[Name]): void {
    this.#descriptor.use((s) => systemCalls().setOption(s, name, value));
  }

  /**
   * Looks at what comes next without reading it (`recv` with `MSG_PEEK`): whoever reads the connection, here or after a
   * hand-off, gets it too. Initial bytes come before it and are not looked at.
   *
   * @example Choosing by the first byte whether TLS follows
   * ```ts
   * import { connect, listen } from "@winsock/handoff";
   * import { assertEquals } from "@std/assert";
   *
   * using listener = listen({ hostname: "127.0.0.1", port: 0 });
   * using client = (await connect({ port: listener.addr.port })).toConn();
   * using socket = await listener.accept();
   * await client.write(new TextEncoder().encode("GET / HTTP/1.1"));
   * const [first] = await socket.peek(1, { signal: AbortSignal.timeout(5_000) });
   * assertEquals(first === 22 ? "TLS" : "HTTP", "HTTP");
   * ```
   *
   * Waiting costs nothing while nothing comes, however many sockets are waited for; on Windows and macOS, where a part
   * of `atLeast` has come, a look every 500 ms at most.
   *
   * @param size How many bytes at most.
   * @param options `atLeast`: how many must be there before this resolves. Defaults to 1. Give a `signal` too: a peer
   * may send fewer and never end its side.
   * @returns The bytes: at least `atLeast`, or fewer if the peer has ended its side before it has sent as many.
   * @throws {TypeError} If the socket is being handed off.
   * @throws {RangeError} If `size` or `atLeast` is not an integer from 1, or `atLeast` is more than `size`.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.Interrupted} If the socket is closed or released while this waits.
   * @throws {Deno.errors.ConnectionReset} If the peer has reset the connection.
   * @throws The signal's reason, if it is aborted first.
   */
  async peek(
    size: number,
    options: PeekOptions = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    using _pending = this.#beginWaiting("peek at");
    const { atLeast = 1, signal } = options;
    checkCount("size", size);
    checkCount("atLeast", atLeast);
    if (atLeast > size) throw new RangeError(`Cannot peek at ${size} bytes and at least ${atLeast}`);
    const buffer = new Uint8Array(size);
    const count = await this.#descriptor.wait((s) => systemCalls().peek(s, buffer, atLeast, signal));
    return count === size ? buffer : buffer.slice(0, count);
  }

  /**
   * Reads what comes next (`recv`), initial bytes first, and no more than that: what is not read here is read by
   * whoever has the connection next. Calls made while one is pending are answered in turn.
   *
   * @example Reading a line, and giving back what came behind it
   * ```ts
   * import { connect, listen } from "@winsock/handoff";
   * import { assertEquals } from "@std/assert";
   *
   * using listener = listen({ hostname: "127.0.0.1", port: 0 });
   * using client = (await connect({ port: listener.addr.port })).toConn();
   * using socket = await listener.accept();
   * await client.write(new TextEncoder().encode("HELLO\nbody"));
   * const bytes = await socket.read(1_024, { signal: AbortSignal.timeout(5_000) });
   * if (bytes === null) throw new Error("The client has said nothing");
   * const end = bytes.indexOf(10);
   * socket.unread(bytes.subarray(end + 1));
   * assertEquals(new TextDecoder().decode(bytes.subarray(0, end)), "HELLO");
   * assertEquals(new TextDecoder().decode(socket.initialBytes), "body");
   * ```
   *
   * @param size How many bytes at most.
   * @param options `signal`: ends the wait; nothing is read then.
   * @returns The bytes, as many as have come, and at least one; `null` if the peer has ended its side.
   * @throws {TypeError} If the socket is being handed off.
   * @throws {RangeError} If `size` is not an integer from 1.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.Interrupted} If the socket is closed or released while this waits. Nothing is read then.
   * @throws {Deno.errors.ConnectionReset} If the peer has reset the connection.
   * @throws The signal's reason, if it is aborted first.
   */
  async read(size: number, options: ReadOptions = {}): Promise<Uint8Array<ArrayBuffer> | null> {
    using _pending = this.#beginWaiting("read");
    const { open } = this.#descriptor;
    const reading = this.#reading.then(() => this.#readNow(size, options, open));
    this.#reading = reading.catch(() => {});
    return await reading;
  }

  /** @param open Whether the socket was open when the read was asked for. */
  async #readNow(size: number, options: ReadOptions, open: boolean): Promise<Uint8Array<ArrayBuffer> | null> {
    checkCount("size", size);
    if (this.#initialBytes.byteLength > 0) {
      options.signal?.throwIfAborted();
      const bytes = this.#initialBytes.slice(0, size);
      this.#initialBytes = this.#initialBytes.slice(size);
      return bytes;
    }
    const buffer = new Uint8Array(size);
    const count = await this.#descriptor.wait((s) => systemCalls().receive(s, buffer, options.signal), open);
    return count === 0 ? null : buffer.subarray(0, count);
  }

  /**
   * Gives bytes back that were read: they come first in {@linkcode Socket.initialBytes}, and whoever reads the
   * connection next gets them, here or after a hand-off.
   *
   * @param bytes The bytes. Copied.
   */
  unread(bytes: Uint8Array): void {
    this.#initialBytes = concat([bytes, this.#initialBytes]);
  }

  /**
   * Gives up ownership: the descriptor stays open and is the caller's to close. It knows nothing of initial bytes.
   *
   * @returns The descriptor; `INVALID_SOCKET` if it was closed or released before.
   * @throws {TypeError} If it is being handed off.
   */
  detach(): bigint {
    this.#checkInUse("detach");
    return this.#descriptor.release();
  }

  /**
   * Makes a connection in the shape of `Deno.TcpConn`, of a local socket in that of `Deno.UnixConn`, and gives it the
   * descriptor. Needs no net permission.
   *
   * It keeps what Deno's own promise, and differs in three things. When one of its streams has ended, that side alone
   * has: a peer that has ended its side can be answered. A reset is told to every call that follows, and not to the
   * first one only. Closing it twice does nothing. The descriptor is closed at the latest when both sides have ended,
   * or when a call was told of a reset.
   *
   * @param options By which path it is read and written.
   * @returns The connection; its first read returns the initial bytes, if there are any. If the peer had reset it by
   * now, its `remoteAddr` throws `Deno.errors.NotConnected`, for the system does not know it any more.
   * @throws {TypeError} If it is being handed off.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.NotSupported} If Deno itself is to read and write it, and cannot.
   */
  toConn(options: StreamOptions = {}): ConnOf<A> {
    this.#checkInUse("make a connection of");
    const { localAddr, handle } = this;
    const remoteAddr = this.#remoteAddrOrError();
    const { exclusive, shared } = this.#descriptor;
    const io = asDeno(() => openConnIo(handle, options, exclusive));
    return new StreamConn<A>({
      handle,
      io,
      initialBytes: this.#initialBytes,
      localAddr,
      remoteAddr,
      shared,
      closed: this.#descriptor.handOver(),
    }) as unknown as ConnOf<A>;
  }

  /** A peer that has reset the connection has no address any more; reading is what tells that, not asking for it. */
  #remoteAddrOrError(): A | Error {
    try {
      return this.remoteAddr;
    } catch (error) {
      if (error instanceof Error && hasWinsockCode(error, WSA_ERRORS.WSAENOTCONN)) return error;
      throw error;
    }
  }

  /**
   * Makes a `node:net` socket and gives it the descriptor. Needs no net permission. The socket reads no more
   * than a little ahead until it is read, and stays writable when the peer has ended its side (`allowHalfOpen`).
   *
   * Where this Deno cannot adopt sockets, or is told not to, it is no `net.Socket` but a `Duplex` in the shape of a
   * connected one, which `node:http` and `node:tls` take as well.
   *
   * @param options By which path it is read and written.
   * @returns The socket; its first read returns the initial bytes, if there are any.
   * @throws {TypeError} If it is being handed off.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.NotSupported} If Deno itself is to read and write it, and cannot.
   */
  toNodeSocket(options: StreamOptions = {}): net.Socket {
    this.#checkInUse("make a stream of");
    const socket = this.#descriptor.use((s) => openNodeSocket(s, options, this.#descriptor.shared));
    if (this.#initialBytes.byteLength > 0) socket.unshift(nodeBuiltin("node:buffer").Buffer.from(this.#initialBytes));
    socket.once("close", this.#descriptor.handOver());
    return socket;
  }

  /**
   * Closes this descriptor; once it is closed or given up, does nothing. The peer sees the end when the last one
   * closes; of a connection that was handed off, at once.
   */
  close(): void {
    this.#descriptor.end();
  }

  /** The same as {@linkcode Socket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #checkInUse(operation: string): void {
    if (!this.#handingOff) return;
    throw new TypeError(`Cannot ${operation} ${socketName(this.handle)}: it is being handed off`);
  }

  /** @returns Says, when it is disposed, that the wait is over. */
  #beginWaiting(operation: string): Disposable {
    this.#checkInUse(operation);
    this.#waiting++;
    return { [Symbol.dispose]: () => void this.#waiting-- };
  }
}

function checkCount(name: string, count: number): void {
  if (Number.isSafeInteger(count) && count >= 1) return;
  throw new RangeError(`Invalid \`${name}\`: must be an integer from 1, got ${count}`);
}
