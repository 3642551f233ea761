/**
 * Descriptors that a source has sent ahead of their claim.
 *
 * @module
 */
import { libc } from "../../ffi/unix/libc.ts";
import { noRoom } from "./claim_error.ts";

interface EarlyDescriptor {
  /** None if this process had no room for it. */
  readonly descriptor: bigint | undefined;
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

  /** @param descriptor The caller's no longer; `undefined` if the system dropped it, for there was no room. */
  add(rendezvous: string, number: number, descriptor: bigint | undefined): void {
    this.discard(rendezvous, number);
    this.#descriptors.set(key(rendezvous, number), { descriptor, since: performance.now() });
    this.#sweep ??= this.#sweepLater();
  }

  /**
   * The descriptor, the caller's from now on; `undefined` if it has not come.
   *
   * @throws {WinsockError} WSAEMFILE if it came when there was no room for it.
   */
  take(rendezvous: string, number: number): bigint | undefined {
    const early = this.#remove(rendezvous, number);
    if (early !== undefined && early.descriptor === undefined) throw noRoom();
    return early?.descriptor;
  }

  /** Whether anything from a rendezvous waits to be claimed. */
  has(rendezvous: string): boolean {
    return this.#descriptors.keys().some((name) => name.endsWith(key(rendezvous, "")));
  }

  discard(rendezvous: string, number: number): void {
    close(this.#remove(rendezvous, number));
  }

  /** Closes all that came from a rendezvous that is gone. */
  discardAll(rendezvous: string): void {
    for (const [name, early] of this.#descriptors) {
      if (!name.endsWith(key(rendezvous, ""))) continue;
      this.#descriptors.delete(name);
      close(early);
    }
  }

  #remove(rendezvous: string, number: number): EarlyDescriptor | undefined {
    const name = key(rendezvous, number);
    const early = this.#descriptors.get(name);
    this.#descriptors.delete(name);
    return early;
  }

  #sweepLater(): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => {
      const oldest = performance.now() - this.#timeToLive;
      for (const [name, early] of this.#descriptors) {
        if (early.since > oldest) break;
        this.#descriptors.delete(name);
        close(early);
      }
      this.#sweep = this.#descriptors.size > 0 ? this.#sweepLater() : undefined;
    }, this.#timeToLive);
    Deno.unrefTimer(timer);
    return timer;
  }
}

function close(early: EarlyDescriptor | undefined): void {
  if (early?.descriptor !== undefined) libc().close(early.descriptor);
}

function key(rendezvous: string, number: number | ""): string {
  return `${number}@${rendezvous}`;
}
