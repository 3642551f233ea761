/**
 * {@linkcode SocketCalls} on Unix' libc.
 *
 * When a Worker is terminated nothing of it runs, but glibc calls what was registered for the end of the thread
 * (`__cxa_thread_atexit_impl`). What can be registered is a function and one argument, for good. That function is `fclose`,
 * and the argument a stream (`FILE`) opened for nothing else: while it has no descriptor, closing it does nothing.
 *
 * On macOS a process also asks about its own descriptors (`proc_info.h`), for what `getsockopt` leaves out there.
 *
 * @module
 */
import {
  AddressCodec,
  AF_INET,
  AF_UNIX,
  describeAddress,
  type InternetAddress,
  readFamily,
  type SocketAddress,
} from "../socket_address.ts";
import {
  closeElsewhere,
  errno,
  isErrno,
  lastUnixError,
  libc,
  libcFunctions,
  SHUT_RDWR,
  unixError,
  unixSystem,
} from "./libc.ts";
import { AF, IPPROTO, SOCK } from "../../structs/constants.ts";
import type { OptionNumbers } from "../socket_options.ts";
import { inWorker, type ThreadEnd, useThreadEnd } from "../../internal/unload.ts";
import { BsdSockets } from "../bsd_sockets.ts";
import { type Acceptor, socketName } from "../platform.ts";
import { type DatagramReceiver, PolledReceiver, StreamIo } from "../nonblocking_io.ts";
import type { Poller } from "../poller.ts";
import type { WinsockError } from "../winsock_error.ts";
import { UnixAcceptor } from "./acceptor.ts";
import { tryReceive, tryRecv, trySend, UNIX_STREAMS } from "./io.ts";
import { unixPoller } from "./poller.ts";
import { duplicateFrom, newSocket, newSocketPair, setNonblocking } from "./descriptors.ts";
import { encodeLocalAddress, removeUnbound } from "./local_sockets.ts";

let addresses: AddressCodec | undefined;

/** The codec of this system's addresses; libc is opened at the first call. */
export function unixAddresses(): AddressCodec {
  return addresses ??= new AddressCodec(libc(), unixSystem().berkeley.AF_INET6, unixSystem());
}

const PROC_PIDFDSOCKETINFO = 3;
/** Room for `struct socket_fdinfo`, of 792 bytes. */
const SIZE = 1024;
/** Where `psi.soi_options` is in it: behind `struct proc_fileinfo` of 24 bytes and `struct vinfo_stat` of 136. */
const SOI_OPTIONS = 188;

/** Room for any address, of which the family is wanted. */
const NAME_SIZE = 128;

const infoFunctions = libcFunctions({
  /** `int proc_pidfdinfo(int pid, int fd, int flavor, void *buffer, int buffersize)` */
  proc_pidfdinfo: { parameters: ["i32", "usize", "i32", "buffer", "i32"], result: "i32" },
});

/**
 * Whether a socket of this process listens.
 *
 * @param s The socket.
 * @param operation What it is needed for, for the error.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 */
function hasListened(s: bigint, operation: string): boolean {
  const info = new Uint8Array(SIZE);
  const size = infoFunctions().proc_pidfdinfo(Deno.pid, s, PROC_PIDFDSOCKETINFO, info, SIZE);
  if (size <= 0) throw lastUnixError(operation, "proc_pidfdinfo");
  const [, SO_ACCEPTCONN] = unixSystem().berkeley.SO_ACCEPTCONN;
  return (new DataView(info.buffer).getUint16(SOI_OPTIONS, true) & SO_ACCEPTCONN) !== 0;
}

/** A socket's family, type and protocol, in Winsock's numbers. */
export interface SocketDescription {
  readonly family: number;
  readonly type: number;
  readonly protocol: number;
}

/**
 * What a socket is.
 *
 * @param s The socket.
 * @param operation What it is needed for, for the error.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 */
