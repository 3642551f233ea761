/**
 * How an upgrade can fail.
 *
 * @module
 */

/**
 * What became of the new version:
 * `refused`, it said that it will not serve; `crashed`, it ended; `timeout`, it was not ready in time, or did not answer
 * when its trial was over, and was ended; `busy`, it was not started, for another upgrade is under way or done.
 */
export type UpgradeOutcome = "refused" | "crashed" | "timeout" | "busy";

/**
 * An upgrade did not happen: this version goes on serving.
 *
 * @example
 * ```ts
 * import { UpgradeError } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new UpgradeError("refused", "the configuration is not valid");
 * assertEquals(error.message, "The new version does not take over (refused): the configuration is not valid");
 * ```
 */
export class UpgradeError extends Error {
  /** `UpgradeError`. */
  override readonly name = "UpgradeError";
  /** What became of the new version. */
  readonly outcome: UpgradeOutcome;
  /** Why, in the new version's words where it refused. */
  readonly reason: string;

  /**
   * Makes the error.
   *
   * @param outcome What became of the new version.
   * @param reason Why.
   * @param options What caused it.
   */
  constructor(outcome: UpgradeOutcome, reason: string, options?: ErrorOptions) {
    super(`The new version does not take over (${outcome}): ${reason}`, options);
    this.outcome = outcome;
    this.reason = reason;
  }
}
