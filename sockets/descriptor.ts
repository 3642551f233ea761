/**
 * Ownership of a descriptor: exactly one object has it, until it closes it or gives it up.
 *
 * @module
 */
import { INVALID_SOCKET } from "../ffi/socket_calls.ts";
import { defaultProvider } from "../spi/default_provider.ts";

const owned = new Map<bigint, Descriptor>();

/**
 * Whether an object of this process has the descriptor. On Windows proper a number the system has just handed out is
 * always new; Wine hands out the same one for a blob that is opened twice.
 */
export function isOwned(handle: bigint): boolean {
  return owned.has(handle);
}

/**
 * Calls back once, when a descriptor is closed or given up; one that became a stream, when that is closed.
 *
 * @param owner What has it; if it has not any more, the callback comes at once.
 */
export function whenReleased(owner: { readonly handle: bigint }, callback: () => void): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor === undefined) callback();
  else descriptor.released = callback;
}

/** A descriptor and the right to close it. */
export class Descriptor {
  #handle: bigint;
  /** What waits for the descriptor to be closed or given up. */
  released: (() => void) | undefined;

  private constructor(handle: bigint) {
    this.#handle = handle;
    owned.set(handle, this);
  }

  /** Owns a descriptor the system has just made. */
  static own(handle: bigint): Descriptor {
    return new Descriptor(handle);
  }

  /**
   * Owns a descriptor somebody names.
   *
   * @throws {TypeError} If it already belongs to another object of this process.
   */
  static adopt(handle: bigint): Descriptor {
    if (owned.has(handle)) throw new TypeError(`Socket ${handle} already has an owner in this process`);
    return new Descriptor(handle);
  }

  /** The handle; INVALID_SOCKET once it was closed or given up, so that the system itself refuses calls with it. */
  get handle(): bigint {
    return this.#handle;
  }

  get open(): boolean {
    return this.#handle !== INVALID_SOCKET;
  }

  /** Gives up ownership without closing. */
  release(): bigint {
    const handle = this.#handle;
    this.#handle = INVALID_SOCKET;
    owned.delete(handle);
    const { released } = this;
    this.released = undefined;
    released?.();
    return handle;
  }

  /**
   * Gives up ownership to what goes on using it in this process.
   *
   * @returns To be called when that has closed it.
   */
  handOver(): () => void {
    const { released } = this;
    this.released = undefined;
    this.release();
    return released ?? (() => {});
  }

  /** Closes the descriptor; once it is gone, does nothing. */
  close(): void {
    if (this.open) defaultProvider().closeSocket(this.release());
  }
}
