/**
 * Waiting that ends.
 *
 * @module
 */

/** Waits for a promise, but no longer than a while that `checkedMilliseconds` lets pass. Rejects as the promise does. */
export async function atMost(milliseconds: number, promise: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, milliseconds);
  try {
    await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
