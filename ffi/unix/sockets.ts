/**
 * The {@linkcode SocketCalls} on libc.
 *
 * When a Worker is terminated, none of its code runs, but glibc calls the functions registered for the end of the
 * thread (`__cxa_thread_atexit_impl`). A registration is permanent, and consists of a function and one argument. Here
 * the function is `fclose`, and the argument is a stream (`FILE`) opened only for this purpose. While the stream has no
 * descriptor, closing it does nothing.
 *
 * On macOS the process also queries its own descriptors (`proc_info.h`), for information that `getsockopt` does not
 * return there.
 *
 * @module
 */
import {
  AddressCodec,
  AF_INET,
  AF_UNIX,
  describeAddress,
  type HostLookup,
  readFamily,
  type SocketAddress,
} from "../socket_address.ts";
import {
  closeOnThread,
  errno,
  isErrno,
  lastUnixError,
  libc,
  libcFunctions,
  SHUT_RDWR,
  unixError,
  unixSystem,
} from "./libc.ts";
import { AF, IPPROTO, SOCK, WSA_ERRORS } from "../../structs/constants.ts";
import type { OptionNumbers } from "../socket_options.ts";
import { inWorker, type ThreadEnd, useThreadEnd } from "../../internal/runtime.ts";
import { BsdSockets } from "../bsd_sockets.ts";
import { type Acceptor, checkDescriptor, type LocalType, type OpenSockets, socketName } from "../platform.ts";
import { EpollOpenSockets, interruptThreads } from "./process.ts";
import { type DatagramReceiver, PolledReceiver, StreamIo } from "../nonblocking_io.ts";
import type { Poller } from "../poller.ts";
import { WinsockError } from "../winsock_error.ts";
import { nextLength, tryReceive, tryRecv, trySend, UNIX_STREAMS, UnixAcceptor } from "./io.ts";
import { unixPoller } from "./poller.ts";
import { duplicateFrom, newSocket, newSocketPair, setNonblocking } from "./descriptors.ts";
import { encodeLocalAddress, refuseDescriptors, removeUnbound } from "./local_sockets.ts";

let addresses: AddressCodec | undefined;

/** Returns the codec for addresses of this system. libc is opened at the first call. */
export function unixAddresses(): AddressCodec {
  return addresses ??= new AddressCodec(libc(), unixSystem().berkeley.AF_INET6, unixSystem());
}

const PROC_PIDFDSOCKETINFO = 3;
/** Room for `struct socket_fdinfo`, which has 792 bytes. */
const SIZE = 1024;
/** The offset of `psi.soi_options`: after `struct proc_fileinfo` (24 bytes) and `struct vinfo_stat` (136 bytes). */
const SOI_OPTIONS = 188;

/** Room for any address; only the family is read. */
const NAME_SIZE = 128;

const infoFunctions = libcFunctions({
  /** `int proc_pidfdinfo(int pid, int fd, int flavor, void *buffer, int buffersize)` */
  proc_pidfdinfo: { parameters: ["i32", "usize", "i32", "buffer", "i32"], result: "i32" },
});

/**
 * Returns whether a socket of this process is listening.
 *
 * @param s The socket.
 * @param operation The operation, for the error.
 * @throws {WinsockError} WSAENOTSOCK if it is not an open socket.
 */
function hasListened(s: bigint, operation: string): boolean {
  const info = new Uint8Array(SIZE);
  const size = infoFunctions().proc_pidfdinfo(Deno.pid, s, PROC_PIDFDSOCKETINFO, info, SIZE);
  if (size <= 0) throw lastUnixError(operation, "proc_pidfdinfo");
  const [, SO_ACCEPTCONN] = unixSystem().berkeley.SO_ACCEPTCONN;
  return (new DataView(info.buffer).getUint16(SOI_OPTIONS, true) & SO_ACCEPTCONN) !== 0;
}

/** The family, type and protocol of a socket, as Winsock numbers. */
export interface SocketDescription {
  readonly family: number;
  readonly type: number;
  readonly protocol: number;
}

/**
 * Returns the family, type and protocol of a socket.
 *
 * @param s The socket.
 * @param operation The operation, for the error.
 * @throws {WinsockError} WSAENOTSOCK if it is not an open socket.
 */
