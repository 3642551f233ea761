/**
 * The part of the socket calls that ws2_32 and libc have in common: Berkeley's functions, told apart by the numbers of
 * their constants only.
 *
 * @module
 */
import { SOCKADDR_IN, SOCKADDR_IN6 } from "../structs/sockaddr.ts";
import type { Acceptor, SocketCalls, SocketKind, SocketOptions } from "./socket_calls.ts";
import type { WinsockError } from "./winsock_error.ts";

/** Berkeley's functions as both libraries export them; -1 says that one failed. */
export interface BerkeleyFunctions {
  bind(s: bigint, name: BufferSource, namelen: number): number;
  listen(s: bigint, backlog: number): number;
  connect(s: bigint, name: BufferSource, namelen: number): number;
  getsockname(s: bigint, name: BufferSource, namelen: BufferSource): number;
  getpeername(s: bigint, name: BufferSource, namelen: BufferSource): number;
  getsockopt(s: bigint, level: number, optname: number, optval: BufferSource, optlen: BufferSource): number;
  setsockopt(s: bigint, level: number, optname: number, optval: BufferSource, optlen: number): number;
  recv(s: bigint, buffer: BufferSource, length: number, flags: number): number;
  inet_pton(family: number, text: BufferSource, address: BufferSource): number;
  inet_ntop(family: number, address: BufferSource, text: BufferSource, size: number): bigint;
}

/** An option's level and number in one system's headers. */
export type OptionNumbers = readonly [level: number, optname: number];

/** The constants in which the systems differ. */
export interface BerkeleyConstants {
  readonly AF_INET6: number;
  readonly SO_TYPE: OptionNumbers;
  readonly SO_ACCEPTCONN: OptionNumbers;
  readonly SO_ERROR: OptionNumbers;
  readonly IPV6_V6ONLY: OptionNumbers;
  /** What makes a listener exclusive, or lets it bind beside connections that are still closing. */
  readonly LISTENER: OptionNumbers;
  readonly options: { readonly [Name in keyof SocketOptions]: OptionNumbers };
}

export const AF_INET = 2;
export const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const BOOLEAN_OPTIONS: ReadonlySet<string> = new Set(["TCP_NODELAY", "SO_KEEPALIVE"]);
const TEXT_SIZE = 64;
const POLL_SLICE_MS = 50;
const MSG_PEEK = 2;

/** An option's value and its size, of one call at a time. */
const optionValue = new Int32Array(1);
const optionLength = new Int32Array(1);

/** Base of both systems' {@linkcode SocketCalls}. */
export abstract class BerkeleyCalls implements SocketCalls {
  protected constructor(readonly functions: BerkeleyFunctions, readonly constants: BerkeleyConstants) {}

  /** The error of the call in the statement before, as this system keeps it. */
  protected abstract lastError(operation: string, functionName: string): WinsockError;
  /** The error of a code the system told in another way. */
  protected abstract errorOf(code: number, operation: string, functionName: string): WinsockError;
  /** Makes a stream socket that children do not inherit. */
  protected abstract create(family: number): bigint;
  abstract connect(s: bigint, address: { hostname: string; port: number }, signal?: AbortSignal): Promise<void>;
  abstract pair(): [bigint, bigint];
  abstract holdAccepting(): Promise<Disposable>;
  abstract acceptor(listener: bigint): Acceptor;
  abstract close(s: bigint): void;

  open(hostname: string): bigint {
    return this.create(hostname.includes(":") ? this.constants.AF_INET6 : AF_INET);
  }

  listen(address: { hostname: string; port: number }, backlog: number): bigint {
    const name = this.encodeAddress(address);
    const at = `${address.hostname} port ${address.port}`;
    const s = this.open(address.hostname);
    try {
      this.setNumber(s, this.constants.LISTENER, 1, `listen on ${at}`);
      if (address.hostname === "::") this.setNumber(s, this.constants.IPV6_V6ONLY, 0, `listen on ${at}`);
      const bound = this.functions.bind(s, name, name.byteLength);
      if (bound === -1) throw this.lastError(`bind to ${at}`, "bind");
      const listening = this.functions.listen(s, backlog);
      if (listening === -1) throw this.lastError(`listen on ${at}`, "listen");
      return s;
    } catch (error) {
      this.close(s);
      throw error;
    }
  }

  kind(s: bigint, operation: string): SocketKind {
    if (this.isDatagram(s, operation)) return "datagram";
    return this.isListening(s, operation) ? "listener" : "connection";
  }

  isDatagram(s: bigint, operation: string): boolean {
    return this.getNumber(s, this.constants.SO_TYPE, operation) === SOCK_DGRAM;
  }

  isListening(s: bigint, operation: string): boolean {
    return this.getNumber(s, this.constants.SO_ACCEPTCONN, operation) !== 0;
  }

  localAddress(s: bigint): Deno.NetAddr {
    const name = new Uint8Array(SOCKADDR_IN6.size);
    const length = new Int32Array([name.byteLength]);
    const result = this.functions.getsockname(s, name, length);
    if (result === -1) throw this.lastError(`read the local address of socket ${s}`, "getsockname");
    return this.decodeAddress(name);
  }

