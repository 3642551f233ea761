/**
 * Letting the event loop go on while there is always more to do.
 *
 * @module
 */
import { nodeBuiltin } from "./node_builtins.ts";

/** Waits for the next turn of the event loop. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => nodeBuiltin("node:timers").setImmediate(resolve));
}

/** Counts what is done in one turn of the event loop. */
export class Turns {
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