export function describeSocket(s: bigint, operation: string): SocketDescription {
  const { berkeley, lengthPrefixed, SO_PROTOCOL } = unixSystem();
  const type = readOption(s, berkeley.SO_TYPE, operation);
  const name = new Uint8Array(NAME_SIZE);
  const named = libc().getsockname(s, name, new Int32Array([NAME_SIZE]));
  if (named === -1) throw lastUnixError(operation, "getsockname");
  const family = readFamily(name, lengthPrefixed);
  if (family !== AF_INET && family !== berkeley.AF_INET6) return { family: AF_UNIX, type, protocol: 0 };
  const usual = type === SOCK.SOCK_DGRAM ? IPPROTO.IPPROTO_UDP : IPPROTO.IPPROTO_TCP;
  const protocol = SO_PROTOCOL === undefined ? usual : readOption(s, SO_PROTOCOL, operation);
  return { family: family === AF_INET ? AF.AF_INET : AF.AF_INET6, type, protocol };
}

function readOption(s: bigint, [level, optname]: OptionNumbers, operation: string): number {
  const value = new Int32Array(1);
  const result = libc().getsockopt(s, level, optname, value, new Int32Array([4]));
  if (result === -1) throw lastUnixError(operation, "getsockopt");
  return value[0]!;
}

/** Where a stream keeps its descriptor: `_fileno` of `struct _IO_FILE`, whose layout glibc publishes and keeps. */
const FILENO_OFFSET = 112n;
/** What stands there when it has none. */
const NO_DESCRIPTOR = -1;

const threadEndFunctions = libcFunctions({
  /** `void *dlsym(void *handle, const char *symbol)`; in libc since glibc 2.34 */
  dlsym: { parameters: ["usize", "buffer"], result: "usize", optional: true },
  /** `int __cxa_thread_atexit_impl(void (*dtor)(void *), void *obj, void *dso_symbol)` */
  __cxa_thread_atexit_impl: { parameters: ["usize", "usize", "usize"], result: "i32", optional: true },
  /** `FILE *fdopen(int fd, const char *mode)` */
  fdopen: { parameters: ["usize", "buffer"], result: "usize", optional: true },
});

/** The streams of one thread, each with a descriptor, or to be had. */
class GlibcThreadEnd implements ThreadEnd {
  readonly #fclose: bigint;
  readonly #streams = new Map<bigint, bigint>();
  readonly #spare: bigint[] = [];
  #usable = true;

  private constructor(fclose: bigint) {
    this.#fclose = fclose;
  }

  /** `undefined` where this system's libc is another, or older. */
  static open(): GlibcThreadEnd | undefined {
    const { dlsym, __cxa_thread_atexit_impl, fdopen } = threadEndFunctions();
    if (dlsym === null || __cxa_thread_atexit_impl === null || fdopen === null) return undefined;
    const fclose = dlsym(0n, cString("fclose"));
    return fclose === 0n ? undefined : new GlibcThreadEnd(fclose);
  }

