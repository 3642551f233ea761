/**
 * One who waits for a socket.
 *
 * @module
 */

/** What a socket is waited for. */
export type Readiness = "read" | "write";

/** How a socket is waited for. */
export interface WaitOptions {
  /**
   * Whether this keeps the process running, which it does by default; without, it takes some milliseconds longer where a
   * pool thread waits.
   */
  readonly referenced?: boolean;
  /**
   * Asked in the turn in which the socket was found ready, and from then on whenever something more comes: whether that
   * was it. What it throws ends the wait. By default the first time is.
   *
   * @param ended Whether the peer has ended its side, so that nothing more comes.
   */
  readonly done?: (ended: boolean) => boolean;
  /** Whether it is left to who waits to end the wait when the socket is given up. Default false. */
  readonly outlives?: boolean;
  /**
   * Whether this socket is soon to be waited for again: the system may go on watching it in between, which saves two calls.
   * That ends with {@linkcode Poller.release}, or {@linkcode Poller.cancel}. Default false.
   */
  readonly repeated?: boolean;
  /** What the wait is for, for the error if the socket is closed or given up meanwhile. */
  readonly operation?: string;
}

/** Waits until a socket can be read, or written; or has failed, which reading or writing tells. */
export class Waiting {
  readonly s: bigint;
  readonly readiness: Readiness;
  readonly operation: string;
  readonly outlives: boolean;
  /** Whether this keeps the process running; the poller's to change. */
  referenced: boolean;
  /** Resolves when the wait is over; rejects if it cannot go on. */
  readonly over: Promise<void>;
  readonly #over = Promise.withResolvers<void>();
  readonly #done: ((ended: boolean) => boolean) | undefined;

  constructor(s: bigint, readiness: Readiness, options: WaitOptions = {}) {
    this.s = s;
    this.readiness = readiness;
    this.operation = options.operation ?? `wait for socket ${s}`;
    this.outlives = options.outlives ?? false;
    this.referenced = options.referenced ?? true;
    this.over = this.#over.promise;
    this.#done = options.done;
  }

  /** Whether what has come is what was waited for. */
  isDone(ended: boolean): boolean {
    return this.#done === undefined || this.#done(ended);
  }

  /** Ends the wait. */
  end(): void {
    this.#over.resolve();
  }

  /** Ends the wait, which cannot go on. */
  fail(error: unknown): void {
    // Who waits may have been told in another way already.
    this.over.catch(() => {});
    this.#over.reject(error);
  }
}