export function describeSocket(s: bigint, operation: string): SocketDescription {
  checkDescriptor(s, operation, "getsockopt");
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

/**
 * The offset of the descriptor in a stream: `_fileno` of `struct _IO_FILE`, whose layout glibc publishes and does not
 * change.
 */
const FILENO_OFFSET = 112n;
/** The value of `_fileno` in a stream without a descriptor. */
const NO_DESCRIPTOR = -1;

const threadEndFunctions = libcFunctions({
  /** `void *dlsym(void *handle, const char *symbol)`; in libc since glibc 2.34 */
  dlsym: { parameters: ["usize", "buffer"], result: "usize", optional: true },
  /** `int __cxa_thread_atexit_impl(void (*dtor)(void *), void *obj, void *dso_symbol)` */
  __cxa_thread_atexit_impl: { parameters: ["usize", "usize", "usize"], result: "i32", optional: true },
  /** `FILE *fdopen(int fd, const char *mode)` */
  fdopen: { parameters: ["usize", "buffer"], result: "usize", optional: true },
});

/** The streams of one thread. Each has a descriptor, or is free for one. */
class GlibcThreadEnd implements ThreadEnd {
  readonly #fclose: bigint;
  readonly #streams = new Map<bigint, bigint>();
  readonly #spare: bigint[] = [];
  #usable = true;

  private constructor(fclose: bigint) {
    this.#fclose = fclose;
  }

  /** Returns `undefined` if libc is not glibc, or is too old. */
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
    // If the layout is different, never close the stream: that would close the socket.
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

const hostFunctions = libcFunctions({
  /** `int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)` on a pool thread */
  getaddrinfo: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i32", nonblocking: true },
  /** `int getaddrinfo(…)` on the calling thread */
  getaddrinfoNow: { name: "getaddrinfo", parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i32" },
  /** `void freeaddrinfo(struct addrinfo *res)` */
  freeaddrinfo: { parameters: ["usize"], result: "void" },
});

const HOST_LOOKUP: HostLookup = {
  get addressOffset() {
    return unixSystem().getaddrinfo.addressOffset;
  },
  find: (hostname, hints, list) => hostFunctions().getaddrinfo(cString(hostname), null, hints, list),
  findNow: (hostname, hints, list) => hostFunctions().getaddrinfoNow(cString(hostname), null, hints, list),
  copyOut: (target, address) => void libc().copyOut(target, address, BigInt(target.byteLength)),
  free: (list) => hostFunctions().freeaddrinfo(list),
  error(code, operation) {
    const { EAI_AGAIN, EAI_NODATA, EAI_NONAME } = unixSystem().getaddrinfo;
    const names = new Map(
      [[EAI_AGAIN, "WSATRY_AGAIN"], [EAI_NODATA, "WSANO_DATA"], [EAI_NONAME, "WSAHOST_NOT_FOUND"]] as const,
    );
    const detail = `error ${code}`;
    return new WinsockError(WSA_ERRORS[names.get(code) ?? "WSANO_RECOVERY"], {
      operation,
      functionName: "getaddrinfo",
      detail,
    });
  },
};

const CONNECT_DELAY_MS = 2;

/** The sockets of Unix. They are non-blocking and closed on exec. */
export class UnixCalls extends BsdSockets {
  constructor() {
    super(libc(), unixSystem().berkeley, unixAddresses());
    const threadEnd = inWorker && unixSystem().glibc ? GlibcThreadEnd.open() : undefined;
    if (threadEnd !== undefined) useThreadEnd(threadEnd);
  }

  protected readonly hostLookup = HOST_LOOKUP;

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
    const s = newSocket(family, type);
    // Nothing here receives them, and closing one that lingers would block this thread.
    if (family === AF_UNIX) refuseDescriptors(s);
    return s;
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

  openLocal(path: string, type: LocalType = "stream"): bigint {
    if (type === "stream") return this.create(AF_UNIX, SOCK.SOCK_STREAM);
    if (unixSystem().sequencedPackets) return this.create(AF_UNIX, SOCK.SOCK_SEQPACKET);
    const operation = `use the local socket "${path}" with \`type\` "${type}"`;
    throw new Deno.errors.NotSupported(`Cannot ${operation}: ${unixSystem().name} does not have SOCK_SEQPACKET`);
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
      // The backlog of the listener is full, and there is no event for when that changes.
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

  /** Returns at once: this thread does not spawn a process between accepting a socket and setting its flag. */
  holdAccepting(): Promise<Disposable> {
    return Promise.resolve({ [Symbol.dispose]() {} });
  }

  acceptor(listener: bigint): Acceptor {
    return new UnixAcceptor(listener, this.poller.prepare());
  }

  sendDatagram(s: bigint, data: Uint8Array, address: SocketAddress): number | undefined {
    const operation = `send a datagram of ${data.byteLength} bytes to ${describeAddress(address)}`;
    return trySend(s, data as Uint8Array<ArrayBuffer>, this.encodeAddress(address), operation);
  }

  /** Does nothing: each call has a flag that it must not wait. */
  unblock(): void {}

  receiver(s: bigint): DatagramReceiver {
    const lengths = "path" in this.localAddress(s) ? nextLength : undefined;
    return new PolledReceiver(s, this.addresses, tryReceive, this.poller.prepare(), lengths);
  }

  shutDown(s: bigint): void {
    libc().shutdown(s, SHUT_RDWR);
  }

  stream(s: bigint, nonBlocking = false): StreamIo {
    // On macOS the flag of the call is not enough for sending.
    if (!nonBlocking) setNonblocking(s, `read and write ${socketName(s)}`);
    return new StreamIo(s, UNIX_STREAMS, this.poller.prepare(), this.keepsMessages(s) ? nextLength : undefined);
  }

  closeElsewhere(s: bigint, end: boolean): Promise<void> {
    return closeOnThread(s, end);
  }

  interruptCloses(): void {
    interruptThreads();
  }

  removeLocal(path: string): void {
    removeUnbound(path);
  }

  watchOpenSockets(): OpenSockets | undefined {
    return EpollOpenSockets.open();
  }

  protected closeDescriptor(s: bigint): void {
    const result = libc().close(s);
    if (result === -1) throw this.lastError(`close socket ${s}`, "close");
  }
}
