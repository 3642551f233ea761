/** A process without room for descriptors, on Linux. */
import { libc } from "@winsock/handoff/ffi";
import { duplicateFrom } from "../../ffi/unix/descriptors.ts";
import { libcFunctions } from "../../ffi/unix/libc.ts";

const RLIMIT_NOFILE = 7;

const functions = libcFunctions({
  /** `int prlimit(pid_t pid, int resource, const struct rlimit *new_limit, struct rlimit *old_limit)` */
  prlimit: { parameters: ["i32", "i32", "buffer", "buffer"], result: "i32" },
});

export const withLimits = { ignore: Deno.build.os !== "linux" };

/** Leaves this process room for so many descriptors until it is disposed of. */
export class Shortage implements Disposable {
  readonly #limits = new BigUint64Array(2);
  readonly #taken: bigint[] = [];

  constructor(room: number) {
    functions().prlimit(0, RLIMIT_NOFILE, null, this.#limits);
    const highest = duplicateFrom(0n, 0);
    libc().close(highest);
    // All numbers below the limit are taken, then: gaps, too.
    const limit = BigInt(Math.max(Number(highest), ...openNumbers()) + 1 + room);
    functions().prlimit(0, RLIMIT_NOFILE, BigUint64Array.of(limit, this.#limits[1]!), null);
    this.fill();
    for (let count = 0; count < room; count++) libc().close(this.#taken.pop()!);
  }

  /** Takes what room there is. */
  fill(): void {
    try {
      for (;;) this.#taken.push(duplicateFrom(0n, 0));
    } catch {
      // There is none left.
    }
  }

  [Symbol.dispose](): void {
    functions().prlimit(0, RLIMIT_NOFILE, this.#limits, null);
    for (let fd = this.#taken.pop(); fd !== undefined; fd = this.#taken.pop()) libc().close(fd);
  }
}

function openNumbers(): number[] {
  return [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => Number(name));
}
