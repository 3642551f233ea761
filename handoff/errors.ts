/**
 * How a hand-off can end without the target owning the socket.
 *
 * @module
 */

/**
 * Why a hand-off did not happen:
 *
 * - `rejected`: the target did not want the socket, or could not open it.
 * - `timeout`: the target did not take it before its deadline.
 * - `target-exited`: the target's process ended; the reason has its exit code or signal.
 * - `channel-broken`: the target sent something else than the protocol, or closed its end of the channel.
 * - `overloaded`: too many sockets wait already.
 * - `closed`: the source or the pool was closed, or the target takes no more sockets.
 */
export type HandoffOutcome = "rejected" | "timeout" | "target-exited" | "channel-broken" | "overloaded" | "closed";

/** What a {@linkcode HandoffError} says besides its outcome. */
export interface HandoffErrorOptions extends ErrorOptions {
  /** What did not happen, where the error is not about one socket. Defaults to `Cannot hand off the socket`. */
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
 * assertEquals(error.message, "Cannot hand off the socket (rejected): process 4242 is busy");
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
    super(`${options.what ?? "Cannot hand off the socket"} (${outcome}): ${reason}`, options);
    this.outcome = outcome;
    this.reason = reason;
  }
}
