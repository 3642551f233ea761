/**
 * What happens on the way, for whoever wants to watch: a channel of Node's `diagnostics_channel`.
 *
 * @module
 */
import type { Channel } from "node:diagnostics_channel";
import { nodeBuiltin } from "../ffi/node_builtins.ts";

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
