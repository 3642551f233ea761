/**
 * Descriptors that a source has sent ahead of their claim.
 *
 * @module
 */
import { libc } from "../../ffi/unix/libc.ts";

interface EarlyDescriptor {
  readonly descriptor: bigint;
  readonly since: number;
}

/** Keeps what came early until it is claimed, withdrawn, or too old. */
export class EarlyDescriptors {
  readonly #timeToLive: number;
  /** Oldest first. */
  readonly #descriptors = new Map<string, EarlyDescriptor>();
  #sweep: ReturnType<typeof setTimeout> | undefined;

  /** @param timeToLive How long a descriptor is kept, in milliseconds; some live up to twice as long. */
  constructor(timeToLive: number) {
    this.#timeToLive = timeToLive;
  }

  add(rendezvous: string, number: number, descriptor: bigint): void {
    this.discard(rendezvous, number);
    this.#descriptors.set(key(rendezvous, number), { descriptor, since: performance.now() });
    this.#sweep ??= this.#sweepLater();
  }

  /** The descriptor, the caller's from now on; `undefined` if it has not come. */
  take(rendezvous: string, number: number): bigint | undefined {
    const name = key(rendezvous, number);
    const early = this.#descriptors.get(name);
    this.#descriptors.delete(name);
    return early?.descriptor;
  }

  /** Whether anything from a rendezvous waits to be claimed. */
  has(rendezvous: string): boolean {
    return this.#descriptors.keys().some((name) => name.endsWith(key(rendezvous, "")));
  }

  discard(rendezvous: string, number: number): void {
    const descriptor = this.take(rendezvous, number);
    if (descriptor !== undefined) libc().close(descriptor);
  }

  /** Closes all that came from a rendezvous that is gone. */
  discardAll(rendezvous: string): void {
    for (const [name, { descriptor }] of this.#descriptors) {
      if (!name.endsWith(key(rendezvous, ""))) continue;
      this.#descriptors.delete(name);
      libc().close(descriptor);
    }
  }

  #sweepLater(): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => {
      const oldest = performance.now() - this.#timeToLive;
      for (const [name, { descriptor, since }] of this.#descriptors) {
        if (since > oldest) break;
        this.#descriptors.delete(name);
        libc().close(descriptor);
      }
      this.#sweep = this.#descriptors.size > 0 ? this.#sweepLater() : undefined;
    }, this.#timeToLive);
    Deno.unrefTimer(timer);
    return timer;
  }
}

function key(rendezvous: string, number: number | ""): string {
  return `${number}@${rendezvous}`;
}
