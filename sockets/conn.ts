/**
 * `Deno.TcpConn` and `Deno.UnixConn` on a stream.
 *
 * @module
 */
import type net from "node:net";
import type { SocketAddr } from "./address.ts";

/** What `Deno.TcpConn` promises, on a `node:net` socket; a local one has no delay and no keep-alive to set. */
export class StreamConn<A extends SocketAddr> implements Deno.Conn<A> {
  readonly #socket: net.Socket;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array<ArrayBufferLike>> | undefined;
  #closed = false;
  /** While reads wait: settles when they may go on. */
  #event: Promise<void> | undefined;
  readonly #remoteAddr: A | Error;

  /**
   * @param socket The stream; it is the connection's from now on.
   * @param localAddr The address on this side.
   * @param remoteAddr The peer's address, or why the system no longer tells it: the peer may be gone already.
   */
  constructor(socket: net.Socket, readonly localAddr: A, remoteAddr: A | Error) {
    this.#socket = socket;
    this.#remoteAddr = remoteAddr;
    // Whoever reads or writes is told.
    socket.on("error", () => {});
  }

  get remoteAddr(): A {
    if (this.#remoteAddr instanceof Error) throw this.#remoteAddr;
    return this.#remoteAddr;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (buffer.byteLength === 0) return 0;
    for (;;) {
      this.#throwIfOver();
      const available = Math.min(buffer.byteLength, this.#socket.readableLength);
      const chunk: Uint8Array | null = available > 0 ? this.#socket.read(available) : null;
      if (chunk !== null) {
        buffer.set(chunk);
        return chunk.byteLength;
      }
      if (this.#socket.readableEnded) return null;
      if (this.#socket.destroyed) throw closedError();
      await (this.#event ??= this.#readableEvent());
    }
  }

  async write(bytes: Uint8Array): Promise<number> {
    this.#throwIfOver();
    if (this.#socket.destroyed) throw closedError();
    // Told to the stream, it would end the reading side too.
    if (this.#socket.writableEnded) throw new Deno.errors.BrokenPipe("This side of the connection has been ended");
    await new Promise<void>((resolve, reject) => {
      this.#socket.write(bytes, (error) => error ? reject(this.#reason(error)) : resolve());
    });
    return bytes.byteLength;
  }

  async closeWrite(): Promise<void> {
    if (this.#socket.destroyed) throw closedError();
    await new Promise<void>((resolve, reject) => {
      this.#socket.end((error?: Error | null) => error ? reject(this.#reason(error)) : resolve());
    });
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= new ReadableStream({
      type: "bytes",
      autoAllocateChunkSize: 65_536,
      pull: async (controller) => {
        const request = controller.byobRequest!;
        const view = request.view!;
        const length = await this.read(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
        if (length === null) controller.close();
        request.respond(length ?? 0);
      },
      cancel: () => this.close(),
    });
  }

  get writable(): WritableStream<Uint8Array<ArrayBufferLike>> {
    return this.#writable ??= new WritableStream({
      write: async (chunk) => void await this.write(chunk),
      close: () => this.closeWrite(),
      abort: () => this.close(),
    });
  }

  setNoDelay(noDelay = true): void {
    // The stream leaves out what it takes to be so already, and knows only of what was set through it.
    this.#socket.setNoDelay(!noDelay);
    this.#socket.setNoDelay(noDelay);
  }

  setKeepAlive(keepAlive = true): void {
    this.#socket.setKeepAlive(!keepAlive);
    this.#socket.setKeepAlive(keepAlive);
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  #throwIfOver(): void {
    if (this.#closed) throw closedError();
    if (this.#socket.errored) throw toDenoError(this.#socket.errored);
  }

  /** Why a write failed: what waits when the connection fails is told no more than that it is over. */
  #reason(error: Error): Error {
    return toDenoError(this.#closed ? error : this.#socket.errored ?? error);
  }

  /** Settles at the next event after which reading may go on: data, the end, an error, the close. */
  #readableEvent(): Promise<void> {
    return new Promise((resolve) => {
      const events = ["readable", "end", "error", "close"] as const;
      const done = () => {
        this.#event = undefined;
        for (const event of events) this.#socket.off(event, done);
        resolve();
      };
      for (const event of events) this.#socket.on(event, done);
      this.#socket.read(0);
    });
  }
}

function closedError(): Error {
  return new Deno.errors.BadResource("Connection has been closed");
}

/** Node's error as the class Deno's own connections throw. */
function toDenoError(error: Error & { code?: string }): Error {
  switch (error.code) {
    case "ECONNRESET":
      return new Deno.errors.ConnectionReset(error.message, { cause: error });
    case "ECONNABORTED":
      return new Deno.errors.ConnectionAborted(error.message, { cause: error });
    case "ETIMEDOUT":
      return new Deno.errors.TimedOut(error.message, { cause: error });
    case "ENETUNREACH":
    case "ENETDOWN":
      return new Deno.errors.NetworkUnreachable(error.message, { cause: error });
    case "ENOTCONN":
      return new Deno.errors.NotConnected(error.message, { cause: error });
    case "EPIPE":
      return new Deno.errors.BrokenPipe(error.message, { cause: error });
    case "ECANCELED":
    case "ERR_STREAM_ALREADY_FINISHED":
    case "ERR_STREAM_DESTROYED":
    case "ERR_STREAM_WRITE_AFTER_END":
      return closedError();
    default:
      return error;
  }
}
