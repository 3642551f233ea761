/**
 * The class `Socket`, which owns a connected stream socket.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import type net from "node:net";
import { BOOLEAN, BYTES, check, checkOptions, HANDLE, integer, SIGNAL } from "../internal/options.ts";
import { nodeBuiltin } from "../internal/runtime.ts";
import { type SocketMaker, socketName } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { asDeno, hasWinsockCode } from "../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../structs/constants.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { StreamConn } from "./conn.ts";
import { Descriptor, SocketWithOptions } from "./descriptor.ts";
import { adoptResource } from "./conn_io.ts";
import { openConnIo, openNodeSocket, type StreamOptions } from "./stream.ts";

/** Shared, because an array costs as much as a system call. */
const NO_BYTES = new Uint8Array(0);

/** What can be read at once: a system call has an `int` for it. */
const SIZE = integer(1, 2 ** 31 - 1);

/** Options for making a {@linkcode Socket} from a handle. */
export interface FromHandleOptions {
  /** Bytes that were already read from the connection. The next read returns them first. They are copied. */
  initialBytes?: Uint8Array;
}

/** Options for {@linkcode Socket.read}. */
export interface ReadOptions {
  /** A signal that ends the wait when it is aborted. */
  signal?: AbortSignal;
}

/** Options for {@linkcode Socket.peek}. */
export interface PeekOptions extends ReadOptions {
  /** The number of bytes to wait for. Defaults to `1`. */
  atLeast?: number;
}

/** Makes the {@linkcode Socket} that owns a descriptor which the system has just made. */
export let ownSocket: <A extends SocketAddr = Deno.NetAddr>(
  handle: bigint,
  options?: FromHandleOptions,
  maker?: SocketMaker,
) => Socket<A>;

/**
 * Turns a socket into a resource of Deno, which then owns the descriptor. The resource does not get the initial bytes.
 * Deno closes the descriptor on the JavaScript thread, so the socket must not be suspect.
 *
 * @returns The number of the resource, and a function that must be called when the resource is closed.
 */
export let resourceOf: (socket: Socket<SocketAddr>) => { resource: number; closed: () => void };

/**
 * Locks a socket while it is handed off.
 *
 * @returns A function that unlocks the socket. It has no effect after the socket was closed or released.
 * @throws {TypeError} If a `read` or `peek` is pending, or if the socket is already being handed off.
 */
export let beginHandoff: (socket: Socket<SocketAddr>) => () => void;

/** The type of connection that {@linkcode Socket.toConn} makes, by the type of the socket's addresses. */
export type ConnOf<A extends SocketAddr> = A extends Deno.NetAddr ? Deno.TcpConn : Deno.UnixConn;

/**
 * A connection: a connected TCP socket, or on Linux and macOS a local (unix) socket. The object owns its descriptor. It
 * closes the descriptor with {@linkcode Socket.close} or `using`. It releases the descriptor with
 * {@linkcode Socket.detach}, {@linkcode Socket.toConn}, {@linkcode Socket.toNodeSocket} or a hand-off.
 *
 * Needs ffi access to the system's socket library:
 * `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll` on Windows,
 * `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6` on Linux (`LIBRARY_PATHS` on any system).
 *
 * @example Accepting a connection and reading from it
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
 * @typeParam A The type of its addresses: `Deno.NetAddr` for TCP, or `Deno.UnixAddr`.
 */
export class Socket<A extends SocketAddr = Deno.NetAddr> extends SocketWithOptions implements Disposable {
  readonly #descriptor: Descriptor;
  #initialBytes: Uint8Array<ArrayBuffer>;
  /** The last read. The next read waits for it. */
  #reading: Promise<unknown> | undefined;
  /** The number of pending calls of `read` and `peek`. */
  #waiting = 0;
  #handingOff = false;

  private constructor(descriptor: Descriptor, initialBytes?: Uint8Array) {
    super();
    this.#descriptor = descriptor;
    this.#initialBytes = initialBytes?.slice() ?? NO_BYTES;
  }

