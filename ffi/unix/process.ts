/**
 * Who is at the other end: asked of the kernel, not of the peer.
 *
 * @module
 */
import { lastUnixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { SOL_SOCKET } from "./socket_flags.ts";

const SO_PEERCRED = 17;
const SYS_PIDFD_SEND_SIGNAL = 424n;
const SYS_PIDFD_OPEN = 434n;
const ESRCH = 3;

/**
 * A process that cannot be mistaken for a later one with the same id (`pidfd_open(2)`, Linux 5.3).
 */
export class ProcessReference implements Disposable {
  readonly #pidfd: bigint;

  /**
   * Refers to a running process.
   *
   * @param pid Its id.
   * @param operation What it is needed for, for the error.
   * @throws {WinsockError} WSAEINVAL if there is no such process.
   */
  constructor(readonly pid: number, operation: string) {
    this.#pidfd = libc().syscall2(SYS_PIDFD_OPEN, BigInt(pid), 0n);
    if (this.#pidfd === -1n) throw lastUnixError(operation, "pidfd_open");
  }

  /** Whether the process still exists. */
  get alive(): boolean {
    const result = libc().syscall4(SYS_PIDFD_SEND_SIGNAL, this.#pidfd, 0n, 0n, 0n);
    return result !== -1n || errno() !== ESRCH;
  }

  [Symbol.dispose](): void {
    libc().close(this.#pidfd);
  }
}

/**
 * The id of the process that connected a local socket (`SO_PEERCRED`).
 *
 * @param fd The accepted socket.
 * @returns The process id; 0 if it is in a pid namespace this process cannot see.
 * @throws {WinsockError} If `fd` is no local socket.
 */
export function peerProcessId(fd: bigint): number {
  const ucred = new Int32Array(3);
  const length = new Int32Array([ucred.byteLength]);
  const result = libc().getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ucred, length);
  if (result === -1) throw lastUnixError(`read the peer's process id of socket ${fd}`, "getsockopt");
  return ucred[0]!;
}
