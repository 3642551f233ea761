/**
 * What fcntl(2) keeps with a descriptor.
 *
 * @module
 */
import { lastUnixError } from "./errno.ts";
import { libc } from "./libc.ts";
import { unixSystem } from "./system.ts";

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
