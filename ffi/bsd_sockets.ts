/**
 * The socket calls that ws2_32 and libc have in common. These are the Berkeley functions, which differ only in the
 * numbers of their constants.
 *
 * @module
 */
import {
  ADDRESS_SIZE,
  AddressCodec,
  type AddressFunctions,
  AF_UNIX,
  describeAddress,
  type HostLookup,
  type InternetAddress,
  lookUpHost,
  lookUpHostNow,
  type SocketAddress,
} from "./socket_address.ts";
import {
  type Acceptor,
  type BindOptions,
  checkDescriptor,
  type DatagramBindOptions,
  type LocalType,
  type OpenSockets,
  type SocketCalls,
  type SocketKind,
  socketName,
} from "./platform.ts";
import type { Poller, Readiness } from "./poller.ts";
import {
  checkOptionName,
  type OptionNumbers,
  type OptionTable,
  OptionValues,
  type SocketOptions,
} from "./socket_options.ts";
import type { DatagramReceiver, StreamIo } from "./nonblocking_io.ts";
import { shown } from "../internal/options.ts";
import { YieldBudget } from "../internal/runtime.ts";
import { WinsockError } from "./winsock_error.ts";
import { SOCK, WSA_ERRORS } from "../structs/constants.ts";

/** The Berkeley functions that both libraries export. A result of -1 means failure. */
interface BerkeleyFunctions extends AddressFunctions {
  bind(s: bigint, name: BufferSource, namelen: number): number;
  listen(s: bigint, backlog: number): number;
  connect(s: bigint, name: BufferSource, namelen: number): number;
  getsockname(s: bigint, name: BufferSource, namelen: BufferSource): number;
  getpeername(s: bigint, name: BufferSource, namelen: BufferSource): number;
  getsockopt(s: bigint, level: number, optname: number, optval: BufferSource, optlen: BufferSource): number;
  setsockopt(s: bigint, level: number, optname: number, optval: BufferSource, optlen: number): number;
}

/** The constants that differ between the systems. */
export interface BerkeleyConstants {
  readonly AF_INET6: number;
  readonly SO_TYPE: OptionNumbers;
  readonly SO_ACCEPTCONN: OptionNumbers;
  readonly IP_ADD_MEMBERSHIP: OptionNumbers;
  readonly IP_DROP_MEMBERSHIP: OptionNumbers;
  readonly IPV6_ADD_MEMBERSHIP: OptionNumbers;
  readonly IPV6_DROP_MEMBERSHIP: OptionNumbers;
  /** The option that makes a listener exclusive, or lets it bind while earlier connections are still closing. */
  readonly LISTENER: OptionNumbers;
  /** The size of each member of `struct linger` in bytes. */
  readonly lingerWidth: 2 | 4;
  /** Whether a time is a `struct timeval`. Otherwise it is a number of milliseconds. */
  readonly hasTimeval: boolean;
  readonly options: OptionTable;
}

/** The options that not every system has, by the names of the functions' options. */
const OPTIONAL = { reusePort: "SO_REUSEPORT", freeBind: "IP_FREEBIND" } as const;

const MSG_PEEK = 2;
/** The most calls that complete without waiting in one turn of the event loop. */
const MAX_IN_TURN = 64;

/** The value of an option and its size, shared by all calls: only one call uses them at a time. */
const optionValue = new Int32Array(1);
const optionLength = new Int32Array(1);
const addressBytes = new Uint8Array(ADDRESS_SIZE);
const addressLength = new Int32Array(1);

/** The base class of the {@linkcode SocketCalls} of both systems. */
export abstract class BsdSockets implements SocketCalls {
  readonly #values: OptionValues;
  readonly #turns = new YieldBudget(MAX_IN_TURN);

  protected constructor(
    readonly functions: BerkeleyFunctions,
    readonly constants: BerkeleyConstants,
    protected readonly addresses: AddressCodec = new AddressCodec(functions, constants.AF_INET6),
  ) {
    this.#values = new OptionValues(constants.lingerWidth, constants.hasTimeval);
  }

  /** The poller for the sockets of this program. */
  protected abstract get poller(): Poller;
  /** Closes the descriptor, without any other action. */
  protected abstract closeDescriptor(s: bigint): void;
  /** Calls `recv` without waiting. Returns `undefined` if no data is available. */
  protected abstract tryReceive(
    s: bigint,
    buffer: Uint8Array<ArrayBuffer>,
    flags: number,
    operation: string,
  ): number | undefined;
  /** Returns the error of the call in the previous statement. */
  protected abstract lastError(operation: string, functionName: string): WinsockError;
  /** Returns the error for a code that the system reported in another way. */
  protected abstract errorOf(code: number, operation: string, functionName: string): WinsockError;
  /** Makes a stream or datagram socket of the address family. Child processes do not inherit it. */
  protected abstract create(family: number, type: number): bigint;
  /** Encodes an address in the form that the kernel uses. */
  protected abstract encodeAddress(address: SocketAddress): Uint8Array<ArrayBuffer>;
  /** The options that let two datagram sockets share an address. */
  protected get sharedDatagram(): readonly OptionNumbers[] {
    const { SO_REUSEADDR } = this.constants.options;
    return SO_REUSEADDR === undefined ? [] : [SO_REUSEADDR];
  }

