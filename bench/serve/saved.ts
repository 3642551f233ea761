/**
 * Results of servers that are kept: the part `serve` of a lane in `bench/results.json`.
 *
 * @module
 */
import { keepInLane } from "../handoff/saved.ts";

/** What the connections are. */
export const KINDS = ["kept connections", "a new connection each"] as const;
export type ServeKind = typeof KINDS[number];

/** Medians of a server, and the rates that they were taken of. */
export interface ServeSample {
  readonly perSecond: number;
  /** In milliseconds. */
  readonly p99: number;
  readonly rates: readonly number[];
}

/** What was measured of servers in one lane, at one time. */
export interface SavedServe {
  readonly date: string;
  readonly machine: string;
  readonly note: string;
  readonly rounds: number;
  /** How long a sample was. */
  readonly seconds: number;
  readonly missing: readonly string[];
  /** The goals, each with its verdict. */
  readonly goals: readonly string[];
  /** By the kind of connections, and the server. */
  readonly requests: Record<string, Record<string, ServeSample>>;
}

/** Keeps the results of a lane's servers. */
export async function saveServe(lane: string, serve: SavedServe): Promise<void> {
  await keepInLane(lane, { serve });
}
