/**
 * libc of the Unix this runs on: its functions, unchecked; errno in Winsock's terms; the monotonic clock.
 *
 * Parameters are integers and buffers only, so that a grant for the one file is enough. Descriptors are declared `usize`,
 * so that one bigint is a socket's handle on every system.
 *
 * @module
 */
import { DARWIN } from "./darwin.ts";
import { LINUX } from "./linux.ts";
import type { ErrnoName, UnixSystem } from "./unix_system.ts";
import { openLibrary } from "../library.ts";
import { WinsockError } from "../winsock_error.ts";
import { type WinsockErrorName, WSA_ERRORS } from "../../structs/constants.ts";

let system: UnixSystem = Deno.build.os === "darwin" ? DARWIN : LINUX;

/** The system this runs on. */
export function unixSystem(): UnixSystem {
  return system;
}

/** Makes the calls be made as another system would have them, before the first of them: for tests. */
export function useUnixSystem(chosen: UnixSystem): void {
  system = chosen;
}

/**
 * The functions of libc that nearly every process needs, with their parameters' types.
 *
 * @experimental
 */
export const LIBC_SYMBOLS = {
  /** `int socket(int domain, int type, int protocol)` */
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** `int socketpair(int domain, int type, int protocol, int sv[2])` */
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  /** `int bind(int sockfd, const struct sockaddr *addr, socklen_t addrlen)` */
  bind: { parameters: ["usize", "buffer", "u32"], result: "i32" },
  /** `int listen(int sockfd, int backlog)` */
  listen: { parameters: ["usize", "i32"], result: "i32" },
  /** `int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen)` */
  connect: { parameters: ["usize", "buffer", "u32"], result: "i32" },
  /** `int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen)` */
  getsockname: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
  /** `int getpeername(int sockfd, struct sockaddr *addr, socklen_t *addrlen)` */
  getpeername: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
  /** `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)` */
  getsockopt: { parameters: ["usize", "i32", "i32", "buffer", "buffer"], result: "i32" },
  /** `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)` */
  setsockopt: { parameters: ["usize", "i32", "i32", "buffer", "u32"], result: "i32" },
  /** `ssize_t recv(int sockfd, void *buf, size_t len, int flags)` */
  recv: { parameters: ["usize", "buffer", "usize", "i32"], result: "isize" },
  /** `ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags)` */
  sendmsg: { parameters: ["usize", "usize", "i32"], result: "isize" },
  /** `ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags)` */
  recvmsg: { parameters: ["usize", "usize", "i32"], result: "isize" },
  /** `int poll(struct pollfd *fds, nfds_t nfds, int timeout)` on a pool thread */
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32", nonblocking: true },
  /** `int shutdown(int sockfd, int how)` */
  shutdown: { parameters: ["usize", "i32"], result: "i32" },
  /** `int poll(struct pollfd *fds, nfds_t nfds, int timeout)` on the calling thread */
  pollNow: { name: "poll", parameters: ["buffer", "usize", "i32"], result: "i32" },
  /**
   * `int fcntl(int fd, int cmd, ...)`, with an `int` behind: to be given as the third argument and as the ninth. On Apple
   * silicon a function finds its variable arguments on the stack, where the ninth is the first to go; everywhere else it
   * finds them where it would the others.
   */
  fcntl: { parameters: ["usize", "i32", "i32", "i32", "i32", "i32", "i32", "i32", "i64"], result: "i32" },
  /** `ssize_t write(int fd, const void *buf, size_t count)` */
  write: { parameters: ["usize", "buffer", "usize"], result: "isize" },
  /** `int close(int fd)` */
  close: { parameters: ["usize"], result: "i32" },
  /** `int clock_gettime(clockid_t clockid, struct timespec *tp)` */
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  /** `int inet_pton(int af, const char *src, void *dst)` */
  inet_pton: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  /** `const char *inet_ntop(int af, const void *src, char *dst, socklen_t size)` */
  inet_ntop: { parameters: ["i32", "buffer", "buffer", "u32"], result: "usize" },
  /** `void *malloc(size_t size)`, the address as a number */
  malloc: { parameters: ["usize"], result: "usize" },
  /** `void free(void *ptr)` */
  free: { parameters: ["usize"], result: "void" },
  /** `void *memcpy(void *dest, const void *src, size_t n)`, into native memory */
  copyIn: { name: "memcpy", parameters: ["usize", "buffer", "usize"], result: "usize" },
  /** `void *memcpy(void *dest, const void *src, size_t n)`, out of native memory */
  copyOut: { name: "memcpy", parameters: ["buffer", "usize", "usize"], result: "usize" },
  /** `int *__errno_location(void)`, `int *__error(void)`: where this thread's errno is */
  errnoLocation: { name: unixSystem().errnoFunction as string, parameters: [], result: "usize" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Where this system's libc may be. */
export const LIBC_PATHS: readonly string[] = unixSystem().libraryPaths;

let symbols: Deno.DynamicLibrary<typeof LIBC_SYMBOLS>["symbols"] | undefined;

/**
 * The functions of libc, opened at the first call.
 *
 * Needs `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or where the distribution keeps it;
 * `--allow-ffi=/usr/lib/libSystem.B.dylib` on macOS.
 *
 * @returns The bound functions, raw: nothing is checked.
 * @throws {Deno.errors.NotCapable} Without the permission.
 *
 * @experimental
 */
export function libc(): Deno.DynamicLibrary<typeof LIBC_SYMBOLS>["symbols"] {
  return symbols ??= openLibrary(LIBC_PATHS, LIBC_SYMBOLS);
}

/**
 * Functions of libc apart from the others, since each takes its time to bind and not every process or system has a use
 * for these.
 *
 * @param symbols The functions.
 * @returns Binds them at the first call, and returns them.
 */
export function libcFunctions<const Symbols extends Deno.ForeignLibraryInterface>(
  symbols: Symbols,
): () => Deno.DynamicLibrary<Symbols>["symbols"] {
  let bound: Deno.DynamicLibrary<Symbols>["symbols"] | undefined;
  return () => bound ??= openLibrary(LIBC_PATHS, symbols);
}

const errnoValue = new Int32Array(1);
let errnoAddress: bigint | undefined;

/**
 * This thread's errno; belongs in the statement right behind the call it is about.
 *
 * @returns The number of the error.
 */
export function errno(): number {
  libc().copyOut(errnoValue, errnoAddress ??= libc().errnoLocation(), 4n);
  return errnoValue[0]!;
}

export const SHUT_RDWR = 2;

const elsewhere = libcFunctions({
  /** `int shutdown(int sockfd, int how)` on a pool thread */
  shutdown: { parameters: ["usize", "i32"], result: "i32", nonblocking: true },
  /** `int close(int fd)` on a pool thread */
  close: { parameters: ["usize"], result: "i32", nonblocking: true },
});

/**
 * Closes descriptors on pool threads, of which it takes no more than a few: the last close of a socket that lingers
 * (`SO_LINGER`) blocks, and so does that of a local socket in which a message waits that brought such a one.
 */
export class CloseQueue {
  readonly #threads: number;
  readonly #most: number;
  readonly #waiting: { fd: bigint; end: boolean; closed: () => void }[] = [];
  #closing = 0;
  #next = Promise.withResolvers<void>();

  /**
   * Binds what closing needs, so that it does not fail for want of it.
   *
   * @param threads How many threads it may take at a time.
   * @param most With how many descriptors it counts as full.
   */
  constructor(threads: number, most: number) {
    elsewhere();
    this.#threads = threads;
    this.#most = most;
  }

  /** Whether the one who brings descriptors is to wait for {@linkcode CloseQueue.next}. */
  get full(): boolean {
    return this.#closing + this.#waiting.length >= this.#most;
  }

  /** Resolves when one more is closed. */
  get next(): Promise<void> {
    return this.#next.promise;
  }

  /**
   * Closes a descriptor.
   *
   * @param fd The descriptor. Its number must not be used any more.
   * @param end Whether both sides of the socket are shut down first.
   * @returns Resolves when it is closed.
   */
  close(fd: bigint, end: boolean = false): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ fd, end, closed: resolve });
    if (this.#closing < this.#threads) this.#closeAll();
    return promise;
  }

  async #closeAll(): Promise<void> {
    this.#closing++;
    for (let first = this.#waiting.shift(); first !== undefined; first = this.#waiting.shift()) {
      const { fd, end, closed } = first;
      if (end) await elsewhere().shutdown(fd, SHUT_RDWR);
      await elsewhere().close(fd);
      closed();
      this.#next.resolve();
      this.#next = Promise.withResolvers();
    }
    this.#closing--;
  }
}

