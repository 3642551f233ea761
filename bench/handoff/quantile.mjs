/**
 * A quantile, for contestants of every runtime.
 *
 * @module
 */

/**
 * @param {number[]} sorted Values in ascending order.
 * @param {number} q From 0 to 1.
 * @returns {number} The value at that quantile; NaN if there are none.
 */
export function quantile(sorted, q) {
  if (sorted.length === 0) return NaN;
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
}
