/**
 * Ownership of a descriptor: exactly one object has it, until it closes it or gives it up.
 *
 * @module
 */
import { INVALID_SOCKET, type SocketMaker } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { closeAtEnd } from "../internal/unload.ts";
import { hasWinsockCode, toClosedError, toDenoError, toInterruptedError } from "../ffi/winsock_error.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { WSA_ERRORS } from "../structs/constants.ts";

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
export function onRelease(owner: { readonly handle: bigint }, callback: () => void): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor === undefined) callback();
  else descriptor.released = callback;
}

/**
 * Notes that another process was given, or may have been given, a descriptor of a connection that has one owner at a time.
 * Closing it by `Socket.close`, or closing what was made of it, shuts the connection down first, so that the peer's end
 * does not wait for the other copy.
 *
 * @param owner What has the descriptor; if it has not any more, nothing is noted.
 */
export function markShared(owner: { readonly handle: bigint }): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor !== undefined) descriptor.shared = true;
}

/**
 * Notes that somebody else may use a descriptor of the same connection beside this one, so that closing this one must end
 * nothing.
 *
 * @param owner What has the descriptor; if it has not any more, nothing is noted.
 */
export function markDuplicated(owner: { readonly handle: bigint }): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor !== undefined) descriptor.sole = false;
}

/**
 * Whether closing a descriptor may end the connection, since nothing else is to use that.
 *
 * @param owner What has the descriptor.
 */
export function isExclusive(owner: { readonly handle: bigint }): boolean {
  return owned.get(owner.handle)?.exclusive === true;
}

/**
 * Closes the descriptor of a `Socket` whose connection another process owns now: the connection goes on.
 *
 * @param owner What has the descriptor; if it has not any more, nothing is closed.
 */
export function closeCopy(owner: { readonly handle: bigint }): void {
  owned.get(owner.handle)?.close();
}

/**
 * The same, for a connection whose options the other process may have set: closing it can block, and a pool thread does.
 *
 * @param owner What has the descriptor; if it has not any more, nothing is closed.
 */
export function closeCopyElsewhere(owner: { readonly handle: bigint }): void {
  owned.get(owner.handle)?.closeElsewhere(false);
}

/**
 * Notes that a process that is not trusted may have a descriptor of the connection: calls with this one can block, and
 * closing it is left to a pool thread.
 *
 * @param owner What has the descriptor; if it has not any more, nothing is noted.
 */
export function markSuspect(owner: { readonly handle: bigint }): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor !== undefined) descriptor.suspect = true;
}

/** The system, past whatever provider is in force: it has made what was not opened from a blob. */
export const SYSTEM: SocketMaker = { closeSocket: (s) => systemCalls().close(s) };

/** A descriptor and the right to close it. */
export class Descriptor {
  #handle: bigint;
  /** What closes the descriptor. */
  readonly maker: SocketMaker;
  /** Whether the connection was handed to another process, which may have a copy but does not use it. */
  shared = false;
  /** Whether that other process is not trusted. */
  suspect = false;
  /** Whether it is the only one of its socket that is used, as far as this process knows. */
  sole: boolean;
  readonly #leaveOpen: () => void;
  /** What waits for the descriptor to be closed or given up. */
  released: (() => void) | undefined;
  /** The file of a local socket, which is removed by the process that closes the last descriptor. */
  path: string | undefined;
  #closing: Promise<void> | undefined;

  private constructor(handle: bigint, maker: SocketMaker, sole: boolean) {
    this.#handle = handle;
    this.maker = maker;
    this.sole = sole;
    owned.set(handle, this);
    this.#leaveOpen = closeAtEnd(handle, () => this.#closeNow());
  }

  /**
   * Owns a descriptor that was just made.
   *
   * @param maker What has made it. Default: the system.
   */
  static own(handle: bigint, maker: SocketMaker = SYSTEM): Descriptor {
    return new Descriptor(handle, maker, true);
  }

  /**
   * Owns a descriptor somebody names.
   *
   * @throws {TypeError} If it already belongs to another object of this process.
   */
  static adopt(handle: bigint): Descriptor {
    if (owned.has(handle)) throw new TypeError(`Socket ${handle} already has an owner in this process`);
    return new Descriptor(handle, unknownMaker(), false);
  }

  /** The handle; INVALID_SOCKET once it was closed or given up, so that the system itself refuses calls with it. */
  get handle(): bigint {
    return this.#closing === undefined ? this.#handle : INVALID_SOCKET;
  }

