/**
 * Durations, and waits that end.
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

/**
 * Waits for a promise, but no longer than a while. Rejects as the promise does.
 *
 * @param promise What is waited for.
 * @param milliseconds How long at most: a value that {@linkcode checkedMilliseconds} lets pass.
 */
export async function settleWithin(promise: Promise<unknown>, milliseconds: number): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, milliseconds);
  try {
    await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
