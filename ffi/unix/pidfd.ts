/**
 * References to processes on Linux 5.3 and newer.
 *
 * @module
 */
import { isErrno, lastUnixError } from "./errno.ts";
import { errno, libc, libcFunctions } from "./libc.ts";
import type { ProcessReference } from "./process.ts";
import type { UnixSystem } from "./systems/unix_system.ts";

const functions = libcFunctions({
  /** `long syscall(long number, ...)`, with two integer arguments */
  syscall2: { name: "syscall", parameters: ["i64", "i64", "i64"], result: "i64" },
  /** `long syscall(long number, ...)`, with four integer arguments */
  syscall4: { name: "syscall", parameters: ["i64", "i64", "i64", "i64", "i64"], result: "i64" },
});

/** A process by a descriptor of it (`pidfd_open(2)`). One that has ended exists until its parent has heard of it. */
export class PidfdReference implements ProcessReference {
  readonly #numbers: NonNullable<UnixSystem["pidfd"]>;
  readonly #pidfd: bigint;

  constructor(readonly pid: number, operation: string, numbers: NonNullable<UnixSystem["pidfd"]>) {
    this.#numbers = numbers;
    this.#pidfd = functions().syscall2(numbers.SYS_pidfd_open, BigInt(pid), 0n);
    if (this.#pidfd === -1n) throw lastUnixError(operation, "pidfd_open");
  }

  get alive(): boolean {
    const result = functions().syscall4(this.#numbers.SYS_pidfd_send_signal, this.#pidfd, 0n, 0n, 0n);
    return result !== -1n || !isErrno(errno(), "ESRCH");
  }

  [Symbol.dispose](): void {
    libc().close(this.#pidfd);
  }
}
