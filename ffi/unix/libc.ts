/**
 * libc on the current Unix: its functions without checks; the translation of errno to Winsock codes; the monotonic
 * clock.
 *
 * Parameters are only integers and buffers, so that a permission for this one file is enough. Descriptors are declared
 * `usize`, so that a socket handle is a bigint on every system.
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

/** Returns the current system. */
export function unixSystem(): UnixSystem {
  return system;
}

/** Replaces the system for all following calls, for tests. Call it before the first use of libc. */
export function useUnixSystem(chosen: UnixSystem): void {
  system = chosen;
}

/**
 * The environment variable with the path of libc, for a system that has it at none of the known paths. It is read if
 * this process may read it, and never requested.
 */
export const LIBC_VARIABLE = "WINSOCK_HANDOFF_LIBC";

/** The path in {@linkcode LIBC_VARIABLE}; `undefined` without a path or without the permission. */
export const chosenLibrary: string | undefined =
  Deno.permissions.querySync({ name: "env", variable: LIBC_VARIABLE }).state === "granted"
    ? Deno.env.get(LIBC_VARIABLE) || undefined
    : undefined;

/** The absolute paths where libc may be on the current system: the one in {@linkcode LIBC_VARIABLE}, or the known ones. */
export function libraryPaths(): readonly string[] {
  return chosenLibrary === undefined ? system.libraryPaths : [chosenLibrary];
}

/**
 * Opens libc.
 *
 * @throws {Deno.errors.NotSupported} If Deno is linked with musl.
 * @throws {TypeError} If the path in {@linkcode LIBC_VARIABLE} is not absolute.
 * @throws {Deno.errors.NotCapable} Without the permission.
 * @throws {Deno.errors.NotFound} If libc is at none of the known paths.
 */
function openLibc<const Symbols extends Deno.ForeignLibraryInterface>(
  symbols: Symbols,
): Deno.DynamicLibrary<Symbols>["symbols"] {
  if (Deno.build.env === "musl") {
    throw new Deno.errors.NotSupported(
      "Cannot use sockets with musl: @winsock/handoff needs a Deno that is linked with glibc, such as the images " +
        "denoland/deno and denoland/deno:alpine have",
    );
  }
  if (chosenLibrary !== undefined && !chosenLibrary.startsWith("/")) {
    throw new TypeError(`Invalid \`${LIBC_VARIABLE}\`: must be an absolute path, got ${chosenLibrary}`);
  }
  const { loadedName } = system;
  if (chosenLibrary !== undefined || loadedName === undefined) return openLibrary(libraryPaths(), symbols);
  const unrestricted = Deno.permissions.querySync({ name: "ffi" }).state === "granted";
  try {
    return openLibrary(unrestricted ? [loadedName, ...libraryPaths()] : libraryPaths(), symbols);
  } catch (error) {
    const { NotCapable, NotFound } = Deno.errors;
    const Class = error instanceof NotCapable ? NotCapable : error instanceof NotFound ? NotFound : undefined;
    if (Class === undefined) throw error;
    const hint = `set ${LIBC_VARIABLE} to it, and grant --allow-env=${LIBC_VARIABLE} and --allow-ffi=PATH`;
    throw new Class(`${(error as Error).message}. If libc has another path, ${hint}`, { cause: error });
  }
}

/**
 * The functions of libc that nearly every process needs, with the types of their parameters.
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
   * `int fcntl(int fd, int cmd, ...)`, followed by an `int`. Pass that `int` as the third argument and as the ninth. On
   * Apple silicon variable arguments are on the stack, where the ninth argument is the first; on other systems they are
   * passed like the fixed ones.
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
  /** `void *memcpy(void *dest, const void *src, size_t n)`, to native memory */
  copyIn: { name: "memcpy", parameters: ["usize", "buffer", "usize"], result: "usize" },
  /** `void *memcpy(void *dest, const void *src, size_t n)`, from native memory */
  copyOut: { name: "memcpy", parameters: ["buffer", "usize", "usize"], result: "usize" },
  /** `int *__errno_location(void)`, `int *__error(void)`: returns the address of the errno of this thread */
  errnoLocation: { name: unixSystem().errnoFunction as string, parameters: [], result: "usize" },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof LIBC_SYMBOLS>["symbols"] | undefined;

/**
 * Returns the functions of libc, which is opened at the first call.
 *
 * Needs `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or the path of libc on the distribution;
 * `--allow-ffi=/usr/lib/libSystem.B.dylib` on macOS.
 *
 * @returns The bound functions, without checks.
 * @throws {Deno.errors.NotCapable} Without the permission.
 * @throws {Deno.errors.NotFound} If libc is at none of the known paths, and `WINSOCK_HANDOFF_LIBC` does not name it.
 * @throws {Deno.errors.NotSupported} If Deno is linked with musl.
 *
 * @experimental
 */
export function libc(): Deno.DynamicLibrary<typeof LIBC_SYMBOLS>["symbols"] {
  if (symbols !== undefined) return symbols;
  // The system may have been chosen after the table above was made.
  const errnoLocation = { ...LIBC_SYMBOLS.errnoLocation, name: system.errnoFunction as string };
  return symbols = openLibc({ ...LIBC_SYMBOLS, errnoLocation });
}