  /** The functions that look up the addresses of a host. */
  protected abstract get hostLookup(): HostLookup;

  abstract openLocal(path: string, type?: LocalType): bigint;
  abstract connect(s: bigint, address: SocketAddress, signal?: AbortSignal): Promise<void>;
  abstract duplicate(s: bigint): bigint;
  abstract pair(): [bigint, bigint];
  abstract holdAccepting(): Promise<Disposable>;
  abstract acceptor(listener: bigint, isSole: () => boolean): Acceptor;
  abstract unblock(s: bigint): void;
  abstract sendDatagram(s: bigint, data: Uint8Array, address: SocketAddress): number | undefined;
  abstract receiver(s: bigint): DatagramReceiver;
  abstract shutDown(s: bigint): void;
  abstract stream(s: bigint): StreamIo;
  abstract closeElsewhere(s: bigint, end: boolean): Promise<void>;
  abstract interruptCloses(): void;
  abstract watchOpenSockets(): OpenSockets | undefined;
  abstract removeLocal(path: string): void;

  resolve(hostname: string, signal?: AbortSignal): Promise<string[]> {
    return lookUpHost(hostname, this.hostLookup, this.addresses, signal);
  }

  resolveNow(hostname: string): string[] {
    return lookUpHostNow(hostname, this.hostLookup, this.addresses);
  }

  open(hostname: string): bigint {
    return this.create(this.addresses.familyOf(hostname), SOCK.SOCK_STREAM);
  }

