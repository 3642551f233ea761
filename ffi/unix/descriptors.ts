/**
 * File descriptors: their flags (fcntl(2)), and making ones that child processes do not inherit and whose calls do not
 * wait.
 *
 * Where the call that makes a descriptor cannot set its flags, `fcntl` does in the next statement. This thread spawns
 * nothing between the two; another thread of the process, a Worker, may.
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

/** `fcntl` with an integer behind its command; -1 says that it failed. */
export function fcntl(fd: bigint, cmd: number, arg: number = 0): number {
  return libc().fcntl(fd, cmd, arg, 0, 0, 0, 0, 0, BigInt(arg));
}

/**
 * Whether child processes inherit a descriptor (`FD_CLOEXEC` off). One that this process inherited has it off, for exec
 * would have closed it; Deno sets it on all it opens.
 *
 * @param fd The descriptor.
 * @returns Whether they do.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function inheritable(fd: bigint): boolean {
  const flags = fcntl(fd, F_GETFD);
  if (flags === -1) throw lastUnixError(`find out whether descriptor ${fd} is inherited`, "fcntl");
  return (flags & FD_CLOEXEC) === 0;
}

/**
 * Keeps child processes from inheriting a descriptor (`FD_CLOEXEC`, fcntl(2)).
 *
 * @param fd The descriptor.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function closeOnExec(fd: bigint): void {
  const result = fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (result === -1) throw lastUnixError(`keep descriptor ${fd} from being inherited`, "fcntl");
}

/**
 * Lets child processes inherit a descriptor (`FD_CLOEXEC` off), for the moment in which one is spawned.
 *
 * @param fd The descriptor.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function keepOnExec(fd: bigint): void {
  const result = fcntl(fd, F_SETFD, 0);
  if (result === -1) throw lastUnixError(`let descriptor ${fd} be inherited`, "fcntl");
}

/**
 * Makes new descriptors what they are to be, or closes them all.
 *
 * @param fds The descriptors.
 * @param prepare What to do to each.
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
 * Makes one more descriptor with a number of its own (`F_DUPFD_CLOEXEC`, fcntl(2)).
 *
 * @param fd The descriptor to duplicate.
 * @param least The lowest number the new one may have.
 * @param operation What it is needed for, for the error.
 * @returns The new descriptor, closed on exec; the caller's to close.
 * @throws {WinsockError} WSAENOTSOCK if `fd` is not open, WSAEMFILE if there is no room.
 */
export function duplicateFrom(fd: bigint, least: number, operation = `duplicate descriptor ${fd}`): bigint {
  const result = fcntl(fd, unixSystem().F_DUPFD_CLOEXEC, least);
  if (result === -1) throw lastUnixError(operation, "fcntl");
  return BigInt(result);
}

/**
 * The status flags of what a descriptor is of (`F_GETFL`, fcntl(2)), such as `O_NONBLOCK`: kept once for all who share it.
 *
 * @param fd The descriptor.
 * @returns The flags, bits.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function statusFlags(fd: bigint): number {
  const flags = fcntl(fd, F_GETFL);
  if (flags === -1) throw lastUnixError(`read the flags of descriptor ${fd}`, "fcntl");
  return flags;
}

/**
 * Sets the status flags of what a descriptor is of (`F_SETFL`, fcntl(2)), for all who share it.
 *
 * @param fd The descriptor.
 * @param flags The flags, bits.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function setStatusFlags(fd: bigint, flags: number): void {
  const result = fcntl(fd, F_SETFL, flags);
  if (result === -1) throw lastUnixError(`set the flags of descriptor ${fd}`, "fcntl");
}

/**
 * Keeps calls on a descriptor from waiting (`O_NONBLOCK` on).
 *
 * @param fd The descriptor.
 * @param operation What it is needed for, for the error.
 * @throws {WinsockError} WSAENOTSOCK if it is not open.
 */
export function setNonblocking(fd: bigint, operation: string): void {
  const flags = fcntl(fd, F_GETFL);
  const result = flags === -1 ? -1 : fcntl(fd, F_SETFL, flags | unixSystem().O_NONBLOCK);
  if (result === -1) throw lastUnixError(operation, "fcntl");
}

/**
 * Makes calls on a descriptor wait, for a program that expects them to (`O_NONBLOCK` off).
 *
 * @param fd The descriptor.
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
 * Makes a socket (`socket`), of the only protocol of its family and type.
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
 * Accepts a connection on a listening socket that does not wait (`accept4`, `accept`).
 *
 * @returns The connection; `undefined` if there is none at the moment, or the one that came cannot be had.
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
 * Makes what can wake a poll: writing 8 bytes to the second makes the first readable (`eventfd`, where they are the same,
 * or `pipe`).
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
 * @param operation What it is needed for, for the error.
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

/** New sockets, restricted by the call that made them or now. */
function restricted<Sockets extends [bigint, ...bigint[]]>(...sockets: Sockets): Sockets {
  if (unixSystem().newSocketFlags === undefined) prepareAll(sockets, restrict);
  return sockets;
}

function restrict(fd: bigint): void {
  closeOnExec(fd);
  setStatusFlags(fd, unixSystem().O_NONBLOCK);
}
