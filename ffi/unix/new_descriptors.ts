/**
 * Making descriptors that child processes do not inherit, and whose calls do not wait.
 *
 * Where the calls that make them cannot say so, `fcntl` does in the next statement. Nothing is spawned between the two by
 * this thread; another thread of the process, a Worker, may.
 *
 * @module
 */
import { AF_UNIX } from "../addresses.ts";
import { SOCK } from "../../structs/constants.ts";
import { closeOnExec, prepareAll, setStatusFlags } from "./descriptor_flags.ts";
import { isErrno, lastUnixError, unixError } from "./errno.ts";
import { errno, libc, libcFunctions } from "./libc.ts";
import { unixSystem } from "./system.ts";

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
