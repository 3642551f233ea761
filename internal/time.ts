/**
 * Durations, waits with an end, and giving the event loop its turn.
 *
 * @module
 */
import { nodeBuiltin } from "./node.ts";

/** The longest that a timer can wait: 24 days. */
const MAX_DURATION = 2 ** 31 - 1;

/**
 * Checks a duration.
 *
 * @param name Of the option, for the error.
 * @param value In milliseconds.
 * @param least The shortest that makes sense.
 * @returns The value.
 * @throws {RangeError} If it is no number, shorter than that, or longer than a timer can wait.
 */
export function validateDuration(name: string, value: number, least = 0): number {
  if (value >= least && value <= MAX_DURATION) return value;
  throw new RangeError(`${name} must be from ${least} to ${MAX_DURATION} milliseconds, not ${value}`);
}

/**
 * Waits for a promise, but no longer than a while. Rejects as the promise does.
 *
 * @param promise What is waited for.
 * @param milliseconds How long at most: a value that {@linkcode validateDuration} lets pass.
 */
export async function settleWithin(promise: Promise<unknown>, milliseconds: number): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, milliseconds);
  try {
    await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits for the next turn of the event loop. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => nodeBuiltin("node:timers").setImmediate(resolve));
}

/** Counts what is done in one turn of the event loop. */
export class YieldBudget {
  #done = 0;

  /** @param most How much may be done in one turn. */
  constructor(readonly most: number) {}

  /** How much was done in this turn. */
  get done(): number {
    return this.#done;
  }

  /** Whether others are to have a turn now. */
  get over(): boolean {
    return this.#done >= this.most;
  }

  /** Counts something that was done. */
  add(amount: number = 1): void {
    this.#done += amount;
  }

  /** A new turn begins by itself, for there is nothing to do. */
  rest(): void {
    this.#done = 0;
  }

  /** Waits for the next turn. */
  next(): Promise<void> {
    this.#done = 0;
    return nextTurn();
  }
}