  remoteAddress(s: bigint): Deno.NetAddr {
    const name = new Uint8Array(SOCKADDR_IN6.size);
    const length = new Int32Array([name.byteLength]);
    const result = this.functions.getpeername(s, name, length);
    if (result === -1) throw this.lastError(`read the remote address of socket ${s}`, "getpeername");
    return this.decodeAddress(name);
  }

  getOption<Name extends keyof SocketOptions>(s: bigint, name: Name): SocketOptions[Name] {
    const value = this.getNumber(s, this.constants.options[name], `get option ${name} of socket ${s}`);
    return (BOOLEAN_OPTIONS.has(name) ? value !== 0 : value) as SocketOptions[Name];
  }

  setOption<Name extends keyof SocketOptions>(s: bigint, name: Name, value: SocketOptions[Name]): void {
    this.setNumber(s, this.constants.options[name], Number(value), `set option ${name} of socket ${s}`);
  }

  /**
   * Waits until a non-blocking `connect` has succeeded or failed. Asks after every slice: a poll may be interrupted, and
   * older Windows does not wake WSAPoll for a connection that failed.
   */
  protected async connected(
    s: bigint,
    operation: string,
    poll: (milliseconds: number) => Promise<number>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    for (let ready = 0; ready <= 0;) {
      ready = await poll(POLL_SLICE_MS);
      signal?.throwIfAborted();
      const code = this.getNumber(s, this.constants.SO_ERROR, operation);
      if (code !== 0) throw this.errorOf(code, operation, "connect");
    }
  }

  /** Waits on a pool thread until `s` can be read; resolves with 0 if it cannot after that time. */
  protected abstract readable(s: bigint, milliseconds: number): Promise<number>;

  async peek(s: bigint, buffer: Uint8Array<ArrayBuffer>): Promise<number | undefined> {
    // Asked first: on Windows the socket is blocking, and recv would block this thread.
    const ready = await this.readable(s, POLL_SLICE_MS);
    if (ready <= 0) return undefined;
    const count = this.functions.recv(s, buffer, buffer.byteLength, MSG_PEEK);
    if (count === -1) throw this.lastError(`peek at socket ${s}`, "recv");
    return count;
  }

  protected getNumber(s: bigint, [level, optname]: OptionNumbers, operation: string): number {
    optionLength[0] = optionValue.byteLength;
    const result = this.functions.getsockopt(s, level, optname, optionValue, optionLength);
    if (result === -1) throw this.lastError(operation, "getsockopt");
    return optionValue[0]!;
  }

  protected setNumber(s: bigint, [level, optname]: OptionNumbers, value: number, operation: string): void {
    optionValue[0] = value;
    const result = this.functions.setsockopt(s, level, optname, optionValue, optionValue.byteLength);
    if (result === -1) throw this.lastError(operation, "setsockopt");
  }

  /** An address as the kernel takes it. */
  protected encodeAddress({ hostname, port }: { hostname: string; port: number }): Uint8Array<ArrayBuffer> {
    const [text = "", scope = "0"] = hostname.split("%");
    const source = new TextEncoder().encode(`${text}\0`);
    const v6 = text.includes(":");
    const family = v6 ? this.constants.AF_INET6 : AF_INET;
    const address = new Uint8Array(v6 ? 16 : 4);
    const parsed = this.functions.inet_pton(family, source, address);
    if (parsed !== 1) throw new TypeError(`"${hostname}" is no IP address`);
    return v6
      ? SOCKADDR_IN6.encode({
        sin6_family: family,
        sin6_port: port,
        sin6_flowinfo: 0,
        sin6_addr: address,
        sin6_scope_id: Number(scope),
      })
      : SOCKADDR_IN.encode({ sin_family: family, sin_port: port, sin_addr: address, sin_zero: new Uint8Array(8) });
  }

  protected decodeAddress(name: Uint8Array<ArrayBuffer>): Deno.NetAddr {
    const family = new DataView(name.buffer, name.byteOffset).getUint16(0, true);
    if (family === AF_INET) {
      const { sin_port, sin_addr } = SOCKADDR_IN.decode(name.subarray(0, SOCKADDR_IN.size));
      return { transport: "tcp", hostname: this.#text(family, sin_addr), port: sin_port };
    }
    if (family === this.constants.AF_INET6) {
      const { sin6_port, sin6_addr, sin6_scope_id } = SOCKADDR_IN6.decode(name);
      const scope = sin6_scope_id === 0 ? "" : `%${sin6_scope_id}`;
      return { transport: "tcp", hostname: this.#text(family, sin6_addr) + scope, port: sin6_port };
    }
    throw new RangeError(`Address family ${family} is neither IPv4 nor IPv6`);
  }

  #text(family: number, address: Uint8Array): string {
    const text = new Uint8Array(TEXT_SIZE);
    this.functions.inet_ntop(family, address as Uint8Array<ArrayBuffer>, text, TEXT_SIZE);
    return new TextDecoder().decode(text.subarray(0, text.indexOf(0)));
  }
}
