/**
 * `Deno.TcpConn` and `Deno.UnixConn` on a descriptor.
 *
 * @module
 */
import { systemCalls } from "../ffi/system.ts";
import { asDeno } from "../ffi/winsock_error.ts";
import type { SocketOptions } from "../ffi/socket_options.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import type { ConnIo } from "./conn_io.ts";

/** What one chunk of {@linkcode StreamConn.readable} holds at most, in bytes. */
const CHUNK_SIZE = 65_536;

/** What a {@linkcode StreamConn} is made of. */
interface StreamConnOptions<A extends SocketAddr> {
  /** The descriptor, for its options. */
  readonly handle: bigint;
  /** Reads and writes the descriptor, and closes it. */
  readonly io: ConnIo;
  /** Comes before what is read. */
  readonly initialBytes: Uint8Array;
  readonly localAddr: A;
  /** The peer's address, or why the system no longer tells it: the peer may be gone already. */
  readonly remoteAddr: A | Error;
  /** Whether another process may have a copy, for which the end must not wait. */
  readonly shared: boolean;
  /** Called when the descriptor is closed. */
  readonly closed: () => void;
}

/**
 * What `Deno.TcpConn` promises; a local connection has no delay and no keep-alive to set.
 *
 * The descriptor is closed when this is, or when the connection is over: both sides have ended, or the system has said
 * that it is broken. Then nothing can come of it any more, and this side can be told so without it.
 */
export class StreamConn<A extends SocketAddr> implements Deno.Conn<A> {
  readonly localAddr: A;
  readonly #options: StreamConnOptions<A>;
  readonly #io: ConnIo;
  #initialBytes: Uint8Array;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array<ArrayBufferLike>> | undefined;
  /** How many calls wait. */
  #waiting = 0;
  #closed = false;
  /** Which sides have ended. */
  #readEnded = false;
  #writeEnded = false;
  /** Why the connection is broken. */
  #failure: Error | undefined;
  /** Whether the descriptor is closed, or is about to be. */
  #released = false;
  /** What is to be told of that when nothing waits any more. */
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
    // Windows has an error for this that Deno has no class for.
    if (this.#writeEnded) throw new Deno.errors.BrokenPipe("This side of the connection has been ended");
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
    this.#setOption("TCP_NODELAY", noDelay);
  }

  setKeepAlive(keepAlive = true): void {
    this.#setOption("SO_KEEPALIVE", keepAlive);
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
    // The number may be another socket's by now.
    if (!this.#released) asDeno(() => systemCalls().setOption(this.#options.handle, name, value));
  }

  /** Nothing waits any more. */
  #rest(): void {
    const told = this.#told;
    this.#told = undefined;
    told?.();
    if (!this.#released && (this.#failure !== undefined || this.#readEnded && this.#writeEnded)) this.#release();
  }

  /** What a call finds when the connection is over. */
  #afterEnd<Result>(result: Result): Result {
    if (this.#failure !== undefined) throw this.#failure;
    return result;
  }

  /** Remembers the errors after which there is no connection any more. */
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

/** The errors by which the system says that there is no connection any more. */
const FATAL = [Deno.errors.ConnectionReset, Deno.errors.ConnectionAborted, Deno.errors.TimedOut];

function isFatal(error: unknown): error is Error {
  return FATAL.some((Class) => error instanceof Class);
}

function closedError(): Error {
  return new Deno.errors.BadResource("Connection has been closed");
}

/** The bytes of what Deno's streams take for a chunk, whatever the type says. */
function bytesOf(chunk: unknown): Uint8Array {
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (chunk instanceof ArrayBuffer || chunk instanceof SharedArrayBuffer) return new Uint8Array(chunk);
  throw new TypeError("Cannot write a chunk: it must be an ArrayBuffer or a view of one");
}