/** So few of Deno's pool threads that all may be kept waiting, and so many that one socket does not keep the others open. */
const CLOSING_THREADS = 4;

let closing: CloseQueue | undefined;

/**
 * Closes a descriptor by the {@linkcode CloseQueue} of the whole program.
 *
 * @param fd The descriptor. Its number must not be used any more.
 * @param end Whether both sides of the socket are shut down first.
 * @returns Resolves when it is closed.
 */
export function closeElsewhere(fd: bigint, end: boolean = false): Promise<void> {
  closing ??= new CloseQueue(CLOSING_THREADS, Infinity);
  return closing.close(fd, end);
}

/** The Winsock code that means the same for a socket. Where two names have one number, the later is the one to show. */
const WINSOCK: Readonly<Record<ErrnoName, WinsockErrorName>> = {
  EPERM: "WSAEACCES",
  ENOENT: "WSAEADDRNOTAVAIL",
  ESRCH: "WSAEINVAL",
  EINTR: "WSAEINTR",
  EBADF: "WSAENOTSOCK",
  EAGAIN: "WSAEWOULDBLOCK",
  ENOMEM: "WSAENOBUFS",
  EACCES: "WSAEACCES",
  EFAULT: "WSAEFAULT",
  ENOTDIR: "WSAEADDRNOTAVAIL",
  ENOSPC: "WSAENOBUFS",
  EINVAL: "WSAEINVAL",
  ENFILE: "WSAEMFILE",
  EMFILE: "WSAEMFILE",
  EROFS: "WSAEACCES",
  EPIPE: "WSAESHUTDOWN",
  ENAMETOOLONG: "WSAENAMETOOLONG",
  ENOSYS: "WSASYSCALLFAILURE",
  ELOOP: "WSAELOOP",
  ENOTSOCK: "WSAENOTSOCK",
  EDESTADDRREQ: "WSAEDESTADDRREQ",
  EMSGSIZE: "WSAEMSGSIZE",
  EPROTO: "WSASYSCALLFAILURE",
  EPROTOTYPE: "WSAEPROTOTYPE",
  ENOPROTOOPT: "WSAENOPROTOOPT",
  EPROTONOSUPPORT: "WSAEPROTONOSUPPORT",
  ESOCKTNOSUPPORT: "WSAESOCKTNOSUPPORT",
  ENOTSUP: "WSAEOPNOTSUPP",
  EOPNOTSUPP: "WSAEOPNOTSUPP",
  EAFNOSUPPORT: "WSAEAFNOSUPPORT",
  EADDRINUSE: "WSAEADDRINUSE",
  EADDRNOTAVAIL: "WSAEADDRNOTAVAIL",
  ENETDOWN: "WSAENETDOWN",
  ENETUNREACH: "WSAENETUNREACH",
  ENONET: "WSAENETDOWN",
  ECONNABORTED: "WSAECONNABORTED",
  ECONNRESET: "WSAECONNRESET",
  ENOBUFS: "WSAENOBUFS",
  EISCONN: "WSAEISCONN",
  ENOTCONN: "WSAENOTCONN",
  ETOOMANYREFS: "WSAENOBUFS",
  ETIMEDOUT: "WSAETIMEDOUT",
  ECONNREFUSED: "WSAECONNREFUSED",
  EHOSTDOWN: "WSAEHOSTDOWN",
  EHOSTUNREACH: "WSAEHOSTUNREACH",
  EINPROGRESS: "WSAEWOULDBLOCK",
};