/**
 * Declares further functions of libc. They are separate because binding each function takes time, and not every process
 * or system uses these.
 *
 * @param symbols The functions.
 * @returns A function that binds them at the first call, and returns them.
 */
export function libcFunctions<const Symbols extends Deno.ForeignLibraryInterface>(
  symbols: Symbols,
): () => Deno.DynamicLibrary<Symbols>["symbols"] {
  let bound: Deno.DynamicLibrary<Symbols>["symbols"] | undefined;
  return () => bound ??= openLibc(symbols);
}

const errnoValue = new Int32Array(1);
let errnoAddress: bigint | undefined;

/**
 * Returns the errno of this thread. Call it in the statement directly after the call that failed.
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
 * Closes a descriptor on a pool thread.
 *
 * @param fd The descriptor. Its number must not be used any more.
 * @param end Whether both sides of the socket are shut down first. Defaults to `false`.
 */
export async function closeOnThread(fd: bigint, end: boolean = false): Promise<void> {
  if (end) await elsewhere().shutdown(fd, SHUT_RDWR);
  await elsewhere().close(fd);
}

/**
 * Closes descriptors on pool threads, and limits how many threads that uses. The last close of a socket that lingers
 * (`SO_LINGER`) blocks. So does the close of a local socket with an unread message that carries such a socket.
 */
export class CloseQueue {
  readonly #threads: number;
  readonly #most: number;
  readonly #waiting: { fd: bigint; closed: () => void }[] = [];
  #closing = 0;
  #next = Promise.withResolvers<void>();

  /**
   * Binds the functions needed for closing, so that closing does not fail later for lack of them.
   *
   * @param threads The most threads in use at a time.
   * @param most The number of waiting descriptors at which the queue is full.
   */
  constructor(threads: number, most: number) {
    elsewhere();
    this.#threads = threads;
    this.#most = most;
  }

  /** Whether the caller should wait for {@linkcode CloseQueue.next} before it adds more descriptors. */
  get full(): boolean {
    return this.#closing + this.#waiting.length >= this.#most;
  }

  /** Resolves when the next descriptor is closed. */
  get next(): Promise<void> {
    return this.#next.promise;
  }

  /**
   * Closes a descriptor.
   *
   * @param fd The descriptor. Its number must not be used any more.
   * @returns Resolves when it is closed.
   */
  close(fd: bigint): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ fd, closed: resolve });
    if (this.#closing < this.#threads) this.#closeAll();
    return promise;
  }

  async #closeAll(): Promise<void> {
    this.#closing++;
    for (let first = this.#waiting.shift(); first !== undefined; first = this.#waiting.shift()) {
      const { fd, closed } = first;
      await closeOnThread(fd);
      closed();
      this.#next.resolve();
      this.#next = Promise.withResolvers();
    }
    this.#closing--;
  }
}

/**
 * The most threads for closing. It is small, because all of them may be blocked and Deno's pool needs the rest. It is
 * more than one, so that one socket does not hold up the others.
 */
const CLOSING_THREADS = 4;

let closing: CloseQueue | undefined;

/**
 * Closes a descriptor with the {@linkcode CloseQueue} of the whole program.
 *
 * @param fd The descriptor. Its number must not be used any more.
 * @returns Resolves when it is closed.
 */
export function closeElsewhere(fd: bigint): Promise<void> {
  closing ??= new CloseQueue(CLOSING_THREADS, Infinity);
  return closing.close(fd);
}

/**
 * The Winsock code that has the same meaning for a socket. If two names have the same number, messages show the later
 * one.
 */
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

/** Returns the system's name of an error; `undefined` if the library does not know it. */
function errnoName(number: number): ErrnoName | undefined {
  names ??= new Map((Object.keys(WINSOCK) as ErrnoName[]).map((name) => [unixSystem().errno[name], name]));
  return names.get(number);
}

/** Returns whether a number is that of one of these errors. */
export function isErrno(number: number, ...candidates: readonly ErrnoName[]): boolean {
  return candidates.some((name) => unixSystem().errno[name] === number);
}

/**
 * Makes the error of a Unix call.
 *
 * @param number The errno of the call.
 * @param operation The operation and its object.
 * @param functionName The function that failed.
 * @returns The error. It has the Winsock code with the same meaning, and the name of the errno in its message.
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
 * Makes the error of the Unix call in the previous statement.
 *
 * @param operation The operation and its object.
 * @param functionName The function that failed.
 * @returns The error.
 */
export function lastUnixError(operation: string, functionName: string): WinsockError {
  return unixError(errno(), operation, functionName);
}

/**
 * Reads `CLOCK_MONOTONIC` (clock_gettime(2)).
 *
 * @returns The time in microseconds.
 */
export function monotonicMicroseconds(): bigint {
  const timespec = new BigInt64Array(2);
  const result = libc().clock_gettime(unixSystem().CLOCK_MONOTONIC, timespec);
  if (result === -1) throw lastUnixError("read the clock", "clock_gettime");
  return timespec[0]! * 1_000_000n + timespec[1]! / 1_000n;
}
