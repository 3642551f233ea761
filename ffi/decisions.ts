/**
 * Decisions that one of two processes makes: each can be made once, by either side, at any instant, with one atomic
 * operation, and without the other side's help. A process that was killed, stopped or is slow cannot leave one open.
 *
 * A source and a target share one table for their channel. Each hand-off that is offered uses one slot of it: the target
 * decides "taken", the source decides "withdrawn", and whichever comes first is what happened.
 *
 * @module
 */

/** Slots of a table: at most so many hand-offs of one channel are offered and not answered. */
export const DECISION_SLOTS = 64;

/** How a target finds the table of its channel. The numbers are those of the protocol. */
export const DecisionMeans = {
  /** An event object a slot; each OFFER names the target's handle of it. */
  EVENTS: 0,
  /** Words of shared memory. */
  WORDS: 1,
  /** Names in a directory. */
  NAMES: 2,
} as const;

/** One of {@linkcode DecisionMeans}' numbers. */
export type DecisionMeans = typeof DecisionMeans[keyof typeof DecisionMeans];

/** The source's side of a table. */
export interface SourceDecisions {
  /** What the target opens the table by. */
  readonly means: DecisionMeans;
  /** The descriptor that the target needs of it; none where OFFER frames bring what it needs. Closed with the table. */
  readonly descriptor: bigint | undefined;
  /**
   * Makes the decision of a slot open again. The one before must have been answered, or its target have ended.
   *
   * @param slot From 0 to {@linkcode DECISION_SLOTS} - 1.
   * @returns The target's handle of the decision; 0 where the slot says enough.
   * @throws {WinsockError} If the system has no room, or the target has ended.
   */
  open(slot: number): bigint;
  /**
   * Decides a slot for this side, unless it was decided before.
   *
   * @param slot Which.
   * @returns Whether this call decided it.
   */
  decide(slot: number): boolean;
  /** Gives the table up. Nothing may be decided after that. */
  close(): void;
}

/** The target's side of a table. */
export interface TargetDecisions {
  /**
   * Remembers what an OFFER says of a slot, for it is this side's to close with the table.
   *
   * @param slot Which.
   * @param handle What the OFFER said of it.
   * @throws {RangeError} If the slot has another one.
   */
  remember(slot: number, handle: bigint): void;
  /**
   * Decides a slot for this side, unless it was decided before.
   *
   * @param slot Which.
   * @param handle What the OFFER said of it.
   * @returns Whether this call decided it.
   * @throws {RangeError} If the handle is not one of this table.
   */
  decide(slot: number, handle: bigint): boolean;
  /** Gives the table up. Nothing may be decided after that. */
  close(): void;
}
