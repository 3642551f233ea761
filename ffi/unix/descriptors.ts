/**
 * File descriptors: reading and setting their flags (fcntl(2)), and making descriptors that child processes do not
 * inherit and whose calls do not wait.
 *
 * If the call that makes a descriptor cannot set its flags, `fcntl` sets them in the next statement. This thread does
 * not spawn a process between the two; another thread of the process, such as a Worker, may do so.
 *
 * @module
 */
import { errno, isErrno, lastUnixError, libc, libcFunctions, unixError, unixSystem } from "./libc.ts";
import { AF_UNIX } from "../socket_address.ts";
import { SOCK } from "../../structs/constants.ts";

const F_GETFD = 1;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const FD_CLOEXEC = 1;

/** Calls `fcntl` with an integer argument. A result of -1 means failure. */
export function fcntl(fd: bigint, cmd: number, arg: number = 0): number {
  return libc().fcntl(fd, cmd, arg, 0, 0, 0, 0, 0, BigInt(arg));
}

/**
 * Returns whether child processes inherit a descriptor (`FD_CLOEXEC` is off). It is off for a descriptor that this
 * process inherited, because exec would otherwise have closed it. Deno sets it on all descriptors that it opens.
 *
 * @param fd The descriptor.
 * @returns Whether child processes inherit it.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function inheritable(fd: bigint): boolean {
  const flags = fcntl(fd, F_GETFD);
  if (flags === -1) throw lastUnixError(`find out whether descriptor ${fd} is inherited`, "fcntl");
  return (flags & FD_CLOEXEC) === 0;
}

/**
 * Stops child processes from inheriting a descriptor (`FD_CLOEXEC`, fcntl(2)).
 *
 * @param fd The descriptor.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function closeOnExec(fd: bigint): void {
  const result = fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (result === -1) throw lastUnixError(`keep descriptor ${fd} from being inherited`, "fcntl");
}

/**
 * Lets child processes inherit a descriptor (`FD_CLOEXEC` off) while the caller spawns one.
 *
 * @param fd The descriptor.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function keepOnExec(fd: bigint): void {
  const result = fcntl(fd, F_SETFD, 0);
  if (result === -1) throw lastUnixError(`let descriptor ${fd} be inherited`, "fcntl");
}

/**
 * Prepares new descriptors. If that fails for one of them, closes all.
 *
 * @param fds The descriptors.
 * @param prepare Called with each descriptor.
 */
export function prepareAll(fds: readonly bigint[], prepare: (fd: bigint) => void): void {
  try {
    for (const fd of fds) prepare(fd);
  } catch (error) {
    for (const fd of fds) libc().close(fd);
    throw error;
  }
}

/**
 * Makes a new descriptor of the same file (`F_DUPFD_CLOEXEC`, fcntl(2)).
 *
 * @param fd The descriptor to duplicate.
 * @param least The lowest number that the new descriptor may have.
 * @param operation The operation, for the error. Defaults to `duplicate descriptor <fd>`.
 * @returns The new descriptor, closed on exec. The caller must close it.
 * @throws {WinsockError} WSAENOTSOCK if `fd` is not open, WSAEMFILE if there is no room.
 */
export function duplicateFrom(fd: bigint, least: number, operation = `duplicate descriptor ${fd}`): bigint {
  const result = fcntl(fd, unixSystem().F_DUPFD_CLOEXEC, least);
  if (result === -1) throw lastUnixError(operation, "fcntl");
  return BigInt(result);
}

/**
 * Returns the status flags of a file (`F_GETFL`, fcntl(2)), such as `O_NONBLOCK`. All descriptors of the file share
 * them.
 *
 * @param fd A descriptor of the file.
 * @returns The flags, as bits.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function statusFlags(fd: bigint): number {
  const flags = fcntl(fd, F_GETFL);
  if (flags === -1) throw lastUnixError(`read the flags of descriptor ${fd}`, "fcntl");
  return flags;
}

/**
 * Sets the status flags of a file (`F_SETFL`, fcntl(2)). All descriptors of the file share them.
 *
 * @param fd A descriptor of the file.
 * @param flags The flags, as bits.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function setStatusFlags(fd: bigint, flags: number): void {
  const result = fcntl(fd, F_SETFL, flags);
  if (result === -1) throw lastUnixError(`set the flags of descriptor ${fd}`, "fcntl");
}

/**
 * Makes a file non-blocking (`O_NONBLOCK` on).
 *
 * @param fd A descriptor of the file.
 * @param operation The operation, for the error.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function setNonblocking(fd: bigint, operation: string): void {
  const flags = fcntl(fd, F_GETFL);
  const result = flags === -1 ? -1 : fcntl(fd, F_SETFL, flags | unixSystem().O_NONBLOCK);
  if (result === -1) throw lastUnixError(operation, "fcntl");
}

/**
 * Makes a file blocking (`O_NONBLOCK` off), for a program that expects that.
 *
 * @param fd A descriptor of the file.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function setBlocking(fd: bigint): void {
  setStatusFlags(fd, statusFlags(fd) & ~unixSystem().O_NONBLOCK);
}

const withAccept4 = libcFunctions({
  /** `int accept4(int sockfd, struct sockaddr *addr, socklen_t *addrlen, int flags)` */
  accept4: { parameters: ["usize", "buffer", "buffer", "i32"], result: "i32" },
});
const withAccept = libcFunctions({
  /** `int accept(int sockfd, struct sockaddr *addr, socklen_t *addrlen)` */
  accept: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
});
const withEventfd = libcFunctions({
  /** `int eventfd(unsigned int initval, int flags)` */
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
});
const withPipe = libcFunctions({
  /** `int pipe(int pipefd[2])` */
  pipe: { parameters: ["buffer"], result: "i32" },
});

