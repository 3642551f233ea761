/**
 * Implements `Deno.TcpConn` and `Deno.UnixConn` on a descriptor.
 *
 * @module
 */
import { systemCalls } from "../ffi/system.ts";
import { asDeno } from "../ffi/winsock_error.ts";
import type { SocketOptions } from "../ffi/socket_options.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import type { ConnIo } from "./conn_io.ts";

/** The maximum size of a chunk of {@linkcode StreamConn.readable}, in bytes. */
const CHUNK_SIZE = 65_536;

/** Options for a {@linkcode StreamConn}. */
interface StreamConnOptions<A extends SocketAddr> {
  /** The descriptor, used to set socket options. */
  readonly handle: bigint;
  /** The object that reads, writes and closes the descriptor. */
  readonly io: ConnIo;
  /** The bytes that are returned before the bytes read from the descriptor. */
  readonly initialBytes: Uint8Array;
  readonly localAddr: A;
  /** The address of the peer, or the error of the system if it no longer has the address. */
  readonly remoteAddr: A | Error;
  /**
   * Whether the connection is shut down before the descriptor is closed, because another process may have a copy of it.
   * The peer then gets the end before that copy is closed.
   */
  readonly shared: boolean;
  /** The callback that is called when the descriptor is closed. */
  readonly closed: () => void;
}

/**
 * Implements `Deno.TcpConn`. On a local connection, no-delay and keep-alive do not apply.
 *
 * The descriptor is closed when this object is closed, or when the connection is over. A connection is over when both
 * sides have ended, or when the system has reported that it is broken. Later calls get their result without the
 * descriptor.
 */
export class StreamConn<A extends SocketAddr> implements Deno.Conn<A> {
  readonly localAddr: A;
  readonly #options: StreamConnOptions<A>;
  readonly #io: ConnIo;
  #initialBytes: Uint8Array;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array<ArrayBufferLike>> | undefined;
  /** The number of pending calls. */
  #waiting = 0;
  #closed = false;
  /** The sides that have ended. */
  #readEnded = false;
  #writeEnded = false;
  /** The error that broke the connection. */
  #failure: Error | undefined;
  /** Whether the descriptor is closed, or is about to be closed. */
  #released = false;
  /** The callback to call once no call is pending. */
  #told: (() => void) | undefined;

  constructor(options: StreamConnOptions<A>) {
    this.#options = options;
    this.#io = options.io;
    this.#initialBytes = options.initialBytes;
    this.localAddr = options.localAddr;
  }

