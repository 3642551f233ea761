/**
 * Decisions between two processes. Each decision is made once, by either process, at any time, with one atomic
 * operation that does not need the other process. A process that was killed, stopped or is slow cannot leave a decision
 * open.
 *
 * A source and a target share one table for their channel. Each hand-off that is offered uses one slot of the table.
 * The target decides "taken", the source decides "withdrawn", and the first decision counts.
 *
 * @module
 */

/** The number of slots in a table: the most hand-offs of one channel that can be offered and not answered. */
export const DECISION_SLOTS = 64;

/** How a target finds the table of its channel. The numbers are those of the protocol. */
export const DecisionMeans = {
  /** One event object for each slot; each OFFER has the handle of the event in the target. */
  EVENTS: 0,
  /** Words of shared memory. */
  WORDS: 1,
  /** Names in a directory. */
  NAMES: 2,
} as const;

/** A number of {@linkcode DecisionMeans}. */
export type DecisionMeans = typeof DecisionMeans[keyof typeof DecisionMeans];

/** The table as the source uses it. */
export interface SourceDecisions {
  /** How the target opens the table. */
  readonly means: DecisionMeans;
  /**
   * The descriptor that the target needs to open the table; `undefined` if OFFER frames have all it needs. Closed with
   * the table.
   */
  readonly descriptor: bigint | undefined;
  /**
   * Opens the decision of a slot again. The previous hand-off of the slot must have been answered, or its target must
   * have ended.
   *
   * @param slot The number of the slot, from 0 to {@linkcode DECISION_SLOTS} - 1.
   * @returns The handle of the decision in the target; 0 if the number of the slot is enough.
   * @throws {WinsockError} If the system has no room, or the target has ended.
   */
  open(slot: number): bigint;
  /**
   * Decides a slot for the source, unless it is already decided.
   *
   * @param slot The number of the slot.
   * @returns Whether this call made the decision.
   */
  decide(slot: number): boolean;
  /** Closes the table. No decision can be made after that. */
  close(): void;
}

/** The table as the target uses it. */
export interface TargetDecisions {
  /**
   * Stores the handle that an OFFER has for a slot. The target closes it with the table.
   *
   * @param slot The number of the slot.
   * @param handle The handle in the OFFER.
   * @throws {RangeError} If the slot has a different handle.
   */
  remember(slot: number, handle: bigint): void;
  /**
   * Decides a slot for the target, unless it is already decided.
   *
   * @param slot The number of the slot.
   * @param handle The handle in the OFFER.
   * @returns Whether this call made the decision.
   * @throws {RangeError} If the handle does not belong to this table.
   */
  decide(slot: number, handle: bigint): boolean;
  /** Closes the table. No decision can be made after that. */
  close(): void;
}
