/**
 * Streams on descriptors: Deno's own where Deno can adopt the descriptor, and otherwise ones that need foreign
 * functions only.
 *
 * This module, `sockets/conn_io.ts` and `ffi/unix/poller.ts` touch how Deno keeps its sockets;
 * `http/deno_internals.ts` touches how it serves HTTP on them.
 *
 * @module
 */
import type net from "node:net";
import { nodeBuiltin } from "../internal/runtime.ts";
import type { StreamIo } from "../ffi/nonblocking_io.ts";
import { systemCalls } from "../ffi/system.ts";
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
 * Turns a connected stream socket into a `node:net` socket, which owns it from then on.
 *
 * Needs no permission. A little is read ahead; the reading half ending does not end the writing half. A peer that has
 * ended its side before it sent anything cannot be written to.
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

/** Made with the first one, for it needs Node's. */
let AdoptedSocket: ReturnType<typeof defineAdoptedSocket> | undefined;

/**
 * Turns a connected stream socket into a `node:net` socket that can be written to whatever the peer has done, and which
 * owns it from then on.
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

/** Node's callback of everything that takes time. */
type Callback = (error?: Error | null) => void;

/** What Node's streams call, and the types do not know of. */
interface NodeInternals {
  /** There was traffic: the time until `timeout` begins anew. */
  _unrefTimer?(): void;
  /** What it sends and receives by, until it has closed it. */
  readonly _handle: object | null;
  /** How many bytes were sent. */
  readonly _bytesDispatched: number;
}

/**
 * Deno's handle takes the peer's end for a broken connection while it has read nothing and a write waits in it. After a
 * hand-off nothing may be left to read, and the peer may well have ended its side. So until the handle has read a byte,
 * the library writes, by calls of its own.
 */
function defineAdoptedSocket() {
  const { Socket } = nodeBuiltin("node:net");
  const { Buffer } = nodeBuiltin("node:buffer");
  const super_ = Socket.prototype as net.Socket & NodeInternals;
  return class extends Socket {
    readonly #tcp: TcpHandle;
    readonly #descriptor: bigint;
    readonly #shared: boolean;
    /** Whether Deno's handle has read a byte, and so writes by itself. */
    #heard = false;
    /** Writes until then. */
    #early: StreamIo | undefined;
    #sending = false;
    #referenced = true;
    /** How many bytes it has sent. */
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
      // The descriptor is not to be closed while a thread looks at it.
      this.#early!.leave().then(() => super._destroy(error, done));
    }

    /** What others have read comes back: a request may be answered before the handle has read anything. */
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

    /** Part of what `bytesWritten` says. */
    get _bytesDispatched(): number {
      return Reflect.get(super_, "_bytesDispatched", this) + this.#sent;
    }

    #canWrite(): boolean {
      return this.#heard ||= this.bytesRead > 0 || this.destroyed;
    }

    /** Node's HTTP gives responses to the handle itself, if it has the functions. */
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
          // Deno's handle has made it non-blocking.
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

/** How a socket becomes a stream. */
export interface StreamOptions {
  /**
   * Whether Deno itself reads and writes the socket. `false`: the library does, with calls of the system's own library,
   * and foreign functions are all it needs of Deno. That is as fast in bulk; answering takes longer, on Windows and
   * macOS the more so the more connections wait, and an `unref`'d one is looked after every 10 ms only. By default
   * `true`, where this Deno can.
   *
   * {@linkcode Socket.toConn} has one more condition. Deno shuts down what it closes, for every process that has the
   * socket. So the default is `false` for a socket that others may use as well: one that `duplicateSocket` was called
   * with, or that `openSocket` or `Socket.fromHandle` made.
   */
  native?: boolean;
}

/**
 * Makes a stream of a connected stream socket's descriptor, which is the stream's from then on. For connections of the
 * library's own: a peer that has ended its side before it sent anything cannot be written to.
 *
 * Needs no permission besides ffi access to the system's socket library. A little is read ahead; the reading half
 * ending does not end the writing half.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @returns The stream; not by Deno itself, it is a `Duplex` in the shape of a connected `net.Socket`.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 */
export function openStream(handle: bigint): net.Socket {
  return canAdopt() ? adoptStream(handle) : openPolledStream(handle, false);
}

/**
 * Makes a stream of the descriptor of somebody's connection, as {@linkcode openStream} does, that can be written to
 * whatever the peer has done.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @param options By which path.
 * @param shared Whether to shut the connection down before it is closed.
 * @returns The stream; not by Deno itself, it is a `Duplex` in the shape of a connected `net.Socket`.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 * @throws {Deno.errors.NotSupported} If this Deno is to adopt it and cannot.
 */
export function openNodeSocket(handle: bigint, options: StreamOptions, shared: boolean): net.Socket {
  const { native = canAdopt() } = options;
  return native ? adoptNodeSocket(handle, shared) : openPolledStream(handle, shared);
}

/**
 * Makes what reads and writes the descriptor of somebody's connection.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @param options By which path.
 * @param exclusive Whether closing it may end the connection, since nobody else is to use that.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 * @throws {Deno.errors.NotSupported} If this Deno is to adopt it and cannot.
 */
export function openConnIo(handle: bigint, options: StreamOptions, exclusive: boolean): ConnIo {
  const { native = exclusive && canReadResource() && !resets(handle) } = options;
  return native ? openResourceIo(handle) : openPlainIo(handle);
}

/** Whether closing is to reset the connection, which it does not once it was shut down. */
function resets(handle: bigint): boolean {
  return systemCalls().getOption(handle, "SO_LINGER") === 0;
}