  listen(address: SocketAddress, backlog: number, options: BindOptions = {}): bigint {
    const operation = `listen on ${describeAddress(address)}`;
    const name = this.encodeAddress(address);
    this.#checkOptions(options, operation);
    const s = "path" in address ? this.openLocal(address.path, options.type) : this.open(address.hostname);
    return this.#orClose(s, () => {
      if (!("path" in address)) this.#prepare(s, address, options, [this.constants.LISTENER], operation);
      this.#bind(s, address, name);
      const listening = this.functions.listen(s, backlog);
      if (listening === -1) throw this.lastError(operation, "listen");
    });
  }

  bindDatagram(address: SocketAddress, options: DatagramBindOptions = {}): bigint {
    const operation = `bind to ${describeAddress(address)}`;
    const name = this.encodeAddress(address);
    if ("path" in address) {
      const local = this.create(AF_UNIX, SOCK.SOCK_DGRAM);
      return this.#orClose(local, () => this.#bind(local, address, name));
    }
    this.#checkOptions(options, operation);
    const s = this.create(this.addresses.familyOf(address.hostname), SOCK.SOCK_DGRAM);
    const { SO_EXCLUSIVEADDRUSE } = this.constants.options;
    return this.#orClose(s, () => {
      const exclusive = SO_EXCLUSIVEADDRUSE === undefined ? [] : [SO_EXCLUSIVEADDRUSE];
      this.#prepare(s, address, options, options.reuseAddress === true ? this.sharedDatagram : exclusive, operation);
      this.setOption(s, "SO_BROADCAST", true);
      this.#bind(s, address, name);
    });
  }

  connectDatagram(s: bigint, address: InternetAddress): void {
    const name = this.encodeAddress(address);
    const connected = this.functions.connect(s, name, name.byteLength);
    if (connected === -1) throw this.lastError(`connect to ${describeAddress(address)}`, "connect");
  }

  #bind(s: bigint, address: SocketAddress, name: Uint8Array<ArrayBuffer>): void {
    const bound = this.functions.bind(s, name, name.byteLength);
    if (bound === -1) throw this.lastError(`bind to ${describeAddress(address)}`, "bind");
  }

  #checkOptions(options: BindOptions, operation: string): void {
    for (const [name, option] of Object.entries(OPTIONAL) as [keyof typeof OPTIONAL, keyof SocketOptions][]) {
      if (options[name] !== true || this.constants.options[option] !== undefined) continue;
      throw new Deno.errors.NotSupported(`Cannot ${operation} with \`${name}\`: this system does not have ${option}`);
    }
  }

  /** Sets what counts when a socket is bound. */
  #prepare(
    s: bigint,
    { hostname }: InternetAddress,
    { reusePort, freeBind, ipv6Only = hostname === "::" ? false : undefined }: BindOptions,
    others: readonly OptionNumbers[],
    operation: string,
  ): void {
    for (const option of others) this.setNumber(s, option, 1, operation);
    if (reusePort === true) this.setOption(s, "SO_REUSEPORT", true);
    if (freeBind === true) this.setOption(s, "IP_FREEBIND", true);
    if (ipv6Only !== undefined && hostname.includes(":")) this.setOption(s, "IPV6_V6ONLY", ipv6Only);
  }

  #orClose(s: bigint, use: () => void): bigint {
    try {
      use();
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

  assertSocket(s: bigint, operation: string): void {
    this.getNumber(s, this.constants.SO_TYPE, operation);
  }

  isDatagram(s: bigint, operation: string): boolean {
    return this.getNumber(s, this.constants.SO_TYPE, operation) === SOCK.SOCK_DGRAM;
  }

  keepsMessages(s: bigint): boolean {
    return this.getNumber(s, this.constants.SO_TYPE, `read the type of ${socketName(s)}`) === SOCK.SOCK_SEQPACKET;
  }

  isListening(s: bigint, operation: string): boolean {
    return this.getNumber(s, this.constants.SO_ACCEPTCONN, operation) !== 0;
  }

  localAddress(s: bigint): Deno.NetAddr | Deno.UnixAddr {
    return this.#address(s, "local", "getsockname");
  }

  remoteAddress(s: bigint): Deno.NetAddr | Deno.UnixAddr {
    return this.#address(s, "remote", "getpeername");
  }

  #address(s: bigint, which: string, functionName: "getsockname" | "getpeername"): Deno.NetAddr | Deno.UnixAddr {
    addressLength[0] = addressBytes.byteLength;
    const result = this.functions[functionName](s, addressBytes, addressLength);
    if (result === -1) throw this.lastError(operationOf(which, s), functionName);
    const length = addressLength[0]!;
    if (functionName === "getpeername" && this.addresses.isUnspecified(addressBytes, length)) {
      // On Wine the call succeeds without an address if the peer has reset the connection.
      const [operation, detail] = [operationOf(which, s), "the system returned no address"];
      throw new WinsockError(WSA_ERRORS.WSAENOTCONN, { operation, functionName, detail });
    }
    return this.addresses.decode(addressBytes, length);
  }

  getOption<Name extends keyof SocketOptions>(s: bigint, name: Name): SocketOptions[Name] {
    checkOptionName(name);
    const operation = `get option ${name} of ${socketName(s)}`;
    const [level, optname] = this.#numbers(name, operation);
    const bytes = new Uint8Array(this.#values.sizeOf(name));
    const length = new Int32Array([bytes.byteLength]);
    const result = this.functions.getsockopt(s, level, optname, bytes, length);
    if (result === -1) throw this.lastError(operation, "getsockopt");
    const value = this.#values.decode(name, bytes);
    if (name !== "SO_ERROR" || value === 0) return value;
    return this.errorOf(value as number, operation, "getsockopt").code as SocketOptions[Name];
  }

  setOption<Name extends keyof SocketOptions>(s: bigint, name: Name, value: SocketOptions[Name]): void {
    checkOptionName(name);
    const operation = `set option ${name} of ${socketName(s)}`;
    this.setBytes(s, this.#numbers(name, operation), this.#values.encode(name, value), operation);
  }

  getRawOption(s: bigint, level: number, optname: number, size: number): Uint8Array<ArrayBuffer> {
    const value = new Uint8Array(size);
    const length = new Int32Array([size]);
    const result = this.functions.getsockopt(s, level | 0, optname | 0, value, length);
    if (result === -1) {
      throw this.lastError(`get option ${optname} of level ${level} of ${socketName(s)}`, "getsockopt");
    }
    return value.slice(0, length[0]);
  }

  setRawOption(s: bigint, level: number, optname: number, value: Uint8Array<ArrayBuffer>): void {
    this.setBytes(s, [level | 0, optname | 0], value, `set option ${optname} of level ${level} of ${socketName(s)}`);
  }

  #numbers(name: keyof SocketOptions, operation: string): OptionNumbers {
    const numbers = this.constants.options[name];
    if (numbers === undefined) {
      throw new Deno.errors.NotSupported(`Cannot ${operation}: this system does not have the option`);
    }
    return numbers;
  }

  setMembership(s: bigint, member: boolean, group: string, networkInterface: string | number): void {
    const { IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP, IPV6_ADD_MEMBERSHIP, IPV6_DROP_MEMBERSHIP } = this.constants;
    const operation = `${member ? "join" : "leave"} multicast group ${group} on interface ${networkInterface}`;
    const { address } = this.addresses.parse(group, "address");
    if (typeof networkInterface === "string") {
      const request = new Uint8Array([
        ...address,
        ...this.addresses.parse(networkInterface, "networkInterface").address,
      ]);
      if (request.byteLength !== 8) {
        throw new TypeError("Invalid `address` and `networkInterface`: must both be IPv4 addresses");
      }
      return this.setBytes(s, member ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, request, operation);
    }
    if (address.byteLength !== 16) {
      throw new TypeError(`Invalid \`address\`: must be an IPv6 address, got ${shown(group)}`);
    }
    const index = new Uint8Array(new Uint32Array([networkInterface]).buffer);
    const request = new Uint8Array([...address, ...index]);
    this.setBytes(s, member ? IPV6_ADD_MEMBERSHIP : IPV6_DROP_MEMBERSHIP, request, operation);
  }

  /**
   * Waits until a non-blocking `connect` has succeeded or failed.
   *
   * @param askEvery The interval for checking whether the attempt has failed, in milliseconds, on systems where the
   * poller may not report a failure.
   */
  protected async connected(
    s: bigint,
    operation: string,
    signal: AbortSignal | undefined,
    askEvery?: number,
  ): Promise<void> {
    const done = () => {
      const code = this.getNumber(s, this.constants.options.SO_ERROR, operation);
      if (code !== 0) throw this.errorOf(code, operation, "connect");
      return true;
    };
    await this.#wait(s, "write", { operation, signal, done, askEvery });
  }

  async peek(
    s: bigint,
    buffer: Uint8Array<ArrayBuffer>,
    atLeast: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    return await this.#receive(s, buffer, MSG_PEEK, atLeast, `peek at ${socketName(s)}`, signal);
  }

  async receive(s: bigint, buffer: Uint8Array<ArrayBuffer>, signal: AbortSignal | undefined): Promise<number> {
    return await this.#receive(s, buffer, 0, 1, `read from ${socketName(s)}`, signal);
  }

  /**
   * Receives in the same turn in which data was found. Does nothing after an `await` except return: by then another
   * socket may have the number, or the signal may be aborted.
   */
  async #receive(
    s: bigint,
    buffer: Uint8Array<ArrayBuffer>,
    flags: number,
    atLeast: number,
    operation: string,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    signal?.throwIfAborted();
    let count: number | undefined;
    const done = (ended: boolean) => {
      count = this.tryReceive(s, buffer, flags, operation);
      return count !== undefined && (count === 0 || count >= atLeast || ended);
    };
    if (!done(false)) {
      this.#turns.reset();
      await this.#wait(s, "read", { operation, signal, done });
    } else {
      this.#turns.spend();
      if (this.#turns.exhausted) await this.#turns.yield();
    }
    return count!;
  }

  async writable(s: bigint): Promise<void> {
    // If the wait fails, the next send reports the reason.
    await this.#wait(s, "write", { operation: `send on ${socketName(s)}` });
  }

  async #wait(
    s: bigint,
    readiness: Readiness,
    { operation, signal, done, askEvery }: {
      operation: string;
      signal?: AbortSignal | undefined;
      done?: (ended: boolean) => boolean;
      /** The interval in milliseconds for calling `done`, which throws to end the wait. */
      askEvery?: number | undefined;
    },
  ): Promise<void> {
    const { poller } = this;
    const waiting = poller.prepare().wait(s, readiness, { operation, ...done === undefined ? {} : { done } });
    const abort = () => poller.abandon(waiting, signal!.reason);
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
    const ask = () => {
      try {
        done?.(false);
      } catch (error) {
        poller.abandon(waiting, error);
      }
    };
    const timer = askEvery === undefined ? undefined : setInterval(ask, askEvery);
    try {
      await waiting.over;
    } finally {
      signal?.removeEventListener("abort", abort);
      clearInterval(timer);
    }
  }

  endWaits(s: bigint): void {
    this.poller.release(s);
  }

  close(s: bigint): void {
    checkDescriptor(s, `close socket ${s}`, "close");
    this.endWaits(s);
    this.closeDescriptor(s);
  }

  protected getNumber(s: bigint, [level, optname]: OptionNumbers, operation: string): number {
    checkDescriptor(s, operation, "getsockopt");
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

  protected setBytes(
    s: bigint,
    [level, optname]: OptionNumbers,
    value: Uint8Array<ArrayBuffer>,
    operation: string,
  ): void {
    const result = this.functions.setsockopt(s, level, optname, value, value.byteLength);
    if (result === -1) throw this.lastError(operation, "setsockopt");
  }
}

function operationOf(which: string, s: bigint): string {
  return `read the ${which} address of ${socketName(s)}`;
}