/**
 * Makes a socket (`socket`) with the only protocol of its family and type.
 *
 * @throws {WinsockError} If the system refuses.
 */
export function newSocket(family: number, type: number): bigint {
  const s = libc().socket(family, type | newSocketFlags(), 0);
  if (s === -1) throw lastUnixError("make a socket", "socket");
  return restricted(BigInt(s))[0];
}

/**
 * Makes two connected local sockets (`socketpair`).
 *
 * @throws {WinsockError} If the system refuses.
 */
export function newSocketPair(): [bigint, bigint] {
  const descriptors = new Int32Array(2);
  const result = libc().socketpair(AF_UNIX, SOCK.SOCK_STREAM | newSocketFlags(), 0, descriptors);
  if (result === -1) throw lastUnixError("make a socket pair", "socketpair");
  return restricted(BigInt(descriptors[0]!), BigInt(descriptors[1]!));
}

/**
 * Accepts a connection on a non-blocking listening socket (`accept4`, `accept`).
 *
 * @returns The connection; `undefined` if no connection is waiting, or the connection failed before it was accepted.
 * @throws {WinsockError} If the socket cannot accept.
 */
export function acceptNow(listener: bigint): bigint | undefined {
  const accept4 = unixSystem().newSocketFlags !== undefined;
  const s = accept4
    ? withAccept4().accept4(listener, null, null, newSocketFlags())
    : withAccept().accept(listener, null, null);
  if (s !== -1) return restricted(BigInt(s))[0];
  const code = errno();
  if (isErrno(code, ...unixSystem().acceptAgain)) return undefined;
  throw unixError(code, `accept a connection on socket ${listener}`, accept4 ? "accept4" : "accept");
}

/**
 * Makes the two ends of a waker: writing 8 bytes to the second makes the first readable. They are one `eventfd`, or a
 * `pipe`.
 *
 * @throws {WinsockError} If the system refuses.
 */
export function newWakerEnds(): [readable: bigint, writable: bigint] {
  const { EFD_CLOEXEC } = unixSystem();
  if (EFD_CLOEXEC !== undefined) {
    const fd = withEventfd().eventfd(0, EFD_CLOEXEC);
    if (fd === -1) throw lastUnixError("make a waker", "eventfd");
    return [BigInt(fd), BigInt(fd)];
  }
  return newPipe("make a waker");
}

/**
 * Makes a pipe (pipe(2)).
 *
 * @param operation The operation, for the error.
 * @throws {WinsockError} If the system refuses.
 */
export function newPipe(operation: string): [readable: bigint, writable: bigint] {
  const descriptors = new Int32Array(2);
  const result = withPipe().pipe(descriptors);
  if (result === -1) throw lastUnixError(operation, "pipe");
  const ends: [bigint, bigint] = [BigInt(descriptors[0]!), BigInt(descriptors[1]!)];
  prepareAll(ends, restrict);
  return ends;
}

function newSocketFlags(): number {
  const flags = unixSystem().newSocketFlags;
  return flags === undefined ? 0 : flags.SOCK_CLOEXEC | flags.SOCK_NONBLOCK;
}

/** Returns the new sockets with their flags set, by the call that made them or by `fcntl`. */
function restricted<Sockets extends [bigint, ...bigint[]]>(...sockets: Sockets): Sockets {
  if (unixSystem().newSocketFlags === undefined) prepareAll(sockets, restrict);
  return sockets;
}

function restrict(fd: bigint): void {
  closeOnExec(fd);
  setStatusFlags(fd, unixSystem().O_NONBLOCK);
}
