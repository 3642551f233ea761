/**
 * A stream on a socket that only needs Deno's foreign functions. {@linkcode openStream} makes one if Deno cannot adopt
 * sockets, or if the caller does not want Deno to adopt the socket.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import type net from "node:net";
import { check, MAX_DURATION, type Rule } from "../internal/options.ts";
import { nodeBuiltin } from "../internal/runtime.ts";
import type { SocketOptions } from "../ffi/socket_options.ts";
import type { StreamIo } from "../ffi/nonblocking_io.ts";
import { systemCalls } from "../ffi/system.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import type { StreamEnd } from "./descriptor.ts";

/** As in Node, a longer time counts as the longest one. */
const TIMEOUT: Rule = {
  what: "a finite number from 0",
  numeric: true,
  accepts: (value) => typeof value === "number" && value >= 0 && value < Infinity,
};
/** The maximum number of bytes that are joined from several chunks for one call. */
const MAX_JOINED = 65_536;

/** The callback of Node's asynchronous stream methods. */
type Callback = (error?: Error | null) => void;

/** The class, which is defined with the first stream because it extends a class of Node. */
let PolledStream: ReturnType<typeof definePolledStream> | undefined;

/**
 * Makes a stream of the descriptor of a connected stream socket. The stream then owns the descriptor.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @param end How the stream ends the connection.
 */
export function openPolledStream(handle: bigint, end: StreamEnd): net.Socket {
  PolledStream ??= definePolledStream();
  return new PolledStream(handle, end) as unknown as net.Socket;
}

