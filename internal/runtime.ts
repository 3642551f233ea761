/**
 * Access to the JavaScript runtime: Node's built-in modules, loaded at first use; time limits; turns of the event loop;
 * the end of the program.
 *
 * Static imports of `node:` modules would double the time it takes to import this library. A process may import the
 * library long before it has a socket.
 *
 * When a program ends, its files are removed. It can end while its process continues: `deno run --watch` restarts it in
 * the same process, and a Web Worker can be terminated. Deno closes the resources it opened itself, but not descriptors opened through FFI. Before a
 * restart it emits `unload`. A Worker that is terminated, or closes itself, runs no more code; only the system can tell
 * that its thread ends.
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
import type url from "node:url";

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
  "node:url": typeof url;
}

const runtime = globalThis as unknown as {
  process: { getBuiltinModule<Name extends keyof NodeBuiltins>(name: Name): NodeBuiltins[Name] };
};

const builtins: Partial<NodeBuiltins> = {};

/** Returns one of Deno's built-in `node:` modules. */
export function nodeBuiltin<Name extends keyof NodeBuiltins>(name: Name): NodeBuiltins[Name] {
  return (builtins[name] as NodeBuiltins[Name] | undefined) ??
    (builtins[name] = runtime.process.getBuiltinModule(name));
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

/**
 * Waits without keeping the process running.
 *
 * @param milliseconds The duration, at most the longest duration of a timer.
 */
export function unreferenced(milliseconds: number): Promise<void> {
  return new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, milliseconds)));
}

/**
 * Waits until a promise settles or a time limit passes. Rejects if the promise rejects.
 *
 * @param promise The promise to wait for.
 * @param milliseconds The time limit, at most the longest duration of a timer.
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
 * Returns a promise that rejects with the reason of a signal when that is aborted. It does not cause an unhandled
 * rejection.
 */
export function abortion(signal: AbortSignal | undefined): { promise: Promise<never> } & Disposable {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  const abort = () => reject(signal!.reason);
  signal?.addEventListener("abort", abort);
  if (signal?.aborted) abort();
  return { promise, [Symbol.dispose]: () => signal?.removeEventListener("abort", abort) };
}

/** Waits for a promise, or rejects with the reason of a signal when that is aborted first. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  signal?.throwIfAborted();
  using aborted = abortion(signal);
  return await Promise.race([promise, aborted.promise]);
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

/** Closes descriptors when the thread of this Worker ends. */
export interface ThreadEnd {
  /** Registers a descriptor to be closed when the thread ends. */
  add(s: bigint): void;
  /** Unregisters a descriptor. */
  remove(s: bigint): void;
}

/** Whether this program runs in a Web Worker. */
export const inWorker: boolean = "WorkerGlobalScope" in globalThis;

/** Descriptors below this number are indexes of an array. A system gives out the smallest numbers that are free. */
const MAX_INDEXED = 2 ** 20;

/**
 * A map whose keys are descriptors.
 *
 * A `Map` that changes all the time leaves a copy of itself behind whenever it has no room left. In V8, that copy keeps what
 * was in the map from being collected with the other short-lived objects. For a server, that is each of its connections and
 * all that belongs to it. Only what a provider makes with numbers of its own is in a `Map`.
 */
export class DescriptorMap<Value> {
  readonly #values: (Value | undefined)[] = [];
  readonly #others = new Map<bigint, Value>();

  /** Returns the value of a descriptor; `undefined` if it has none. */
  get(s: bigint): Value | undefined {
    return s < MAX_INDEXED ? this.#values[Number(s)] : this.#others.get(s);
  }

  /** Sets the value of a descriptor. */
  set(s: bigint, value: Value): void {
    if (s < MAX_INDEXED) this.#values[Number(s)] = value;
    else this.#others.set(s, value);
  }

  /** Removes the value of a descriptor. */
  delete(s: bigint): void {
    if (s >= MAX_INDEXED) this.#others.delete(s);
    else if (this.get(s) !== undefined) this.#values[Number(s)] = undefined;
  }