  get open(): boolean {
    return this.handle !== INVALID_SOCKET;
  }

  /** Resolves when a descriptor that could not be closed at once is; `undefined` if nothing is left to be done. */
  get closing(): Promise<void> | undefined {
    return this.#closing;
  }

  /**
   * Calls the system with the handle.
   *
   * @throws {Deno.errors.BadResource} If it was closed or given up.
   * @throws {Error} What the system refuses, in Deno's classes.
   */
  use<Result>(call: (handle: bigint) => Result): Result {
    const { open } = this;
    try {
      return call(this.handle);
    } catch (error) {
      throw open ? toDenoError(error) : toClosedError(error);
    }
  }

  /**
   * The same for a call that waits.
   *
   * @param open Whether it was open when the wait began. Defaults to whether it is now.
   * @throws {Deno.errors.BadResource} If it was closed or given up.
   * @throws {Deno.errors.Interrupted} If it was closed or given up meanwhile.
   * @throws {Error} What the system refuses, in Deno's classes.
   */
  async wait<Result>(call: (handle: bigint) => Promise<Result>, open: boolean = this.open): Promise<Result> {
    try {
      return await call(this.handle);
    } catch (error) {
      if (!open) throw toClosedError(error);
      throw this.open ? toDenoError(error) : toInterruptedError(error);
    }
  }

  /** Whether closing it may end the connection, since nobody else is to use that. */
  get exclusive(): boolean {
    return this.sole || this.shared;
  }

  /** Gives up ownership without closing. */
  release(): bigint {
    const { handle } = this;
    if (!this.open) return handle;
    systemCalls().endWaits(handle);
    this.#forget();
    return handle;
  }

  #forget(): void {
    owned.delete(this.#handle);
    this.#handle = INVALID_SOCKET;
    this.#leaveOpen();
    const { released } = this;
    this.released = undefined;
    released?.();
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

  /**
   * Has the descriptor's maker close it; once it is gone, does nothing. What waits for it ends.
   *
   * @param ready When it can be closed, if not now. If it then cannot be, it is this object's again.
   * @throws {WinsockError} If it cannot be closed. It stays this object's, unless there is no such socket.
   */
  close(ready?: Promise<void>): void {
    if (!this.open) return;
    systemCalls().endWaits(this.#handle);
    if (ready === undefined) this.#closeNow();
    else this.#closing = this.#closeLater(ready);
  }

  async #closeLater(ready: Promise<void>): Promise<void> {
    await ready.catch(() => {});
    this.#closing = undefined;
    try {
      this.#closeNow();
    } catch {
      // Closing it again tells why.
    }
  }

  #closeNow(): void {
    const handle = this.#handle;
    if (handle === INVALID_SOCKET) return;
    systemCalls().endWaits(handle);
    try {
      this.maker.closeSocket(handle);
    } catch (error) {
      if (isNoSocket(error)) this.#forget();
      throw error;
    }
    this.#forget();
    if (this.path !== undefined) systemCalls().removeLocal(this.path);
  }

  /** Has a pool thread close the descriptor, for it may block; one that only its maker knows is closed here. */
  closeElsewhere(end: boolean): void {
    if (!this.open) return;
    try {
      systemCalls().assertSocket(this.#handle, "close a socket");
    } catch {
      return this.close();
    }
    systemCalls().closeElsewhere(this.release(), end);
  }

  /** Closes the descriptor of a connection, and ends the connection if another process may have a copy. */
  end(): void {
    if (this.suspect) return this.closeElsewhere(this.shared);
    if (this.open && this.shared) systemCalls().shutDown(this.#handle);
    this.close();
  }
}

/**
 * Closes a descriptor that another process has passed, and that no object has.
 *
 * @throws {WinsockError} WSAENOTSOCK if it is not an open socket.
 */
export function closeHandle(handle: bigint): void {
  unknownMaker().closeSocket(handle);
}

/** Of a descriptor somebody names: the provider in force has made it, or else the system has. */
function unknownMaker(): SocketMaker {
  const provider = defaultProvider();
  return {
    closeSocket(s) {
      try {
        provider.closeSocket(s);
      } catch (error) {
        if (!isNoSocket(error)) throw error;
        SYSTEM.closeSocket(s);
      }
    },
  };
}

function isNoSocket(error: unknown): boolean {
  return hasWinsockCode(error, WSA_ERRORS.WSAENOTSOCK);
}
