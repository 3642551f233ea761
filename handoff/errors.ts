/**
 * What a program hears of hand-offs: the errors, those of upgrades included, and the steps on the diagnostics channel.
 *
 * @module
 */
import type { Channel } from "node:diagnostics_channel";
import { nodeBuiltin } from "../internal/runtime.ts";

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

/** Where the options of an error have what did not happen. */
const WHAT = Symbol("what");

/**
 * Options of a {@linkcode HandoffError} that is not about one socket.
 *
 * @param what What did not happen, in place of `Cannot hand off the socket`.
 */
export function errorAbout(what: string, options: ErrorOptions = {}): ErrorOptions {
  return { ...options, [WHAT]: what } as ErrorOptions;
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
   * @param options What caused it.
   */
  constructor(outcome: HandoffOutcome, reason: string, options: ErrorOptions = {}) {
    const { [WHAT]: what = "Cannot hand off the socket" } = options as { [WHAT]?: string };
    super(`${what} (${outcome}): ${reason}`, options);
    this.outcome = outcome;
    this.reason = reason;
  }
}

/**
 * What became of the new version:
 * `refused`, it said that it will not serve; `crashed`, it ended; `timeout`, it was not ready in time, or did not answer
 * when its trial was over, and was ended; `busy`, it was not started, for another upgrade is under way or done;
 * `not-ready`, it was not started, for this version has not called `ServerVersion.markReady`, or its own trial is not over.
 */
export type UpgradeOutcome = "refused" | "crashed" | "timeout" | "busy" | "not-ready";

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

/** A step of a hand-off, published on the channel {@linkcode TRACE_CHANNEL}. */
export interface HandoffStep {
  /** What this process has just done. */
  readonly step:
    | "hello-sent"
    | "hello-received"
    | "ready-received"
    | "offered"
    | "offer-received"
    | "opened"
    | "taken"
    | "taken-received"
    | "done"
    | "rejected"
    | "reject-received"
    | "withdrawn"
    | "left"
    | "end-received";
  /** Which hand-off of the channel; 0 for steps of the channel itself. */
  readonly sequence: number;
  /** The process at the other end. */
  readonly peerProcessId: number;
}

/** Name of the diagnostics channel: `@winsock/handoff`. */
export const TRACE_CHANNEL = "@winsock/handoff";

let channel: Channel | undefined;

/** Publishes a step; costs next to nothing while nobody watches. */
export function trace(step: HandoffStep["step"], sequence: number, peerProcessId: number): void {
  channel ??= nodeBuiltin("node:diagnostics_channel").channel(TRACE_CHANNEL);
  if (channel.hasSubscribers) channel.publish({ step, sequence, peerProcessId } satisfies HandoffStep);
}
