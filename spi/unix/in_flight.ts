/**
 * Descriptors on their way to one target, where the kernel may shut a socket down while only a message holds it: the
 * source keeps a copy until it hears that they have come.
 *
 * @module
 */
import { duplicateFrom } from "../../ffi/unix/descriptor_flags.ts";
import { libc } from "../../ffi/unix/libc.ts";
import { unixSystem } from "../../ffi/unix/system.ts";

/** The copies kept for one target; none where they are not needed. */
export class InFlightCopies {
  readonly #copies = new Map<number, bigint>();

  /** Takes over a descriptor that was sent. */
  take(number: number, descriptor: bigint): void {
    if (unixSystem().sweepsMessages) this.#copies.set(number, descriptor);
    else libc().close(descriptor);
  }

  /** What to send of a descriptor that its owner may close at any time. */
  copyOf(descriptor: bigint, operation: string): bigint {
    return unixSystem().sweepsMessages ? duplicateFrom(descriptor, 0, operation) : descriptor;
  }

  /** What became of such a copy. */
  settle(number: number, copy: bigint, sent: boolean): void {
    if (!unixSystem().sweepsMessages) return;
    if (sent) this.#copies.set(number, copy);
    else libc().close(copy);
  }

  /** It has come. */
  release(number: number): void {
    const copy = this.#copies.get(number);
    if (copy !== undefined) libc().close(copy);
    this.#copies.delete(number);
  }

  /** The target is gone. */
  releaseAll(): void {
    for (const number of [...this.#copies.keys()]) this.release(number);
  }
}