  add(s: bigint): void {
    if (this.#streams.has(s)) return;
    const spare = this.#spare.pop();
    const stream = spare ?? this.#newStream(s);
    if (stream === undefined) return;
    if (spare !== undefined) this.#setDescriptor(spare, Number(s));
    this.#streams.set(s, stream);
  }

  remove(s: bigint): void {
    const stream = this.#streams.get(s);
    if (stream === undefined) return;
    this.#streams.delete(s);
    this.#setDescriptor(stream, NO_DESCRIPTOR);
    this.#spare.push(stream);
  }

  #newStream(s: bigint): bigint | undefined {
    if (!this.#usable) return undefined;
    const stream = threadEndFunctions().fdopen!(s, cString("r"));
    if (stream === 0n) return undefined;
    // Where the layout is another, the stream is left alone for good: closing it would close the socket.
    this.#usable = this.#descriptorOf(stream) === Number(s);
    if (!this.#usable) return undefined;
    const result = threadEndFunctions().__cxa_thread_atexit_impl!(this.#fclose, stream, 0n);
    return result === 0 ? stream : undefined;
  }

  #descriptorOf(stream: bigint): number {
    const value = new Int32Array(1);
    libc().copyOut(value, stream + FILENO_OFFSET, 4n);
    return value[0]!;
  }

  #setDescriptor(stream: bigint, descriptor: number): void {
    libc().copyIn(stream + FILENO_OFFSET, new Int32Array([descriptor]), 4n);
  }
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

const CONNECT_DELAY_MS = 2;

/** Unix' sockets; non-blocking, closed on exec. */
export class UnixCalls extends BsdSockets {
  constructor() {
    super(libc(), unixSystem().berkeley, unixAddresses());
    const threadEnd = inWorker && unixSystem().glibc ? GlibcThreadEnd.open() : undefined;
    if (threadEnd !== undefined) useThreadEnd(threadEnd);
  }

  protected get poller(): Poller {
    return unixPoller();
  }

  protected lastError(operation: string, functionName: string): WinsockError {
    return lastUnixError(operation, functionName);
  }

  protected errorOf(code: number, operation: string, functionName: string): WinsockError {
    return unixError(code, operation, functionName);
  }

  protected create(family: number, type: number): bigint {
    return newSocket(family, type);
  }

  override isListening(s: bigint, operation: string): boolean {
    return unixSystem().hasAcceptConnOption ? super.isListening(s, operation) : hasListened(s, operation);
  }

  protected override get sharedDatagram(): readonly OptionNumbers[] {
    return unixSystem().SHARED_DATAGRAM;
  }

  protected encodeAddress(address: SocketAddress): Uint8Array<ArrayBuffer> {
    return "path" in address ? encodeLocalAddress(address.path) : this.addresses.encode(address);
  }

  openLocal(): bigint {
    return this.create(AF_UNIX, SOCK.SOCK_STREAM);
  }

  async connect(s: bigint, address: SocketAddress, signal?: AbortSignal): Promise<void> {
    const name = this.encodeAddress(address);
    const operation = `connect to ${describeAddress(address)}`;
    for (;;) {
      const result = libc().connect(s, name, name.byteLength);
      if (result === 0) return;
      const code = errno();
      if (isErrno(code, "EINPROGRESS")) break;
      if (!isErrno(code, "EAGAIN") || !("path" in address)) throw unixError(code, operation, "connect");
      // Too many others wait there, and nothing tells when one is accepted.
      await new Promise((resolve) => setTimeout(resolve, CONNECT_DELAY_MS));
      signal?.throwIfAborted();
    }
    await this.connected(s, operation, signal);
  }

  protected tryReceive(
    s: bigint,
    buffer: Uint8Array<ArrayBuffer>,
    flags: number,
    operation: string,
  ): number | undefined {
    return tryRecv(s, buffer, flags, () => operation);
  }

  duplicate(s: bigint): bigint {
    return duplicateFrom(s, 0, `duplicate socket ${s}`);
  }

  pair(): [bigint, bigint] {
    return newSocketPair();
  }

  /** Nothing to do: between accepting a socket and keeping it from being inherited, this thread spawns nothing. */
  holdAccepting(): Promise<Disposable> {
    return Promise.resolve({ [Symbol.dispose]() {} });
  }

  acceptor(listener: bigint): Acceptor {
    return new UnixAcceptor(listener, this.poller.prepare());
  }

  sendDatagram(s: bigint, data: Uint8Array, address: InternetAddress): number | undefined {
    const operation = `send a datagram of ${data.byteLength} bytes to ${describeAddress(address)}`;
    return trySend(s, data as Uint8Array<ArrayBuffer>, this.addresses.encode(address), operation);
  }

  /** Nothing to do: each call says that it must not wait. */
  unblock(): void {}

  receiver(s: bigint): DatagramReceiver {
    return new PolledReceiver(s, this.addresses, tryReceive, this.poller.prepare());
  }

  shutDown(s: bigint): void {
    libc().shutdown(s, SHUT_RDWR);
  }

  stream(s: bigint, nonBlocking = false): StreamIo {
    // On macOS the flag of the calls is not enough for sending.
    if (!nonBlocking) setNonblocking(s, `read and write ${socketName(s)}`);
    return new StreamIo(s, UNIX_STREAMS, this.poller.prepare());
  }

  closeElsewhere(s: bigint, end: boolean): void {
    closeElsewhere(s, end).catch(() => {});
  }

  removeLocal(path: string): void {
    removeUnbound(path);
  }

  protected closeDescriptor(s: bigint): void {
    const result = libc().close(s);
    if (result === -1) throw this.lastError(`close socket ${s}`, "close");
  }
}