  /**
   * Takes ownership of the descriptor of a connected stream socket: a SOCKET on Windows, a file descriptor on other
   * systems.
   *
   * @param handle The descriptor. It is unchanged if this throws.
   * @param options The initial bytes of the socket.
   * @returns The socket that owns the descriptor. The type parameter is not checked.
   * @throws {TypeError} If it is a listener or a datagram socket, or if another object of this process owns it.
   * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
   */
  static fromHandle<A extends SocketAddr = Deno.NetAddr>(handle: bigint, options: FromHandleOptions = {}): Socket<A> {
    check("handle", handle, HANDLE);
    checkOptions(options, { initialBytes: BYTES });
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
   * Makes two connected sockets: local sockets (`socketpair`) on Linux and macOS, TCP sockets over the loopback
   * interface on Windows. Child processes do not inherit them.
   *
   * @example Bytes from one end to the other
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
   * @returns The two sockets, which the caller must close.
   * @throws {WinsockError} If the system reports an error, such as WSAEMFILE while too many files are open.
   */
  static pair(): [Socket<SocketAddr>, Socket<SocketAddr>] {
    const [near, far] = asDeno(() => systemCalls().pair());
    return [ownSocket<SocketAddr>(near), ownSocket<SocketAddr>(far)];
  }

  /**
   * The descriptor, for native calls of the caller. `INVALID_SOCKET` (all 64 bits set) after the object has closed or
   * released it.
   */
  get handle(): bigint {
    return this.#descriptor.handle;
  }

  /** Bytes that were already read from the connection. The next read returns them first, here or after a hand-off. */
  get initialBytes(): Uint8Array {
    return this.#initialBytes;
  }

  /**
   * The address and port, or the path, of this side (`getsockname`). The path of a local socket that is not bound is
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
   * Returns the next bytes without removing them from the socket (`recv` with `MSG_PEEK`). The next read also returns
   * them, here or after a hand-off. Initial bytes come before them and are not included.
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
   * Waiting costs nothing while no data arrives, for any number of sockets. On Windows and macOS, a socket that has a
   * part of `atLeast` is polled, at intervals that grow from 10 ms to 3 s.
   *
   * @param size The maximum number of bytes.
   * @param options `atLeast` is the number of bytes to wait for. Defaults to `1`. Also pass a `signal`: a peer may send
   * fewer bytes and never end its side.
   * @returns The bytes: at least `atLeast`, or fewer if the peer ended its side before it sent that many.
   * @throws {TypeError} If the socket is being handed off.
   * @throws {RangeError} If `size` is not an integer from 1 to 2 147 483 647, or `atLeast` not one from 1 to `size`.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.Interrupted} If the socket is closed or released while this waits.
   * @throws {Deno.errors.ConnectionReset} If the peer has reset the connection.
   * @throws The reason of the signal, if it is aborted first.
   */
  async peek(
    size: number,
    options: PeekOptions = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    using _pending = this.#beginWaiting("peek at");
    checkOptions(options, { signal: SIGNAL });
    const { atLeast = 1, signal } = options;
    check("size", size, SIZE);
    check("atLeast", atLeast, integer(1, size));
    const buffer = new Uint8Array(size);
    const count = await this.#descriptor.wait((s) => systemCalls().peek(s, buffer, atLeast, signal));
    return count === size ? buffer : buffer.slice(0, count);
  }

  /**
   * Reads the next bytes (`recv`), initial bytes first. It does not read ahead: the next owner of the connection can
   * read the rest. Concurrent calls are served in order.
   *
   * @example Reading a line, and returning the bytes after it
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
   * @param size The maximum number of bytes.
   * @param options `signal` ends the wait when it is aborted. Nothing is read then.
   * @returns The bytes that have arrived, at least one; `null` if the peer has ended its side.
   * @throws {TypeError} If the socket is being handed off.
   * @throws {RangeError} If `size` is not an integer from 1 to 2 147 483 647.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.Interrupted} If the socket is closed or released while this waits. Nothing is read then.
   * @throws {Deno.errors.ConnectionReset} If the peer has reset the connection.
   * @throws The reason of the signal, if it is aborted first.
   */
  async read(size: number, options: ReadOptions = {}): Promise<Uint8Array<ArrayBuffer> | null> {
    check("size", size, SIZE);
    checkOptions(options, { signal: SIGNAL });
    using _pending = this.#beginWaiting("read");
    const { open } = this.#descriptor;
    const reading = Promise.resolve(this.#reading).then(() => this.#readNow(size, options, open));
    this.#reading = reading.catch(() => {});
    return await reading;
  }

  /** @param open Whether the socket was open when the caller started the read. */
  async #readNow(size: number, options: ReadOptions, open: boolean): Promise<Uint8Array<ArrayBuffer> | null> {
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
   * Returns bytes that were read to the socket. They are put before the other {@linkcode Socket.initialBytes}. The next
   * read returns them, here or after a hand-off.
   *
   * @param bytes The bytes. They are copied.
   * @throws {TypeError} If they are not a `Uint8Array`.
   */
  unread(bytes: Uint8Array): void {
    check("bytes", bytes, BYTES);
    this.#initialBytes = concat([bytes, this.#initialBytes]);
  }

  /**
   * Releases the descriptor. It stays open, and the caller must close it. Initial bytes are not part of it.
   *
   * @returns The descriptor; `INVALID_SOCKET` if it was closed or released before.
   * @throws {TypeError} If the socket is being handed off.
   */
  detach(): bigint {
    this.#checkInUse("detach");
    return this.#descriptor.release();
  }

  /**
   * Makes a connection in the shape of `Deno.TcpConn`, or of `Deno.UnixConn` for a local socket, which then owns the
   * descriptor. Needs no net permission.
   *
   * The connection behaves like Deno's own connections, with three differences:
   *
   * - The end of one of its streams ends only that side. A peer that has ended its side can be answered.
   * - A reset is reported to every later call, not only to the first one.
   * - Closing it twice does nothing.
   *
   * The descriptor is closed at the latest when both sides have ended, or when a reset was reported to a call.
   *
   * @param options Whether Deno itself reads and writes the socket.
   * @returns The connection. Its first read returns the initial bytes, if there are any. If the peer has already reset
   * the connection, `remoteAddr` throws `Deno.errors.NotConnected`, because the system no longer has the address.
   * @throws {TypeError} If the socket is being handed off.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.NotSupported} If `native` is `true`, and this Deno cannot adopt sockets or a target that is not
   * `trusted` may still have the connection.
   */
  toConn(options: StreamOptions = {}): ConnOf<A> {
    checkOptions(options, { native: BOOLEAN });
    this.#checkInUse("make a connection of");
    const { localAddr, handle } = this;
    const remoteAddr = this.#remoteAddrOrError();
    const { exclusive } = this.#descriptor;
    const end = this.#descriptor.streamEnd();
    const io = asDeno(() => openConnIo(handle, this.#streamOptions(options, localAddr), exclusive, end));
    return new StreamConn<A>({
      handle,
      io,
      initialBytes: this.#initialBytes,
      localAddr,
      remoteAddr,
      shared: end.shared,
      closed: this.#descriptor.handOver(),
    }) as unknown as ConnOf<A>;
  }

  /**
   * Returns the address of the peer, or the error if the peer has reset the connection. Reading reports the reset, so
   * this does not throw it.
   */
  #remoteAddrOrError(): A | Error {
    try {
      return this.remoteAddr;
    } catch (error) {
      if (error instanceof Error && hasWinsockCode(error, WSA_ERRORS.WSAENOTCONN)) return error;
      throw error;
    }
  }

  /**
   * Makes a `node:net` socket, which then owns the descriptor. Needs no net permission. Until it is read, the socket
   * reads only a little ahead. It stays writable when the peer has ended its side (`allowHalfOpen`).
   *
   * If this Deno cannot adopt sockets, or if `native` is `false`, the result is not a `net.Socket`. It is a `Duplex` in
   * the shape of a connected `net.Socket`, which `node:http` and `node:tls` also accept.
   *
   * @param options Whether Deno itself reads and writes the socket.
   * @returns The socket. Its first read returns the initial bytes, if there are any.
   * @throws {TypeError} If the socket is being handed off.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {Deno.errors.NotSupported} If `native` is `true`, and this Deno cannot adopt sockets or a target that is not
   * `trusted` may still have the connection.
   */
  toNodeSocket(options: StreamOptions = {}): net.Socket {
    checkOptions(options, { native: BOOLEAN });
    this.#checkInUse("make a stream of");
    const socket = this.#descriptor.use((s) =>
      openNodeSocket(s, this.#streamOptions(options, this.localAddr), this.#descriptor.streamEnd())
    );
    if (this.#initialBytes.byteLength > 0) socket.unshift(nodeBuiltin("node:buffer").Buffer.from(this.#initialBytes));
    socket.once("close", this.#descriptor.handOver());
    return socket;
  }

  /**
   * Closes the descriptor. Does nothing if it was closed or released. The peer reads the end when the last descriptor
   * of the connection is closed, or at once if the connection was handed off.
   */
  close(): void {
    this.#descriptor.end();
  }

  /** Closes the socket like {@linkcode Socket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Returns the options of a stream. Deno would read a socket that keeps messages as a stream of bytes, so the library
   * reads it.
   */
  #streamOptions(options: StreamOptions, localAddr: A): StreamOptions {
    if (localAddr.transport === "tcp" || !this.#descriptor.use((s) => systemCalls().keepsMessages(s))) return options;
    if (options.native !== true) return { ...options, native: false };
    throw new Deno.errors.NotSupported("Cannot open a stream: Deno cannot adopt a socket of type seqpacket");
  }

  #checkInUse(operation: string): void {
    if (!this.#handingOff) return;
    throw new TypeError(`Cannot ${operation} ${socketName(this.handle)}: it is being handed off`);
  }

  /** @returns A disposable. Disposing it marks the end of the wait. */
  #beginWaiting(operation: string): Disposable {
    this.#checkInUse(operation);
    this.#waiting++;
    return { [Symbol.dispose]: () => void this.#waiting-- };
  }
}
