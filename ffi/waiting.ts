/**
 * One who waits for a socket.
 *
 * @module
 */
import type { WinsockError } from "./winsock_error.ts";

/** What a socket is waited for. */
export type Readiness = "read" | "write";

/** Waits until a socket can be read, or written; or has failed, which reading or writing tells. */
export class Waiting {
  readonly s: bigint;
  readonly readiness: Readiness;
  /** Whether this keeps the process running. */
  referenced: boolean;
  /** Resolves when the wait is over; rejects if it cannot go on. */
  readonly over: Promise<void>;
  readonly #over = Promise.withResolvers<void>();

  constructor(s: bigint, readiness: Readiness, referenced: boolean) {
    this.s = s;
    this.readiness = readiness;
    this.referenced = referenced;
    this.over = this.#over.promise;
  }

  /** Ends the wait. */
  end(): void {
    this.#over.resolve();
  }

  /** Ends the wait, which cannot go on. */
  fail(error: WinsockError): void {
    this.#over.reject(error);
  }
}

/** What sockets can be waited with. */
export interface Waits {
  /**
   * Begins to wait. One at a time for each socket and readiness.
   *
   * @param referenced Whether this keeps the process running.
   */
  wait(s: bigint, readiness: Readiness, referenced?: boolean): Waiting;
  /** Ends a wait. Resolves when nothing looks at the socket for it any more. */
  cancel(waiting: Waiting): Promise<void>;
}
