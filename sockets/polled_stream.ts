/**
 * A stream on a socket that needs nothing of Deno's but foreign functions: what {@linkcode openStream} makes where Deno
 * cannot adopt sockets, or is not to.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type net from "node:net";
import { Duplex } from "node:stream";
import { clearTimeout, setImmediate, setTimeout } from "node:timers";
import type { SocketOptions } from "../ffi/socket_options.ts";
import type { StreamIo } from "../ffi/stream_io.ts";
import { systemCalls } from "../ffi/system.ts";
import { WinsockError } from "../ffi/winsock_error.ts";

/** What one call reads at most, in bytes. */
const CHUNK_SIZE = 65_536;
/** What is read before the event loop gets a turn, in calls. */
const MOST_IN_TURN = 16;

/** Node's callback of everything that takes time. */
type Callback = (error?: Error | null) => void;

/** A connected socket in the shape of `net.Socket`; Node's HTTP and TLS take any stream. */
export class PolledStream extends Duplex {
  /** Never: it was connected when it was made. */
  readonly connecting: boolean = false;
  readonly pending: boolean = false;
  /** Bytes read and written so far. */
  bytesRead: number = 0;
  bytesWritten: number = 0;
  /** Milliseconds without traffic after which `timeout` is emitted; 0: never. */
  timeout: number = 0;

  readonly #io: StreamIo;
  readonly #local: Deno.NetAddr | Deno.UnixAddr;
  readonly #remote: Deno.NetAddr | Deno.UnixAddr | undefined;
  #reading = false;
  #buffer = Buffer.allocUnsafeSlow(CHUNK_SIZE);
  #idle: ReturnType<typeof setTimeout> | undefined;

  /** @param handle A connected stream socket, the stream's from then on; left alone if this throws. */
  constructor(handle: bigint) {
    const calls = systemCalls();
    const local = calls.localAddress(handle);
    super({ allowHalfOpen: true });
    this.#local = local;
    this.#remote = addressOrNone(() => calls.remoteAddress(handle));
    this.#io = calls.stream(handle);
    // As net.Socket does: whoever only writes hears of the end, too.
    this.read(0);
  }

  get localAddress(): string | undefined {
    return hostname(this.#local);
  }

  get localPort(): number | undefined {
    return port(this.#local);
  }

  get localFamily(): string | undefined {
    return family(this.#local);
  }

  get remoteAddress(): string | undefined {
    return hostname(this.#remote);
  }

  get remotePort(): number | undefined {
    return port(this.#remote);
  }

  get remoteFamily(): string | undefined {
    return family(this.#remote);
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
    return this.#set("TCP_NODELAY", noDelay);
  }

  setKeepAlive(enable: boolean = false, initialDelay: number = 0): this {
    this.#set("SO_KEEPALIVE", enable);
    const seconds = Math.floor(initialDelay / 1000);
    return enable && seconds > 0 ? this.#set("TCP_KEEPIDLE", seconds) : this;
  }

  setTimeout(timeout: number, callback?: () => void): this {
    this.timeout = timeout;
    if (callback !== undefined) {
      if (timeout === 0) this.off("timeout", callback);
      else this.once("timeout", callback);
    }
    clearTimeout(this.#idle);
    this.#idle = timeout === 0 || this.destroyed ? undefined : setTimeout(() => this.emit("timeout"), timeout).unref();
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

  /** Closes it once everything is written. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once("finish", () => this.destroy());
  }

  /** Closes it at once, and resets the connection. */
  resetAndDestroy(): this {
    if (!this.destroyed) this.#set("SO_LINGER", 0);
    return this.destroy();
  }

  override _read(): void {
    if (!this.#reading) this.#readAll();
  }

  override _write(chunk: Uint8Array<ArrayBuffer>, _encoding: string, callback: Callback): void {
    this.#write(chunk).then(() => callback(), callback);
  }

  override _writev(chunks: { chunk: Uint8Array }[], callback: Callback): void {
    this.#write(Buffer.concat(chunks.map(({ chunk }) => chunk))).then(() => callback(), callback);
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
    this.#io.close().then(() => callback(error), callback);
  }

  /** Reads until nobody wants more for the moment. */
  async #readAll(): Promise<void> {
    this.#reading = true;
    try {
      for (let inTurn = 1, wanted = true; wanted; inTurn++) {
        const length = await this.#io.receive(this.#buffer);
        if (this.destroyed) return;
        wanted = this.#take(length);
        if (inTurn % MOST_IN_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    } catch (error) {
      this.destroy(nodeError(error, "read"));
    } finally {
      this.#reading = false;
    }
  }

  /** Passes on what was read, and tells whether more is wanted. */
  #take(length: number): boolean {
    if (length === 0) {
      this.push(null);
      return false;
    }
    this.#active();
    this.bytesRead += length;
    // A short message is copied, so that it does not hold the room of a long one.
    const chunk = length < CHUNK_SIZE / 2 ? Buffer.from(this.#buffer.subarray(0, length)) : this.#passOn(length);
    return this.push(chunk);
  }

  #passOn(length: number): Buffer {
    const chunk = this.#buffer.subarray(0, length);
    this.#buffer = Buffer.allocUnsafeSlow(CHUNK_SIZE);
    return chunk;
  }

  async #write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#active();
    let sent: boolean;
    try {
      sent = await this.#io.send(bytes);
    } catch (error) {
      throw nodeError(error, "write");
    }
    if (!sent) throw Object.assign(new Error("write ECANCELED"), { code: "ECANCELED", syscall: "write" });
    this.bytesWritten += bytes.byteLength;
    this.#active();
  }

  #active(): void {
    this.#idle?.refresh();
  }

  /** As Node does, silently: where an option does not apply, there is nothing to set. */
  #set<Name extends keyof SocketOptions>(name: Name, value: SocketOptions[Name]): this {
    try {
      systemCalls().setOption(this.#io.s, name, value);
    } catch (error) {
      if (!(error instanceof WinsockError)) throw error;
    }
    return this;
  }
}

function addressOrNone<A>(read: () => A): A | undefined {
  try {
    return read();
  } catch {
    // A peer that has reset the connection has no address any more; reading is what tells that.
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

/** A native error as Node words it: `ECONNRESET` in place of WSAECONNRESET, `EPIPE` in place of WSAESHUTDOWN. */
function nodeError(error: unknown, syscall: string): Error {
  if (!(error instanceof WinsockError)) return error as Error;
  const code = error.codeName === "WSAESHUTDOWN" ? "EPIPE" : error.codeName.replace(/^WSA/, "");
  return Object.assign(new Error(`${syscall} ${code}`, { cause: error }), { code, syscall });
}