  get remoteAddr(): A {
    const { remoteAddr } = this.#options;
    if (remoteAddr instanceof Error) throw remoteAddr;
    return remoteAddr;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (buffer.byteLength === 0) return 0;
    if (this.#closed) throw closedError();
    if (this.#initialBytes.byteLength > 0) return this.#readInitial(buffer);
    if (this.#released) return this.#afterEnd(null);
    this.#waiting++;
    try {
      const count = await this.#io.read(buffer);
      if (count > 0) return count;
      this.#readEnded = true;
      return null;
    } catch (error) {
      throw this.#noted(error);
    } finally {
      if (--this.#waiting === 0) this.#rest();
    }
  }

  async write(bytes: Uint8Array): Promise<number> {
    if (this.#closed) throw closedError();
    // Deno has no class for the error of Windows.
    if (this.#writeEnded) throw new Deno.errors.BrokenPipe("Cannot write: this side of the connection was ended");
    if (this.#released) return this.#afterEnd(0);
    this.#waiting++;
    try {
      return await this.#io.write(bytes);
    } catch (error) {
      throw this.#noted(error);
    } finally {
      if (--this.#waiting === 0) this.#rest();
    }
  }

  async closeWrite(): Promise<void> {
    if (this.#closed) throw closedError();
    if (this.#writeEnded || this.#released) return;
    this.#waiting++;
    try {
      await this.#io.endWriting();
      this.#writeEnded = true;
    } catch (error) {
      throw this.#noted(error);
    } finally {
      if (--this.#waiting === 0) this.#rest();
    }
  }

  close(): void {
    this.#closed = true;
    if (!this.#released) this.#release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= new ReadableStream({
      type: "bytes",
      autoAllocateChunkSize: CHUNK_SIZE,
      pull: async (controller) => {
        const request = controller.byobRequest!;
        const view = request.view!;
        let length: number | null;
        try {
          length = await this.read(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
        } catch (error) {
          this.close();
          throw error;
        }
        if (length === null) controller.close();
        request.respond(length ?? 0);
      },
      cancel: () => this.close(),
    });
  }

  get writable(): WritableStream<Uint8Array<ArrayBufferLike>> {
    return this.#writable ??= new WritableStream({
      write: async (chunk) => {
        try {
          await this.#writeAll(bytesOf(chunk));
        } catch (error) {
          this.close();
          throw error;
        }
      },
      close: () => this.closeWrite(),
      abort: () => this.close(),
    });
  }

  setNoDelay(noDelay = true): void {
    this.#setOption("TCP_NODELAY", Boolean(noDelay));
  }

  setKeepAlive(keepAlive = true): void {
    this.#setOption("SO_KEEPALIVE", Boolean(keepAlive));
  }

  ref(): void {
    this.#io.setReferenced(true);
  }

  unref(): void {
    this.#io.setReferenced(false);
  }

  #readInitial(buffer: Uint8Array): number {
    const bytes = this.#initialBytes.subarray(0, buffer.byteLength);
    buffer.set(bytes);
    this.#initialBytes = this.#initialBytes.subarray(bytes.byteLength);
    return bytes.byteLength;
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let written = 0; written < bytes.byteLength;) written += await this.write(bytes.subarray(written));
  }

  #setOption(name: "TCP_NODELAY" | "SO_KEEPALIVE", value: SocketOptions[typeof name]): void {
    if (this.#closed) throw closedError();
    // After the descriptor was closed, the number may belong to another socket.
    if (!this.#released) asDeno(() => systemCalls().setOption(this.#options.handle, name, value));
  }

  /** Runs when the last pending call has ended. */
  #rest(): void {
    const told = this.#told;
    this.#told = undefined;
    told?.();
    if (!this.#released && (this.#failure !== undefined || this.#readEnded && this.#writeEnded)) this.#release();
  }

  /** Returns the result of a call on a connection that is over, or throws the error that broke it. */
  #afterEnd<Result>(result: Result): Result {
    if (this.#failure !== undefined) throw this.#failure;
    return result;
  }

  /** Stores an error that ends the connection, and returns the error. */
  #noted(error: unknown): unknown {
    if (!this.#closed && isFatal(error)) this.#failure ??= error;
    return error;
  }

  #release(): void {
    this.#released = true;
    const { handle, shared, closed } = this.#options;
    if (shared) systemCalls().shutDown(handle);
    const closing = this.#io.close();
    if (closing !== undefined) closing.then(closed, closed);
    else if (this.#waiting === 0) closed();
    else this.#told = closed;
  }
}

/** The errors with which the system reports that the connection has ended. */
const FATAL = [Deno.errors.ConnectionReset, Deno.errors.ConnectionAborted, Deno.errors.TimedOut];

function isFatal(error: unknown): error is Error {
  return FATAL.some((Class) => error instanceof Class);
}

function closedError(): Error {
  return new Deno.errors.BadResource("Connection has been closed");
}

/** Returns the bytes of a chunk. The streams of Deno accept more kinds of chunk than their type says. */
function bytesOf(chunk: unknown): Uint8Array {
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (chunk instanceof ArrayBuffer || chunk instanceof SharedArrayBuffer) return new Uint8Array(chunk);
  throw new TypeError("Cannot write a chunk: it must be an ArrayBuffer or a view of one");
}
