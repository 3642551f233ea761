/**
 * Access to the JavaScript runtime: Node's built-in modules, loaded at first use; durations and time limits; turns of
 * the event loop.
 *
 * Static imports of `node:` modules would double the time it takes to import this library. A process may import the
 * library long before it has a socket.
 *
 * @module
 */
import type buffer from "node:buffer";
import type childProcess from "node:child_process";
import type crypto from "node:crypto";
import type diagnosticsChannel from "node:diagnostics_channel";
import type net from "node:net";
import type perfHooks from "node:perf_hooks";
import type process from "node:process";
import type stream from "node:stream";
import type timers from "node:timers";

interface NodeBuiltins {
  "node:buffer": typeof buffer;
  "node:child_process": typeof childProcess;
  "node:crypto": typeof crypto;
  "node:diagnostics_channel": typeof diagnosticsChannel;
  "node:net": typeof net;
  "node:perf_hooks": typeof perfHooks;
  "node:process": typeof process;
  "node:stream": typeof stream;
  "node:timers": typeof timers;
}

const runtime = globalThis as unknown as {
  process: { getBuiltinModule<Name extends keyof NodeBuiltins>(name: Name): NodeBuiltins[Name] };
};

/** Returns one of Deno's built-in `node:` modules. */
export function nodeBuiltin<Name extends keyof NodeBuiltins>(name: Name): NodeBuiltins[Name] {
  return runtime.process.getBuiltinModule(name);
}

/**
 * Returns an internal binding of Node that Deno also has. No other module of the library uses bindings.
 *
 * @typeParam Binding The members that the binding is expected to have. A later Deno may change them, so the caller
 * checks each one.
 * @param name The name of the binding.
 * @returns The binding; `undefined` if the runtime has no bindings, or not this one.
 */
export function nodeBinding<Binding extends object>(name: "tcp_wrap" | "pipe_wrap"): Partial<Binding> | undefined {
  const { binding } = nodeBuiltin("node:process") as unknown as { binding?: (name: string) => Partial<Binding> };
  try {
    return binding?.(name);
  } catch {
    return undefined;
  }
}

/**
 * Returns the core of this Deno, by `Deno.internal`: its resources and its asynchronous calls.
 *
 * @typeParam Core The members that it is expected to have. A later Deno may not have them, so the caller must check.
 * @returns `undefined` if this Deno has no core.
 */
export function denoCore<Core extends object>(): Partial<Core> | undefined {
  return Reflect.get(Deno, Reflect.get(Deno, "internal") ?? "")?.core;
}

/** The members of Deno's core that are used for a call on a pool thread. */
interface CallReferences {
  refOpPromise(call: Promise<unknown>): void;
  unrefOpPromise(call: Promise<unknown>): void;
}

/**
 * Sets whether a pending foreign call on a pool thread keeps the process running. If this Deno has no way to set it, it
 * does.
 *
 * @param call The promise that the call returned, not one derived from it.
 * @param referenced Whether it keeps the process running.
 */
export function referenceCall(call: Promise<unknown>, referenced: boolean): void {
  const core = denoCore<CallReferences>();
  if (referenced) core?.refOpPromise?.(call);
  else core?.unrefOpPromise?.(call);
}

/** The longest duration of a timer in milliseconds: 24 days. */
const MAX_DURATION = 2 ** 31 - 1;

/**
 * Checks a duration.
 *
 * @param name The name of the option, for the error.
 * @param value The duration in milliseconds.
 * @param least The shortest duration that is allowed, in milliseconds. Defaults to `0`.
 * @returns The duration.
 * @throws {RangeError} If the value is not a number, is below `least`, or exceeds the longest duration of a timer.
 */
export function validateDuration(name: string, value: number, least = 0): number {
  if (value >= least && value <= MAX_DURATION) return value;
  throw new RangeError(`Invalid \`${name}\`: must be from ${least} to ${MAX_DURATION} ms, got ${value}`);
}

/**
 * Waits until a promise settles or a time limit passes. Rejects if the promise rejects.
 *
 * @param promise The promise to wait for.
 * @param milliseconds The time limit: a value that {@linkcode validateDuration} accepts.
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

/**
 * A promise that says when the program begins to wait for it, by `await`, `then` or what is made of them: what is to come is
 * then to keep the process running, and otherwise not. That it rejects is not an unhandled rejection.
 */
export class WatchedPromise<T> extends Promise<T> {
  #begin: (() => void) | undefined;

  /**
   * @param promise What it settles as.
   * @param begin Called once, when the program waits for the first time.
   */
  constructor(promise: Promise<T>, begin: () => void) {
    super((resolve, reject) => promise.then(resolve, reject));
    super.then(undefined, () => {});
    this.#begin = begin;
  }

  /** What is made of it is an ordinary promise. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  override then<Kept = T, Instead = never>(
    onFulfilled?: ((value: T) => Kept | PromiseLike<Kept>) | null,
    onRejected?: ((reason: unknown) => Instead | PromiseLike<Instead>) | null,
  ): Promise<Kept | Instead> {
    const begin = this.#begin;
    this.#begin = undefined;
    begin?.();
    return super.then(onFulfilled, onRejected);
  }
}

/** Waits for the next turn of the event loop. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => nodeBuiltin("node:timers").setImmediate(resolve));
}

/** Counts the work done in one turn of the event loop, so that the caller can yield when it has done enough. */
export class YieldBudget {
  #done = 0;

  /** @param most The amount of work allowed in one turn. */
  constructor(readonly most: number) {}

  /** The amount of work done in this turn. */
  get spent(): number {
    return this.#done;
  }

  /** Whether the caller should yield to the event loop now. */
  get exhausted(): boolean {
    return this.#done >= this.most;
  }

  /** Counts work that was done. */
  spend(amount: number = 1): void {
    this.#done += amount;
  }

  /** Starts a new count: the caller is about to wait, so a new turn begins anyway. */
  reset(): void {
    this.#done = 0;
  }

  /** Waits for the next turn of the event loop and starts a new count. */
  yield(): Promise<void> {
    this.#done = 0;
    return nextTurn();
  }
}
