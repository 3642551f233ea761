/**
 * A listener on which all workers of a pool accept by themselves. Loaded when the first one is.
 *
 * @module
 */
import type { SocketAddr } from "../../ffi/socket_address.ts";
import { type CoAcceptor, follow, type Listener } from "../../sockets/listener.ts";
import type { SharedListener } from "../shared_listener.ts";
import type { WorkerSlot } from "./worker_slot.ts";

/** How the workers accept. */
export interface SharedAcceptingOptions {
  /** What goes along with each connection. */
  readonly data: unknown;
  /** How many sockets a worker may have and still accept. */
  readonly limit: number;
  /** How long a worker may take to answer, in milliseconds. */
  readonly timeout: number;
}

/** Has the workers of a pool accept on a listener while that accepts. */
export class SharedAccepting implements CoAcceptor {
  /** Resolves when the listener was closed or released. */
  readonly ended: Promise<void>;
  readonly #ended = Promise.withResolvers<void>();
  readonly #listener: Listener<SocketAddr>;
  readonly #places: readonly WorkerSlot[];
  readonly #options: SharedAcceptingOptions;
  /** What each worker process has of the listener, by process id. */
  readonly #shares = new Map<number, Promise<SharedListener | undefined>>();
  readonly #following: Disposable;
  readonly #watch: ReturnType<typeof setInterval>;
  #accepting = false;
  #over = false;

  /**
   * @param listener The listener, which stays open here.
   * @param places The places of the pool.
   * @param options How.
   */
  constructor(listener: Listener<SocketAddr>, places: readonly WorkerSlot[], options: SharedAcceptingOptions) {
    this.ended = this.#ended.promise;
    this.#listener = listener;
    this.#places = places;
    this.#options = options;
    this.#watch = setInterval(() => this.#look(), options.timeout);
    Deno.unrefTimer(this.#watch);
    this.#following = follow(listener, this);
  }

  /** A worker is ready: it accepts too, if any does. */
  add(place: WorkerSlot): void {
    if (!this.#accepting || this.#shares.has(place.processId)) return;
    const { processId } = place;
    const { data, limit, timeout } = this.#options;
    const sharing = place.share(this.#listener, { data, limit, timeout, endIfSilent: true }).catch(() => undefined);
    this.#shares.set(processId, sharing);
    sharing.then(async (share) => {
      if (share !== undefined && !this.#accepting) await share.pause().catch(() => {});
      await share?.stopped;
      this.#shares.delete(processId);
    });
  }

  async pause(): Promise<void> {
    this.#accepting = false;
    await this.#each((share) => share.pause());
  }

  resume(): void {
    if (this.#over) return;
    this.#accepting = true;
    this.#each((share) => share.resume());
    for (const place of this.#places) if (place.state === "ready") this.add(place);
  }

  closed(): void {
    this.#ended.resolve();
  }

  /** Has no worker accept any more; what they have accepted they serve. */
  async stop(): Promise<void> {
    this.#accepting = false;
    this.#over = true;
    clearInterval(this.#watch);
    this.#following[Symbol.dispose]();
    await this.#each((share) => share.stop());
  }

  /** Asks each worker: one that is stopped could keep a connection that it does not serve. It is ended. */
  #look(): void {
    if (!this.#accepting) return;
    for (const [processId, sharing] of this.#shares) {
      sharing.then((share) => share?.resume()).catch(() => {
        for (const place of this.#places) place.endSilent(processId, this.#options.timeout);
      });
    }
  }

  /** What fails is told by the worker's end. */
  async #each(action: (share: SharedListener) => Promise<void>): Promise<void> {
    const all = [...this.#shares.values()];
    await Promise.allSettled(all.map((sharing) => sharing.then((share) => share && action(share))));
  }
}
