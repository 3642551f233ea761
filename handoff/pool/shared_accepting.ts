/**
 * A listener on which all workers of a pool accept themselves. Loaded when the first such listener is used.
 *
 * @module
 */
import type { SocketAddr } from "../../ffi/socket_address.ts";
import { type CoAcceptor, follow, type Listener } from "../../sockets/listener.ts";
import { HandoffError } from "../errors.ts";
import type { SharedListener } from "../shared_listener.ts";
import type { WorkerSlot } from "./worker_slot.ts";

/** Options of a {@linkcode SharedAccepting}. */
export interface SharedAcceptingOptions {
  /** The data that is sent with each connection. */
  readonly data: unknown;
  /** The number of sockets that a worker may have and still accept. */
  readonly limit: number;
  /** The time that a worker may take to answer, in milliseconds. */
  readonly timeout: number;
}

/** The parts of a {@linkcode WorkerSlot} that {@linkcode SharedAccepting} uses. */
type AcceptingSlot = Pick<WorkerSlot, "processId" | "state" | "share" | "endSilent">;

/** How long to wait before a worker that no longer accepts gets the listener again, in milliseconds. */
const SHARE_AGAIN_MS = 1_000;

/** Lets the workers of a pool accept on a listener. */
export class SharedAccepting implements CoAcceptor {
  /** Resolves when the listener was closed or released. */
  readonly ended: Promise<void>;
  readonly #ended = Promise.withResolvers<void>();
  readonly #listener: Listener<SocketAddr>;
  readonly #slots: readonly AcceptingSlot[];
  readonly #options: SharedAcceptingOptions;
  /** The shared listener in each worker, by process id. */
  readonly #shares = new Map<number, Promise<SharedListener | undefined>>();
  readonly #following: Disposable;
  readonly #watch: ReturnType<typeof setInterval>;
  #again: ReturnType<typeof setTimeout> | undefined;
  #accepting = false;
  #over = false;

  /**
   * @param listener The listener, which stays open in this process.
   * @param slots The slots of the pool.
   * @param options The data, the limit and the timeout.
   */
  constructor(listener: Listener<SocketAddr>, slots: readonly AcceptingSlot[], options: SharedAcceptingOptions) {
    this.ended = this.#ended.promise;
    this.#listener = listener;
    this.#slots = slots;
    this.#options = options;
    this.#watch = setInterval(() => this.#look(), options.timeout);
    Deno.unrefTimer(this.#watch);
    this.#following = follow(listener, this);
  }

  /** Handles a worker that became ready: it accepts too, if the workers accept now. */
  add(slot: AcceptingSlot): void {
    if (!this.#accepting || this.#shares.has(slot.processId)) return;
    const { processId } = slot;
    const { data, limit, timeout } = this.#options;
    const sharing = slot.share(this.#listener, { data, limit, timeout, endIfSilent: true }).catch(() => undefined);
    this.#shares.set(processId, sharing);
    sharing.then(async (share) => {
      if (share !== undefined && !this.#accepting) await share.pause().catch(() => {});
      await share?.stopped;
      this.#shares.delete(processId);
      this.#addLater();
    });
  }

  #addReady(): void {
    for (const slot of this.#slots) if (slot.state === "ready") this.add(slot);
  }

  /**
   * Shares the listener again with workers that go on running. The reason why they do not accept may have been temporary:
   * a worker was busy, or had no descriptor left.
   */
  #addLater(): void {
    if (this.#over || this.#again !== undefined) return;
    this.#again = setTimeout(() => {
      this.#again = undefined;
      this.#addReady();
    }, SHARE_AGAIN_MS);
    Deno.unrefTimer(this.#again);
  }

  async pause(): Promise<void> {
    this.#accepting = false;
    await this.#each((share) => share.pause());
  }

  resume(): void {
    if (this.#over) return;
    this.#accepting = true;
    this.#each((share) => share.resume());
    this.#addReady();
  }

  closed(): void {
    this.#ended.resolve();
  }

  /** Stops accepting in all workers. They serve the connections that they have accepted. */
  async stop(): Promise<void> {
    this.#accepting = false;
    this.#over = true;
    clearInterval(this.#watch);
    clearTimeout(this.#again);
    this.#following[Symbol.dispose]();
    await this.#each((share) => share.stop());
  }

  /**
   * Asks each worker for an answer, and ends a worker that does not answer. A worker that was stopped by a signal or a
   * debugger could keep a connection that it does not serve. A worker that has said that it no longer accepts is not
   * silent.
   */
  #look(): void {
    if (!this.#accepting) return;
    for (const [processId, sharing] of this.#shares) {
      sharing.then((share) => share?.resume()).catch((error) => {
        if (!(error instanceof HandoffError) || error.outcome !== "timeout") return;
        for (const slot of this.#slots) slot.endSilent(processId, this.#options.timeout);
      });
    }
  }

  /**
   * Does something with each shared listener. Failures are ignored here, because the end of the worker reports them.
   */
  async #each(action: (share: SharedListener) => Promise<void>): Promise<void> {
    const all = [...this.#shares.values()];
    await Promise.allSettled(all.map((sharing) => sharing.then((share) => share && action(share))));
  }
}