/** Defines a connected socket in the shape of `net.Socket`. Node's HTTP and TLS accept any stream. */
function definePolledStream() {
  const { Duplex } = nodeBuiltin("node:stream");
  const { clearTimeout, setTimeout } = nodeBuiltin("node:timers");
  return class extends Duplex {
    /** Whether the socket is connecting. Always `false`: it was connected when the stream was made. */
    readonly connecting: boolean = false;
    /** The number of bytes read. */
    bytesRead: number = 0;
    /** The milliseconds without traffic after which `timeout` is emitted. With 0 it is not emitted. */
    timeout: number | undefined;

    readonly #io: StreamIo;
    readonly #end: StreamEnd;
    readonly #local: Deno.NetAddr | Deno.UnixAddr;
    readonly #remote: Deno.NetAddr | Deno.UnixAddr | undefined;
    #reading = false;
    #sent = 0;
    #idle: ReturnType<typeof setTimeout> | undefined;

    constructor(handle: bigint, end: StreamEnd) {
      const calls = systemCalls();
      const local = calls.localAddress(handle);
      super({ allowHalfOpen: true, emitClose: false });
      this.#local = local;
      this.#remote = addressOrNone(() => calls.remoteAddress(handle));
      this.#io = calls.stream(handle);
      this.#end = end;
      this.read(0);
    }

    /** The number of bytes written, including those that wait to be sent. */
    get bytesWritten(): number {
      return this.#sent + this.writableLength;
    }

    /** Whether the stream has no socket, because it was destroyed. */
    get pending(): boolean {
      return this.destroyed;
    }

    get localAddress(): string | undefined {
      return this.destroyed ? undefined : hostname(this.#local);
    }

    get localPort(): number | undefined {
      return this.destroyed ? undefined : port(this.#local);
    }

    get localFamily(): string | undefined {
      return this.destroyed ? undefined : family(this.#local);
    }

    get remoteAddress(): string | undefined {
      return this.destroyed ? undefined : hostname(this.#remote);
    }

    get remotePort(): number | undefined {
      return this.destroyed ? undefined : port(this.#remote);
    }

    get remoteFamily(): string | undefined {
      return this.destroyed ? undefined : family(this.#remote);
    }

    get readyState(): net.SocketReadyState {
      if (this.readable) return this.writable ? "open" : "readOnly";
      return this.writable ? "writeOnly" : "closed";
    }

    address(): net.AddressInfo | Record<string, never> {
      const { localAddress: address, localPort: port, localFamily: family } = this;
      return address === undefined ? {} : { address, port: port!, family: family! };
    }

    setNoDelay(noDelay: boolean = true): this {
      return this.#set("TCP_NODELAY", Boolean(noDelay));
    }

    setKeepAlive(enable: boolean = false, initialDelay: number = 0): this {
      this.#set("SO_KEEPALIVE", Boolean(enable));
      const seconds = Math.floor(initialDelay / 1000);
      return enable && seconds > 0 ? this.#set("TCP_KEEPIDLE", seconds) : this;
    }

    setTimeout(timeout: number, callback?: () => void): this {
      check("timeout", timeout, TIMEOUT);
      this.timeout = Math.min(timeout, MAX_DURATION);
      if (callback !== undefined) {
        if (timeout === 0) this.off("timeout", callback);
        else this.once("timeout", callback);
      }
      clearTimeout(this.#idle);
      this.#idle = undefined;
      if (timeout > 0 && !this.destroyed) this.#idle = setTimeout(() => this.emit("timeout"), this.timeout).unref();
      return this;
    }

    ref(): this {
      this.#io.referenced = true;
      return this;
    }

    unref(): this {
      this.#io.referenced = false;
      return this;
    }

    /** Closes the stream after all pending writes. */
    destroySoon(): void {
      if (this.writable) this.end();
      if (this.writableFinished) this.destroy();
      else this.once("finish", () => this.destroy());
    }

    /** Closes the stream at once, and resets the connection. */
    resetAndDestroy(): this {
      return this.#set("SO_LINGER", 0).destroy();
    }

    override _read(): void {
      if (!this.#reading) this.#readAll();
    }

    override _write(chunk: Uint8Array<ArrayBuffer>, _encoding: string, callback: Callback): void {
      this.#write([chunk]).then(() => callback(), callback);
    }

    override _writev(chunks: { chunk: Uint8Array<ArrayBuffer> }[], callback: Callback): void {
      this.#write(joined(chunks.map(({ chunk }) => chunk))).then(() => callback(), callback);
    }

    override _final(callback: Callback): void {
      try {
        this.#io.endSending();
      } catch (error) {
        return callback(nodeError(error, "shutdown"));
      }
      callback();
    }

    override _destroy(error: Error | null, callback: Callback): void {
      clearTimeout(this.#idle);
      if (this.#end.shared) systemCalls().shutDown(this.#io.s);
      const closed = (failure: Error | null) => {
        callback(failure);
        nodeBuiltin("node:process").nextTick(() => this.emit("close", failure !== null));
      };
      this.#io.close(this.#end.elsewhere).then(
        () => closed(error),
        (failure) => closed(error ?? nodeError(failure, "close")),
      );
    }

    /** Reads until the consumer wants no more for the moment. */
    async #readAll(): Promise<void> {
      this.#reading = true;
      try {
        for (let wanted = true; wanted;) {
          const bytes = await this.#io.receive();
          if (this.destroyed) return;
          wanted = this.#take(bytes);
        }
      } catch (error) {
        this.destroy(nodeError(error, "read"));
      } finally {
        this.#reading = false;
      }
    }

    /** Pushes the bytes that were read. Returns whether more are wanted. */
    #take(bytes: Uint8Array): boolean {
      if (bytes.byteLength === 0) {
        this.push(null);
        // A consumer that reads nothing also gets the end.
        this.read(0);
        return false;
      }
      this.#active();
      this.bytesRead += bytes.byteLength;
      return this.push(nodeBuiltin("node:buffer").Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    }

    async #write(parts: Iterable<Uint8Array<ArrayBuffer>>): Promise<void> {
      for (const part of parts) {
        this.#active();
        let sent: boolean;
        try {
          sent = await this.#io.send(part);
        } catch (error) {
          throw nodeError(error, "write");
        }
        if (!sent) throw canceledError();
        this.#sent += part.byteLength;
      }
      this.#active();
    }

    #active(): void {
      this.#idle?.refresh();
    }

    /**
     * Sets an option. As in Node, an error of the system is ignored, because the option may not apply to the socket.
     */
    #set<Name extends keyof SocketOptions>(name: Name, value: SocketOptions[Name]): this {
      // After the stream was destroyed, the number may belong to another socket.
      if (this.destroyed) return this;
      try {
        systemCalls().setOption(this.#io.s, name, value);
      } catch (error) {
        if (!(error instanceof WinsockError)) throw error;
      }
      return this;
    }
  };
}

/** Joins short chunks, so that writing them takes fewer calls. */
export function* joined(chunks: Uint8Array<ArrayBuffer>[]): Generator<Uint8Array<ArrayBuffer>> {
  let short: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for (const chunk of chunks) {
    if (length > 0 && length + chunk.byteLength > MAX_JOINED) {
      yield concat(short);
      [short, length] = [[], 0];
    }
    short.push(chunk);
    length += chunk.byteLength;
  }
  yield short.length === 1 ? short[0]! : concat(short);
}

/** Returns the error of a write whose stream was destroyed meanwhile. */
export function canceledError(): Error {
  return Object.assign(new Error("write ECANCELED"), { code: "ECANCELED", syscall: "write" });
}

function addressOrNone<A>(read: () => A): A | undefined {
  try {
    return read();
  } catch {
    // The system no longer has the address of a peer that has reset the connection. Reading reports the reset.
    return undefined;
  }
}

function hostname(address: Deno.NetAddr | Deno.UnixAddr | undefined): string | undefined {
  return address !== undefined && "hostname" in address ? address.hostname : undefined;
}

function port(address: Deno.NetAddr | Deno.UnixAddr | undefined): number | undefined {
  return address !== undefined && "hostname" in address ? address.port : undefined;
}

function family(address: Deno.NetAddr | Deno.UnixAddr | undefined): string | undefined {
  if (address === undefined || !("hostname" in address)) return undefined;
  return address.hostname.includes(":") ? "IPv6" : "IPv4";
}

/** Converts a native error to an error of Node: WSAECONNRESET to `ECONNRESET`, WSAESHUTDOWN to `EPIPE`. */
export function nodeError(error: unknown, syscall: string): Error {
  if (!(error instanceof WinsockError)) return error as Error;
  const code = error.codeName === "WSAESHUTDOWN" ? "EPIPE" : error.codeName.replace(/^WSA/, "");
  return Object.assign(new Error(`${syscall} ${code}`, { cause: error }), { code, syscall });
}
