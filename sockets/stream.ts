/**
 * Makes streams of descriptors. They are Deno's own streams if Deno can adopt the descriptor. The others need only
 * Deno's foreign functions.
 *
 * This module, `sockets/conn_io.ts` and `ffi/unix/poller.ts` use Deno's internals for sockets.
 * `http/deno_internals.ts` uses its internals for HTTP.
 *
 * @module
 */
import type net from "node:net";
import { nodeBuiltin } from "../internal/runtime.ts";
import { socketName } from "../ffi/platform.ts";
import type { StreamIo } from "../ffi/nonblocking_io.ts";
import { systemCalls } from "../ffi/system.ts";
import type { StreamEnd } from "./descriptor.ts";
import { canceledError, joined, nodeError, openPolledStream } from "./polled_stream.ts";
import {
  canAdopt,
  canReadResource,
  type ConnIo,
  openPlainIo,
  openResourceIo,
  openTcp,
  type TcpHandle,
} from "./conn_io.ts";

const DIRECT_WRITES = ["writeUtf8String", "writeLatin1String"] as const;

/**
 * Turns a connected stream socket into a `node:net` socket, which then owns the descriptor.
 *
 * Needs no permission. The socket reads a little ahead. It stays writable after the peer has ended its side, unless the
 * peer ended its side before it sent anything.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @returns The socket.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 * @throws {Deno.errors.NotSupported} If this Deno cannot adopt descriptors.
 */
function adoptStream(handle: bigint): net.Socket {
  const { Socket } = nodeBuiltin("node:net");
  return new Socket(socketOptions(openTcp(handle)));
}

/** The class, which is defined with the first socket because it extends a class of Node. */
let AdoptedSocket: ReturnType<typeof defineAdoptedSocket> | undefined;

/**
 * Turns a connected stream socket into a `node:net` socket, which then owns the descriptor. The socket is writable even
 * if the peer ended its side before it sent anything.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @param shared Whether to shut the connection down before it is closed.
 * @returns The socket.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 * @throws {Deno.errors.NotSupported} If this Deno cannot adopt descriptors.
 */
function adoptNodeSocket(handle: bigint, shared: boolean): net.Socket {
  AdoptedSocket ??= defineAdoptedSocket();
  return new AdoptedSocket(openTcp(handle), handle, shared);
}

/** The callback of Node's asynchronous stream methods. */
type Callback = (error?: Error | null) => void;

/** The members that Node's streams use and that the types do not have. */
interface NodeInternals {
  /** Restarts the time until `timeout` is emitted, because there was traffic. */
  _unrefTimer?(): void;
  /** The handle that sends and receives; `null` after it was closed. */
  readonly _handle: object | null;
  /** The number of bytes sent. */
  readonly _bytesDispatched: number;
}

/**
 * Defines a `node:net` socket that is writable even if the peer ended its side before it sent anything.
 *
 * While Deno's handle has read nothing and a write is pending, the handle treats the end of the peer's side as a broken
 * connection. After a hand-off there may be nothing left to read, and the peer may have ended its side. Therefore the
 * library writes with its own calls until the handle has read a byte.
 */
