/**
 * Durations as callers give them.
 *
 * @module
 */

/** The longest that a timer can wait: 24 days. */
const MOST = 2 ** 31 - 1;

/**
 * Checks a duration.
 *
 * @param name Of the option, for the error.
 * @param value In milliseconds.
 * @param least The shortest that makes sense.
 * @returns The value.
 * @throws {RangeError} If it is no number, shorter than that, or longer than a timer can wait.
 */
export function checkedMilliseconds(name: string, value: number, least = 0): number {
  if (value >= least && value <= MOST) return value;
  throw new RangeError(`${name} must be from ${least} to ${MOST} milliseconds, not ${value}`);
}
