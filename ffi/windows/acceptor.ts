/**
 * Accepts connections on Windows: a blocking `accept` on a pool thread.
 *
 * If two processes accept on the same listener, even a non-blocking `accept` can block in the process that loses. The
 * JavaScript thread therefore calls it only on a listener that this process has never shared, and only while a
 * connection is waiting. It then accepts all waiting connections; a pool thread accepts one at a time.
 *
 * @module
 */
import { type Acceptor, INVALID_SOCKET, type SocketCalls } from "../platform.ts";
import { WinsockError } from "../winsock_error.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { clearInheritFlag, kernel32, ws2_32 } from "./libraries.ts";
import { pollReadable } from "./io.ts";
import { referenceCall, YieldBudget } from "../../internal/runtime.ts";

/**
 * The number of failed accepts after which there is a pause, and its length in milliseconds. Clients that reset their
 * connections should not keep others waiting, and an error that stays should not keep a thread busy.
 */
const FAILURES_AT_ONCE = 16;
const PAUSE_MS = 20;
/** The interval for trying to wake a thread, which may not have reached `accept` yet. */
const CANCEL_INTERVAL_MS = 1;

/** The acceptors whose thread is in `accept`, or about to be. */
const waiting = new Set<ThreadAcceptor>();
/**
 * Set while no thread may call `accept`: the number of holders, and a promise that resolves when the last one is
 * disposed.
 */
let held: { count: number; readonly released: PromiseWithResolvers<void> } | undefined;

/**
 * Makes all threads of this isolate leave `accept`, and keeps them from calling it again. A child process can inherit
 * the result of `accept` until the JavaScript thread has changed its flag; a child spawned in between would keep the
 * connection open.
 */
export async function holdAccepting(): Promise<Disposable> {
  const hold = held ??= { count: 0, released: Promise.withResolvers() };
  hold.count++;
  await Promise.all([...waiting].map((acceptor) => acceptor.interrupt()));
  return {
    [Symbol.dispose]() {
      if (--hold.count > 0) return;
      held = undefined;
      hold.released.resolve();
    },
  };
}

/** Whether a result of `accept` is a socket. Under load, Wine now and then returns 0, which is not a handle. */
function isSocket(s: bigint): boolean {
  return s !== INVALID_SOCKET && s !== 0n;
}

/** The most connections accepted in one turn of the event loop. */
const MAX_IN_TURN = 16;

/** Accepts on a pool thread. */
export class ThreadAcceptor implements Acceptor {
  readonly #turns = new YieldBudget(MAX_IN_TURN);
  #pending: Promise<bigint> | undefined;
  #stopped = false;
  /** Settles when no thread uses the handle any more. */
  #stopping: Promise<void> | undefined;
  /** Whether the handle is about to be closed. Another socket may soon have its number. */
  #ended = false;
  #referenced = true;

  constructor(
    readonly calls: SocketCalls,
    readonly listener: bigint,
    readonly isSole: () => boolean,
  ) {}

  async accept(): Promise<bigint | undefined> {
    // Yield, so that the caller can use the connections it has accepted.
    if (this.#turns.exhausted) await this.#turns.yield();
    const waiting = this.#acceptWaiting();
    if (waiting !== undefined) return waiting;
    this.#turns.reset();
    return await this.#acceptNext();
  }

  async acceptWhile(wanted: () => boolean, accepted: (s: bigint) => void): Promise<boolean> {
    while (!this.#stopped && wanted()) {
      const s = await this.accept();
      if (s !== undefined) accepted(s);
    }
    return !this.#stopped;
  }

  /** Accepts a waiting connection on this thread, if that cannot block it. */
  #acceptWaiting(): bigint | undefined {
    if (this.#stopped || held !== undefined || !this.isSole() || pollReadable(this.listener) !== 1) return undefined;
    const s = ws2_32().acceptNow(this.listener, null, null);
    if (!isSocket(s)) return undefined;
    this.#turns.spend();
    return this.#keep(s);
  }

  async #acceptNext(): Promise<bigint | undefined> {
    for (let failures = 0; !this.#stopped;) {
      if (held !== undefined) {
        await held.released.promise;
        continue;
      }
      this.#pending = ws2_32().accept(this.listener, null, null);
      if (!this.#referenced) referenceCall(this.#pending, false);
      waiting.add(this);
      const s = await this.#pending;
      waiting.delete(this);
      this.#pending = undefined;
      if (isSocket(s)) return this.#keep(s);
      if (this.#stopped) break;
      if (held !== undefined) continue;
      this.#checkFailure();
      if (++failures % FAILURES_AT_ONCE === 0) await this.#pause();
    }
    return undefined;
  }

  stop(): Promise<void> {
    this.#stopped = true;
    return this.#stopping ??= this.interrupt();
  }

  /** Makes the thread leave `accept`. */
  async interrupt(): Promise<void> {
    while (this.#pending !== undefined && !this.#ended && !this.#cancelled()) {
      await new Promise((resolve) => setTimeout(resolve, CANCEL_INTERVAL_MS));
    }
    await this.#pending;
  }

  end(): Promise<void> | undefined {
    this.#stopped = true;
    // A thread that has not reached accept yet would find the handle closed, or used by another socket. Wait for it.
    if (this.#pending !== undefined && !this.#cancelled()) return this.stop();
    this.#ended = true;
    return undefined;
  }

  /** The thread stays in `accept`, and ends with the process. */
  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    if (this.#pending !== undefined) referenceCall(this.#pending, referenced);
  }

  #cancelled(): boolean {
    return kernel32().CancelIoEx(this.listener, 0n) !== 0;
  }

  #keep(s: bigint): bigint {
    try {
      clearInheritFlag(s);
      return s;
    } catch (error) {
      this.calls.close(s);
      throw error;
    }
  }

  /**
   * Throws if an accept failed because of the listener, or because the system has no room. The code stayed with the pool
   * thread, so this asks the listener, and then for a socket of the same kind. Without an error, the accept failed
   * because of the connection: its client had reset it.
   */
  #checkFailure(): void {
    const operation = `accept a connection on socket ${this.listener}`;
    if (!this.calls.isListening(this.listener, operation)) {
      throw new WinsockError(WSA_ERRORS.WSAEINVAL, { operation, functionName: "accept", detail: "it does not listen" });
    }
    const { hostname } = this.calls.localAddress(this.listener) as Deno.NetAddr;
    this.calls.close(this.calls.open(hostname));
  }

  async #pause(): Promise<void> {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, PAUSE_MS);
      if (!this.#referenced) Deno.unrefTimer(timer);
    });
  }
}
