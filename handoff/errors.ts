/**
 * What a program learns about hand-offs: the errors, including those of upgrades, and the steps on the diagnostics
 * channel.
 *
 * @module
 */
import type { Channel } from "node:diagnostics_channel";
import { nodeBuiltin } from "../internal/runtime.ts";

/**
 * Why a hand-off failed:
 *
 * - `rejected`: the target rejected the socket, or could not open it.
 * - `timeout`: the target did not take the socket before its deadline.
 * - `target-exited`: the target's process ended. The reason has its exit code or signal.
 * - `channel-broken`: the target sent something that is not the protocol, or closed its end of the channel.
 * - `overloaded`: too many sockets wait already.
 * - `closed`: the source or the pool was closed, or the target takes no more sockets.
 */
export type HandoffOutcome = "rejected" | "timeout" | "target-exited" | "channel-broken" | "overloaded" | "closed";

/** The key of an error's options that has the operation that failed. */
const WHAT = Symbol("what");

/** The key of an error's options that has how a process ended. */
const STATUS = Symbol("status");

/** How a process ended. */
type ExitStatus = Pick<Deno.CommandStatus, "code" | "signal">;

/** Returns the options of an error that is about the end of a process. */
export function errorOfExit({ code, signal }: ExitStatus, options: ErrorOptions = {}): ErrorOptions {
  return { ...options, [STATUS]: { code, signal } } as ErrorOptions;
}

/** Returns how the process ended that an error is about: the error itself, or its cause. */
function exitOf(options: ErrorOptions): { exitCode: number | undefined; signal: Deno.Signal | undefined } {
  const { [STATUS]: status, cause } = options as ErrorOptions & { [STATUS]?: ExitStatus };
  if (status !== undefined) return { exitCode: status.code, signal: status.signal ?? undefined };
  if (cause instanceof HandoffError) return { exitCode: cause.exitCode, signal: cause.signal };
  return { exitCode: undefined, signal: undefined };
}

/** Returns the message of what was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Returns the options of a {@linkcode HandoffError} that is not about one socket.
 *
 * @param what The operation that failed, instead of `Cannot hand off the socket`.
 */
export function errorAbout(what: string, options: ErrorOptions = {}): ErrorOptions {
  return { ...options, [WHAT]: what } as ErrorOptions;
}

/**
 * The error of a hand-off that failed. The socket is still open and belongs to its owner in the source.
 *
 * @example A target that rejects the socket
 * ```ts
 * import { HandoffError } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new HandoffError("rejected", "process 4242 is busy");
 * assertEquals(error.message, "Cannot hand off the socket (rejected): process 4242 is busy");
 * ```
 */
export class HandoffError extends Error {
  /** The name of the class: `HandoffError`. */
  override readonly name = "HandoffError";
  /** How the hand-off ended. */
  readonly outcome: HandoffOutcome;
  /** The reason of the failure. If the target rejected the socket, this is the reason that the target gave. */
  readonly reason: string;
  /** The exit code of the target's process, if the outcome is `target-exited` and the process is known. */
  readonly exitCode: number | undefined;
  /** The signal that ended the target's process, if a signal did. */
  readonly signal: Deno.Signal | undefined;

  /**
   * Creates the error.
   *
   * @param outcome How the hand-off ended.
   * @param reason The reason of the failure.
   * @param options The cause of the error.
   */
  constructor(outcome: HandoffOutcome, reason: string, options: ErrorOptions = {}) {
    const { [WHAT]: what = "Cannot hand off the socket" } = options as { [WHAT]?: string };
    super(`${what} (${outcome}): ${reason}`, options);
    this.outcome = outcome;
    this.reason = reason;
    ({ exitCode: this.exitCode, signal: this.signal } = exitOf(options));
  }
}

/**
 * Why an upgrade failed:
 *
 * - `refused`: the new version said that it will not serve.
 * - `crashed`: the new version ended. In a new version: its supervisor ended before it could serve, and another version
 *   serves.
 * - `timeout`: the new version was not ready in time, or did not answer at the end of its trial; or this version did not
 *   stop accepting in time. The new version was ended.
 * - `busy`: the new version was not started, because another upgrade is under way or done.
 * - `not-ready`: the new version was not started, because this version has not called `ServerVersion.markReady`, or
 *   because its own trial is not over.
 */
export type UpgradeOutcome = "refused" | "crashed" | "timeout" | "busy" | "not-ready";

/**
 * The error of an upgrade that failed. This version continues to serve.
 *
 * @example A version that refuses to take over
 * ```ts
 * import { UpgradeError } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new UpgradeError("refused", "the configuration is not valid");
 * assertEquals(error.message, "Cannot upgrade the server (refused): the configuration is not valid");
 * ```
 */
export class UpgradeError extends Error {
  /** The name of the class: `UpgradeError`. */
  override readonly name = "UpgradeError";
  /** How the upgrade ended. */
  readonly outcome: UpgradeOutcome;
  /** The reason of the failure. If the new version refused, this is the reason that it gave. */
  readonly reason: string;
  /** The exit code of the new version's process, if it ended by itself. */
  readonly exitCode: number | undefined;
  /** The signal that ended the new version's process, if a signal did that this library has not sent. */
  readonly signal: Deno.Signal | undefined;

  /**
   * Creates the error.
   *
   * @param outcome How the upgrade ended.
   * @param reason The reason of the failure.
   * @param options The cause of the error.
   */
  constructor(outcome: UpgradeOutcome, reason: string, options: ErrorOptions = {}) {
    super(`Cannot upgrade the server (${outcome}): ${reason}`, options);
    this.outcome = outcome;
    this.reason = reason;
    ({ exitCode: this.exitCode, signal: this.signal } = exitOf(options));
  }
}

/**
 * A step of a hand-off or of a shared listener, published on the channel {@linkcode TRACE_CHANNEL}. Messages have none.
 */
export interface HandoffStep {
  /**
   * The step that this process has just finished. In the source, a hand-off that was `offered` ends with the first of
   * `taken-received`, `reject-received` and `withdrawn`, also if the target ends without an answer: then the decision
   * says which.
   */
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
    | "end-received"
    | "accepting"
    | "accepting-received"
    | "paused"
    | "paused-received"
    | "stopped"
    | "stopped-received";
  /**
   * The number of the hand-off in its channel, also that of a listener which a target accepts on; 0 for steps of the
   * channel itself.
   */
  readonly sequence: number;
  /** The process at the other end. */
  readonly peerProcessId: number;
}

/** The name of the diagnostics channel: `@winsock/handoff`. */
export const TRACE_CHANNEL = "@winsock/handoff";

let channel: Channel | undefined;

/** Publishes a step. Costs almost nothing if the channel has no subscribers. */
export function trace(step: HandoffStep["step"], sequence: number, peerProcessId: number): void {
  channel ??= nodeBuiltin("node:diagnostics_channel").channel(TRACE_CHANNEL);
  if (channel.hasSubscribers) channel.publish({ step, sequence, peerProcessId } satisfies HandoffStep);
}
