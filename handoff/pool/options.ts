/**
 * How a pool of workers works.
 *
 * @module
 */
import { checkedMilliseconds } from "../../ffi/milliseconds.ts";
import { checkProgram, type Program } from "../spawn.ts";
import { checkedTimeout } from "../source.ts";

/** Which worker gets the next socket: the one with the fewest, or each in turn. */
export type WorkerStrategy = "least-loaded" | "round-robin";

/** One worker process of a pool. */
export interface WorkerInfo {
  /** Its place in the pool, from 0; a worker that takes another's place has the same. */
  readonly index: number;
  /** Its process id; 0 where there is no process: the place is empty or given up, or no worker could be spawned. */
  readonly processId: number;
}

/** How a {@linkcode WorkerPool} works: what its workers run, and the rest. */
export interface WorkerPoolOptions extends Program {
  /** How many workers. Default `navigator.hardwareConcurrency`. */
  size?: number;
  /** Which worker gets the next socket. Default `least-loaded`. */
  strategy?: WorkerStrategy;
  /** How many sockets a worker may have: on their way to it, or its own and not closed. Default 1024. */
  credit?: number;
  /** How many sockets may wait in the pool for a worker that has credit; more are refused. Default 1024. */
  maxWaiting?: number;
  /** How many workers a socket is offered to, one after the other, before it comes back. Default 3. */
  attempts?: number;
  /**
   * How long a worker may take to become ready, to take a socket, and a socket may wait for a worker, in milliseconds:
   * more than 0, at most 30 000. Default 10 000.
   *
   * A worker that has left its `receive` loop is replaced, and has as long to finish the connections it has; then it is
   * ended, and they with it.
   */
  timeout?: number;
  /**
   * How long a worker's place stays empty after it has ended, in milliseconds, from 0 to 2 147 483 647; twice as long
   * after each one more that ended within a second. Default 100.
   */
  restartDelay?: number;
  /** The longest that a place stays empty, in milliseconds: from 0 to 2 147 483 647. Default 10 000. */
  maxRestartDelay?: number;
  /** How many workers in a row may end within a second before their place is given up. Default 10. */
  maxRestarts?: number;
  /** Whether the workers run programs of one's own, as {@linkcode HandoffSourceOptions.trusted} says. Defaults to true. */
  trusted?: boolean;
  /** Put before each line a worker prints. Without it, workers print where this process does, untouched. */
  prefix?: string | ((worker: WorkerInfo) => string);
  /** Ends the pool at once, workers included. */
  signal?: AbortSignal;
}

/** Options with everything filled in that has a default. */
export type PoolSettings = WorkerPoolOptions & Required<Omit<WorkerPoolOptions, keyof Program | "prefix" | "signal">>;

/** Fills in the defaults. Throws what is wrong with the options. */
export function poolSettings(options: WorkerPoolOptions): PoolSettings {
  checkProgram(options);
  const settings: PoolSettings = {
    ...options,
    size: options.size ?? navigator.hardwareConcurrency,
    strategy: options.strategy ?? "least-loaded",
    credit: options.credit ?? 1024,
    maxWaiting: options.maxWaiting ?? 1024,
    attempts: options.attempts ?? 3,
    timeout: checkedTimeout(options.timeout ?? 10_000),
    restartDelay: checkedMilliseconds("The pool's restartDelay", options.restartDelay ?? 100),
    maxRestartDelay: checkedMilliseconds("The pool's maxRestartDelay", options.maxRestartDelay ?? 10_000),
    maxRestarts: options.maxRestarts ?? 10,
    trusted: options.trusted ?? true,
  };
  for (const name of ["size", "credit", "attempts"] as const) atLeast(1, name, settings[name]);
  for (const name of ["maxWaiting", "maxRestarts"] as const) atLeast(0, name, settings[name]);
  return settings;
}

function atLeast(least: number, name: string, value: number): void {
  if (!(value >= least)) throw new RangeError(`The pool's ${name} is ${value}, not ${least} or more`);
}
