/**
 * How a hand-off can end without the target owning the socket.
 *
 * @module
 */

/**
 * How a hand-off ended:
 * `rejected`, the target did not want it; `expired`, it took longer than its deadline; `target-died`, the target ended
 * first; `channel-broken`, what arrived was no answer of the protocol, or the source was closed.
 */
export type HandoffOutcome = "rejected" | "expired" | "target-died" | "channel-broken";

/** What a {@linkcode HandoffError} says besides its outcome. */
export interface HandoffErrorOptions extends ErrorOptions {
  /** What did not happen, where the error is about no one socket. Default: `The socket was not handed off`. */
  what?: string;
}

/**
 * A hand-off did not happen. The socket is still open and its owner's, in the process that tried to send it.
 *
 * @example
 * ```ts
 * import { HandoffError } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new HandoffError("rejected", "process 4242 is busy");
 * assertEquals(error.message, "The socket was not handed off (rejected): process 4242 is busy");
 * ```
 */
export class HandoffError extends Error {
  /** `HandoffError`. */
  override readonly name = "HandoffError";
  /** How the hand-off ended. */
  readonly outcome: HandoffOutcome;
  /** Why, in the target's words where it rejected. */
  readonly reason: string;

  /**
   * Makes the error.
   *
   * @param outcome How the hand-off ended.
   * @param reason Why.
   * @param options What caused it, and what it is that did not happen.
   */
  constructor(outcome: HandoffOutcome, reason: string, options: HandoffErrorOptions = {}) {
    super(`${options.what ?? "The socket was not handed off"} (${outcome}): ${reason}`, options);
    this.outcome = outcome;
    this.reason = reason;
  }
}
