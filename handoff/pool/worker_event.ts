/**
 * What a pool tells about its workers.
 *
 * @module
 */
import type { WorkerInfo } from "./options.ts";

/** What happens to a pool's workers. */
export type WorkerEventType = "workerstart" | "workerready" | "workerend" | "workergiveup";

/** Something happened to a worker of a {@linkcode WorkerPool}. */
export class WorkerEvent extends Event {
  /** What happened. */
  declare readonly type: WorkerEventType;
  /** The worker. */
  readonly worker: WorkerInfo;
  /** Why it ended; empty for other events. */
  readonly reason: string;

  /**
   * Makes the event.
   *
   * @param type What happened.
   * @param worker To which worker.
   * @param reason Why.
   */
  constructor(type: WorkerEventType, worker: WorkerInfo, reason = "") {
    super(type);
    this.worker = worker;
    this.reason = reason;
  }
}
