/**
 * Who is at the other end: asked of the kernel, not of the peer.
 *
 * @module
 */
import { isErrno, lastUnixError, unixError } from "./errno.ts";
import { KqueueReference } from "./kqueue.ts";
import { errno, libc, libcFunctions } from "./libc.ts";
import { PidfdReference } from "./pidfd.ts";
import { nulTerminated } from "./private_directory.ts";
import { unixSystem } from "./system.ts";

const O_CLOEXEC = 0o2000000;
/** Room for as much of a process' status as tells its user. */
const STATUS_SIZE = 4096;
/** Real, effective, saved, and for files. */
const STATUS_USER = /^Uid:(?:\s+\d+){3}\s+(\d+)$/m;

const functions = libcFunctions({
  /** `uid_t geteuid(void)` */
  geteuid: { parameters: [], result: "u32" },
  /** `int open(const char *path, int oflag, ...)`, without a mode */
  open: { parameters: ["buffer", "i32"], result: "i32" },
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["usize", "buffer", "usize"], result: "isize" },
});

/** Whether this process is root's, whose processes may be of other users. */
export function isRoot(): boolean {
  return functions().geteuid() === 0;
}

/**
 * The user whose files a process may use (`/proc/PID/status`, proc(5)).
 *
 * @param pid Its id.
 * @param operation What it is needed for, for the error.
 * @returns The user's number; `undefined` if the system does not tell.
 * @throws {WinsockError} WSAEMFILE if there is no room to ask.
 */
export function userOfProcess(pid: number, operation: string): number | undefined {
  if (!unixSystem().processFiles) return undefined;
  const fd = functions().open(nulTerminated(`/proc/${pid}/status`), O_CLOEXEC);
  if (fd === -1) {
    const code = errno();
    if (isErrno(code, "EMFILE", "ENFILE", "ENOMEM")) throw unixError(code, operation, "open");
    return undefined;
  }
  const bytes = new Uint8Array(STATUS_SIZE);
  const length = Number(functions().read(BigInt(fd), bytes, BigInt(STATUS_SIZE)));
  libc().close(BigInt(fd));
  const user = STATUS_USER.exec(new TextDecoder().decode(bytes.subarray(0, Math.max(0, length))))?.[1];
  return user === undefined ? undefined : Number(user);
}

/** A process that cannot be mistaken for a later one with the same id. */
export interface ProcessReference extends Disposable {
  /** Its id. */
  readonly pid: number;
  /** Whether the process still runs. */
  readonly alive: boolean;
}

/**
 * Refers to a running process.
 *
 * @param pid Its id.
 * @param operation What it is needed for, for the error.
 * @returns The reference; it keeps a descriptor until it is disposed of.
 * @throws {WinsockError} WSAEINVAL if there is no such process.
 */
export function referToProcess(pid: number, operation: string): ProcessReference {
  const { pidfd } = unixSystem();
  return pidfd === undefined ? new KqueueReference(pid, operation) : PidfdReference.open(pid, operation, pidfd);
}

/**
 * Refers to the process at the other end of a local socket. Linux before 6.5 and macOS know its id only: there it is the
 * process that has this id now.
 *
 * @param fd The accepted socket.
 * @param pid What {@linkcode peerProcessId} says.
 * @param operation What it is needed for, for the error.
 * @returns The reference; it keeps a descriptor until it is disposed of.
 * @throws {WinsockError} WSAEINVAL if there is no such process any more.
 */
export function referToPeer(fd: bigint, pid: number, operation: string): ProcessReference {
  const { pidfd } = unixSystem();
  const peer = pidfd === undefined ? undefined : PidfdReference.ofPeer(fd, pid, operation, pidfd);
  return peer ?? referToProcess(pid, operation);
}

/**
 * The id of the process that connected a local socket (`SO_PEERCRED`), or that used it last (`LOCAL_PEERPID`).
 *
 * @param fd The accepted socket.
 * @returns The process id; 0 if it is in a pid namespace this process cannot see.
 * @throws {WinsockError} If `fd` is no local socket, or on macOS if its peer is gone.
 */
export function peerProcessId(fd: bigint): number {
  const [level, optname] = unixSystem().PEER_PROCESS;
  const value = new Int32Array(3);
  const length = new Int32Array([value.byteLength]);
  const result = libc().getsockopt(fd, level, optname, value, length);
  if (result === -1) throw lastUnixError(`read the peer's process id of socket ${fd}`, "getsockopt");
  return value[0]!;
}
