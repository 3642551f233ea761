/**
 * References to processes on Linux 5.3 or newer.
 *
 * @module
 */
import { isErrno, lastUnixError, unixError } from "./errno.ts";
import { errno, libc, libcFunctions } from "./libc.ts";
import { Look, POLLIN } from "./poll.ts";
import type { ProcessReference } from "./process.ts";
import type { UnixSystem } from "./systems/unix_system.ts";

const functions = libcFunctions({
  /** `long syscall(long number, ...)`, with two integer arguments */
  syscall2: { name: "syscall", parameters: ["i64", "i64", "i64"], result: "i64" },
});

/** A process by a descriptor of it (`pidfd_open(2)`), which is readable from its end on. */
export class PidfdReference implements ProcessReference {
  readonly #pidfd: bigint;
  readonly #end: Look;

  private constructor(readonly pid: number, pidfd: bigint) {
    this.#pidfd = pidfd;
    this.#end = new Look(pidfd, POLLIN);
  }

  /** Refers to the process that has an id now. */
  static open(pid: number, operation: string, { SYS_pidfd_open }: NonNullable<UnixSystem["pidfd"]>): PidfdReference {
    const pidfd = functions().syscall2(SYS_pidfd_open, BigInt(pid), 0n);
    if (pidfd === -1n) throw lastUnixError(operation, "pidfd_open");
    return new PidfdReference(pid, pidfd);
  }

  /**
   * Refers to the process that connected a local socket, whoever has its id now.
   *
   * @returns `undefined` if this Linux does not tell.
   */
  static ofPeer(
    fd: bigint,
    pid: number,
    operation: string,
    { SO_PEERPIDFD: [level, optname] }: NonNullable<UnixSystem["pidfd"]>,
  ): PidfdReference | undefined {
    const pidfd = new Int32Array(1);
    const result = libc().getsockopt(fd, level, optname, pidfd, new Int32Array([4]));
    if (result === 0) return new PidfdReference(pid, BigInt(pidfd[0]!));
    const code = errno();
    if (isErrno(code, "ENOPROTOOPT")) return undefined;
    throw unixError(code, operation, "getsockopt");
  }

  get alive(): boolean {
    return !this.#end.ready();
  }

  [Symbol.dispose](): void {
    libc().close(this.#pidfd);
  }
}