  /** Returns the descriptors that have a value, and the values. */
  entries(): [s: bigint, value: Value][] {
    const entries: [bigint, Value][] = [...this.#others];
    this.#values.forEach((value, s) => value !== undefined && entries.push([BigInt(s), value]));
    return entries;
  }
}

/** What must end with the program. It ends in the order in which it was registered. */
interface Registered {
  readonly end: () => void;
  readonly order: number;
}

const openDescriptors = new DescriptorMap<Registered>();
const openObjects = new Map<object, Registered>();
let registrations = 0;
let threadEnd: ThreadEnd | undefined;
let listening = false;

/**
 * Registers a descriptor to be closed when the program ends.
 *
 * @param s The descriptor. This replaces an earlier registration of the same number.
 * @param close Closes the descriptor.
 * @returns A function that cancels the registration. Call it before the descriptor is closed or released.
 */
export function closeAtEnd(s: bigint, close: () => void): () => void {
  const registered = register(close);
  openDescriptors.set(s, registered);
  threadEnd?.add(s);
  return () => {
    if (openDescriptors.get(s) !== registered) return;
    openDescriptors.delete(s);
    threadEnd?.remove(s);
  };
}

/**
 * Registers a callback for a restart of the program. It is not called when a Worker is terminated.
 *
 * @param key The object that the callback ends.
 * @param end The callback.
 * @returns A function that cancels the registration.
 */
export function callAtUnload(key: object, end: () => void): () => void {
  openObjects.set(key, register(end));
  return () => void openObjects.delete(key);
}

function register(end: () => void): Registered {
  if (!listening) addEventListener("unload", closeAll);
  listening = true;
  return { end, order: registrations++ };
}

/**
 * Also closes the registered descriptors when this thread ends.
 *
 * @param chosen The implementation that detects the end of the thread.
 */
export function useThreadEnd(chosen: ThreadEnd): void {
  threadEnd = chosen;
  for (const [s] of openDescriptors.entries()) chosen.add(s);
}

function closeAll(): void {
  const all = [...openObjects, ...openDescriptors.entries()].sort(([, a], [, b]) => a.order - b.order);
  for (const [key, { end }] of all) {
    if (typeof key === "bigint") {
      openDescriptors.delete(key);
      threadEnd?.remove(key);
    } else openObjects.delete(key);
    try {
      end();
    } catch {
      // Another part of the program closed the descriptor. Continue with the remaining ones.
    }
  }
}

/**
 * A file that belongs to one process at a time, such as a control file or a PID file. It is removed when its process
 * ends, unless another process has replaced it.
 */
export class OwnedFile {
  readonly #path: string;
  readonly #content: string;
  readonly #mode: number;
  readonly #unload = () => this.#removeOwn();
  #removed = false;

  /**
   * Writes the file.
   *
   * @param path The path of the file.
   * @param content The content, which no other process writes.
   * @param mode The permissions of the file.
   */
  constructor(path: string, content: string, mode: number) {
    this.#path = path;
    this.#content = content;
    this.#mode = mode;
    this.#write();
    addEventListener("unload", this.#unload);
  }

  /** Writes the file again, after another process may have written its own. Does nothing after it was removed. */
  reclaim(): void {
    if (!this.#removed) this.#write();
  }

  /** Removes the file, if it still is the one of this process. */
  remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    removeEventListener("unload", this.#unload);
    this.#removeOwn();
  }

  /** Without the permission to read the file, it stays: it may be another process's by now. */
  #removeOwn(): void {
    const path = this.#path;
    if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return;
    try {
      if (Deno.readTextFileSync(path) === this.#content) Deno.removeSync(path);
    } catch {
      // The file does not exist any more.
    }
  }

  /** The file of another process is removed first, so that owner and mode are those of this process. */
  #write(): void {
    try {
      Deno.removeSync(this.#path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    Deno.writeTextFileSync(this.#path, this.#content, { mode: this.#mode, createNew: true });
  }
}
