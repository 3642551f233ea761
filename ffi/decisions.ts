/**
 * Decisions between two processes. Each decision is made once, by either process, at any time, with one atomic
 * operation that does not need the other process. A process that was killed, stopped or is slow cannot leave a decision
 * open.
 *
 * A source and a target share two tables for their channel: one for what the source hands off, and one for what the
 * target hands back. Each hand-off that is offered uses one slot of its table. The process that is offered a socket
 * decides "taken", the process that offers it decides "withdrawn", and the first decision counts.
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

/** A table as the process uses it that offers. */
export interface OfferDecisions {
  /**
   * Opens the decision of a slot again. The previous hand-off of the slot must have been answered, or the other process
   * must have ended.
   *
   * @param slot The number of the slot, from 0 to {@linkcode DECISION_SLOTS} - 1.
   * @returns The handle of the decision in the other process; 0 if the number of the slot is enough.
   * @throws {WinsockError} If the system has no room, or the other process has ended.
   */
  open(slot: number): bigint;
  /**
   * Decides that what was offered stays with this process, unless the slot is already decided.
   *
   * @param slot The number of the slot.
   * @returns Whether this call made the decision.
   */
  decide(slot: number): boolean;
}

/** A table as the process uses it that takes. */
export interface TakeDecisions {
  /**
   * Stores the handle that an OFFER has for a slot. It is closed with the table.
   *
   * @param slot The number of the slot.
   * @param handle The handle in the OFFER.
   * @throws {RangeError} If the slot has a different handle.
   */
  remember(slot: number, handle: bigint): void;
  /**
   * Decides that this process takes what was offered, unless the slot is already decided.
   *
   * @param slot The number of the slot.
   * @param handle The handle in the OFFER.
   * @returns Whether this call made the decision.
   * @throws {RangeError} If the handle does not belong to this table.
   */
  decide(slot: number, handle: bigint): boolean;
}

/** Both tables as the source uses them. It makes them. */
export interface SourceDecisions extends OfferDecisions {
  /** How the target opens the tables. */
  readonly means: DecisionMeans;
  /**
   * The descriptor that the target needs to open the tables; `undefined` if OFFER frames have all it needs. Closed with
   * the tables.
   */
  readonly descriptor: bigint | undefined;
  /** The table for what the target hands back. */
  readonly back: TakeDecisions;
  /** Closes the tables. No decision can be made after that. */
  close(): void;
}

/** Both tables as the target uses them. */
export interface TargetDecisions extends TakeDecisions {
  /**
   * Returns the table for what the target hands back.
   *
   * @throws {WinsockError} If the source has ended, or this process has no right to it.
   */
  back(): OfferDecisions;
  /** Closes the tables. No decision can be made after that. */
  close(): void;
}