let names: ReadonlyMap<number | undefined, ErrnoName> | undefined;

/** What the system calls an error; `undefined` for one that the library does not know. */
function errnoName(number: number): ErrnoName | undefined {
  names ??= new Map((Object.keys(WINSOCK) as ErrnoName[]).map((name) => [unixSystem().errno[name], name]));
  return names.get(number);
}

/** Whether a number is that of one of these errors. */
export function isErrno(number: number, ...candidates: readonly ErrnoName[]): boolean {
  return candidates.some((name) => unixSystem().errno[name] === number);
}

/**
 * The error of a Unix call.
 *
 * @param number What the call left in errno.
 * @param operation What was being done, to what.
 * @param functionName The call.
 * @returns The error, with the Winsock code that means the same and the system's own name in its message.
 */
export function unixError(number: number, operation: string, functionName: string): WinsockError {
  const name = errnoName(number);
  const code = WSA_ERRORS[name === undefined ? "WSASYSCALLFAILURE" : WINSOCK[name]];
  const detail = `${name ?? "errno"} (${number})`;
  return new WinsockError(code, {
    operation,
    functionName,
    detail,
    ...(name === undefined ? {} : { errnoName: name }),
  });
}

/**
 * The error of the Unix call in the statement before.
 *
 * @param operation What was being done, to what.
 * @param functionName The call.
 * @returns The error.
 */
export function lastUnixError(operation: string, functionName: string): WinsockError {
  return unixError(errno(), operation, functionName);
}

/**
 * The time of `CLOCK_MONOTONIC` (clock_gettime(2)).
 *
 * @returns Microseconds.
 */
export function monotonicMicroseconds(): bigint {
  const timespec = new BigInt64Array(2);
  const result = libc().clock_gettime(unixSystem().CLOCK_MONOTONIC, timespec);
  if (result === -1) throw lastUnixError("read the clock", "clock_gettime");
  return timespec[0]! * 1_000_000n + timespec[1]! / 1_000n;
}