function defineAdoptedSocket() {
  const { Socket } = nodeBuiltin("node:net");
  const { Buffer } = nodeBuiltin("node:buffer");
  const super_ = Socket.prototype as net.Socket & NodeInternals;
  return class extends Socket {
    readonly #tcp: TcpHandle;
    readonly #descriptor: bigint;
    readonly #shared: boolean;
    /** Whether Deno's handle has read a byte. The handle then also writes. */
    #heard = false;
    /** The stream that writes until then. */
    #early: StreamIo | undefined;
    #sending = false;
    #referenced = true;
    /** The number of bytes that the library has sent. */
    #sent = 0;

    constructor(tcp: TcpHandle, handle: bigint, shared: boolean) {
      super(socketOptions(tcp));
      this.#tcp = tcp;
      this.#descriptor = handle;
      this.#shared = shared;
    }

    override _write(chunk: Uint8Array<ArrayBuffer> | string, encoding: BufferEncoding, done: Callback): void {
      if (this.#canWrite()) super._write(chunk, encoding, done);
      else this.#send([bytesOf(chunk, encoding)], done);
    }

    override _writev(chunks: { chunk: Uint8Array<ArrayBuffer> | string; encoding: BufferEncoding }[], done: Callback) {
      if (this.#canWrite()) super_._writev!.call(this, chunks, done);
      else this.#send(joined(chunks.map(({ chunk, encoding }) => bytesOf(chunk, encoding))), done);
    }

    override _destroy(error: Error | null, done: Callback): void {
      if (this.#shared && (this as unknown as NodeInternals)._handle !== null) systemCalls().shutDown(this.#descriptor);
      if (!this.#sending) return super._destroy(error, done);
      // The descriptor must not be closed while a thread polls it.
      this.#early!.leave().then(() => super._destroy(error, done));
    }

    /**
     * Returns bytes that other code has read. A request in them may be answered before the handle has read anything.
     */
    override unshift(chunk: unknown, encoding?: BufferEncoding): void {
      if (!this.#canWrite() && !Object.hasOwn(this.#tcp, DIRECT_WRITES[0])) this.#withholdDirectWrites();
      return super.unshift(chunk, encoding);
    }

    override ref(): this {
      this.#setReferenced(true);
      return super.ref();
    }

    override unref(): this {
      this.#setReferenced(false);
      return super.unref();
    }

    /** The number of bytes sent, a part of `bytesWritten`. */
    get _bytesDispatched(): number {
      return Reflect.get(super_, "_bytesDispatched", this) + this.#sent;
    }

    #canWrite(): boolean {
      return this.#heard ||= this.bytesRead > 0 || this.destroyed;
    }

    /** Hides the functions with which Node's HTTP writes responses directly to the handle, while it must not write. */
    #withholdDirectWrites(): void {
      for (const name of DIRECT_WRITES) {
        const write = this.#tcp[name];
        Object.defineProperty(this.#tcp, name, { get: () => this.#canWrite() ? write : undefined });
      }
    }

    async #send(parts: Iterable<Uint8Array<ArrayBuffer>>, done: Callback): Promise<void> {
      this.#sending = true;
      let failure: Error | null = null;
      try {
        if (this.#early === undefined) {
          // Deno's handle has made the socket non-blocking.
          this.#early = systemCalls().stream(this.#descriptor, true);
          this.#early.referenced = this.#referenced;
        }
        for (const part of parts) {
          (this as unknown as NodeInternals)._unrefTimer?.();
          this.#sent += part.byteLength;
          if (!await this.#early.send(part)) throw canceledError();
        }
      } catch (error) {
        failure = nodeError(error, "write");
      }
      this.#sending = false;
      done(failure);
    }

    #setReferenced(referenced: boolean): void {
      this.#referenced = referenced;
      if (this.#early !== undefined) this.#early.referenced = referenced;
    }
  };

  function bytesOf(chunk: Uint8Array<ArrayBuffer> | string, encoding: BufferEncoding): Uint8Array<ArrayBuffer> {
    return typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk;
  }
}

function socketOptions(handle: TcpHandle): net.SocketConstructorOpts {
  return { handle, allowHalfOpen: true, readable: true, writable: true } as net.SocketConstructorOpts;
}

/** Options for turning a socket into a stream. */
export interface StreamOptions {
  /**
   * Whether Deno itself reads and writes the socket. With `false` the library does, with calls to the system's socket
   * library, and only needs Deno's foreign functions. The throughput is the same, but the latency is higher. On Windows
   * and macOS the latency grows with the number of idle connections, and `unref`ed sockets are polled every 10 ms.
   * Defaults to `true` if this Deno can adopt sockets.
   *
   * For {@linkcode Socket.toConn} there is another condition. When Deno closes a connection, it shuts the connection
   * down for every process that has the socket. Therefore the default is `false` for a socket that other processes may
   * also use: one that was passed to `duplicateSocket`, or that `openSocket` or `Socket.fromHandle` made.
   *
   * It is always `false` for a connection that came back from a target that is not `trusted`, until the target's process
   * has ended. Deno's close could block, because such a target can set `SO_LINGER`.
   */
  native?: boolean;
}

/**
 * Makes a stream of the descriptor of a connected stream socket. The stream then owns the descriptor. It is for the
 * connections of the library itself: it is not writable if the peer ended its side before it sent anything.
 *
 * Needs no permission except ffi access to the system's socket library. The stream reads a little ahead. It stays
 * writable after the peer has sent data and ended its side.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @returns The stream. If Deno itself does not read and write it, it is a `Duplex` in the shape of a connected
 * `net.Socket`.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 */
export function openStream(handle: bigint): net.Socket {
  return canAdopt() ? adoptStream(handle) : openPolledStream(handle, { shared: false, elsewhere: undefined });
}

/**
 * Makes a stream of the descriptor of a caller's connection, like {@linkcode openStream}. The stream is writable even
 * if the peer ended its side before it sent anything.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @param options Whether Deno itself reads and writes the socket.
 * @param end How the stream ends the connection.
 * @returns The stream. If Deno itself does not read and write it, it is a `Duplex` in the shape of a connected
 * `net.Socket`.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 * @throws {Deno.errors.NotSupported} If `native` is `true` and Deno cannot or must not adopt the socket.
 */
export function openNodeSocket(handle: bigint, options: StreamOptions, end: StreamEnd): net.Socket {
  const native = isNative(handle, options, end) ?? canAdopt();
  return native ? adoptNodeSocket(handle, end.shared) : openPolledStream(handle, end);
}

/**
 * Makes the object that reads and writes the descriptor of a caller's connection.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @param options Whether Deno itself reads and writes the socket.
 * @param exclusive Whether closing the descriptor may end the connection, because no other process is to use it.
 * @param end How the stream ends the connection.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 * @throws {Deno.errors.NotSupported} If `native` is `true` and Deno cannot or must not adopt the socket.
 */
export function openConnIo(handle: bigint, options: StreamOptions, exclusive: boolean, end: StreamEnd): ConnIo {
  const native = isNative(handle, options, end) ?? (exclusive && canReadResource() && !resets(handle));
  return native ? openResourceIo(handle) : openPlainIo(handle, end.elsewhere);
}

/** Returns whether Deno must adopt the socket or must not; `undefined` if it may. It closes what it has adopted itself. */
function isNative(handle: bigint, { native }: StreamOptions, { elsewhere }: StreamEnd): boolean | undefined {
  if (elsewhere === undefined) return native;
  if (native !== true) return false;
  const reason = `a process that is not trusted may still have ${socketName(handle)}`;
  throw new Deno.errors.NotSupported(`Cannot open a stream that Deno reads and writes: ${reason}`);
}

/** Returns whether closing must reset the connection. Closing does not reset a connection that was shut down. */
function resets(handle: bigint): boolean {
  return systemCalls().getOption(handle, "SO_LINGER") === 0;
}
