/**
 * The JavaScript runtime: Node's built-in modules, loaded when first used; durations and time limits; turns of the event
 * loop.
 *
 * Imported, the `node:` modules would double the time it takes to import this library, and a process may import it long
 * before it has a socket.
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

/** A module of Deno's, by its name. */
export function nodeBuiltin<Name extends keyof NodeBuiltins>(name: Name): NodeBuiltins[Name] {
  return runtime.process.getBuiltinModule(name);
}

/**
 * What Node keeps to itself, and Deno has too: no other module of the library asks for a binding.
 *
 * @typeParam Binding What is hoped to be in it: a later Deno may have another shape, so that the caller looks first.
 * @param name The binding's name.
 * @returns The binding; `undefined` if there are no bindings, or not this one.
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
 * The core of this Deno, by `Deno.internal`: its resources and its calls that take time.
 *
 * @typeParam Core What is hoped to be in it: a later Deno may have another shape, so that the caller looks first.
 * @returns `undefined` if there is nothing of that kind.
 */
export function denoCore<Core extends object>(): Partial<Core> | undefined {
  return Reflect.get(Deno, Reflect.get(Deno, "internal") ?? "")?.core;
}

/** What is used of Deno's core for a call on a pool thread. */
interface CallReferences {
  refOpPromise(call: Promise<unknown>): void;
  unrefOpPromise(call: Promise<unknown>): void;
}

/**
 * Sets whether a pending foreign call on a pool thread keeps the process running; where this Deno cannot be told, it does.
 *
 * @param call What the call returned, and not a promise made of it.
 * @param referenced Whether it does.
 */
export function referenceCall(call: Promise<unknown>, referenced: boolean): void {
  const core = denoCore<CallReferences>();
  if (referenced) core?.refOpPromise?.(call);
  else core?.unrefOpPromise?.(call);
}

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
  throw new RangeError(`Invalid \`${name}\`: must be from ${least} to ${MAX_DURATION} ms, got ${value}`);
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

/** Counts what is done in one turn of the event loop. */
export class YieldBudget {
  #done = 0;

  /** @param most How much may be done in one turn. */
  constructor(readonly most: number) {}

  /** How much was done in this turn. */
  get spent(): number {
    return this.#done;
  }

  /** Whether others are to have a turn now. */
  get exhausted(): boolean {
    return this.#done >= this.most;
  }

  /** Counts something that was done. */
  spend(amount: number = 1): void {
    this.#done += amount;
  }

  /** A new turn begins by itself, for there is nothing to do. */
  reset(): void {
    this.#done = 0;
  }

  /** Waits for the next turn. */
  yield(): Promise<void> {
    this.#done = 0;
    return nextTurn();
  }
}
