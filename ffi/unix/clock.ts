/**
 * The system's clock of time passed, which performance.now() only tells differences of.
 *
 * @module
 */
import { lastUnixError } from "./errno.ts";
import { libc } from "./libc.ts";
import { unixSystem } from "./system.ts";

/**
 * The time of `CLOCK_MONOTONIC` (clock_gettime(2)).
 *
 * @returns Microseconds.
 */
export function monotonicMicroseconds(): bigint {
  const timespec = new BigInt64Array(2);
  const result = libc().clock_gettime(unixSystem().CLOCK_MONOTONIC, timespec);
  if (result === -1) throw lastUnixError("read the clock", "clock_gettime");
  return timespec[0]! * 1_000_000n + timespec[1]! / 1_000n;
}
