/**
 * Ownership of descriptors: one object owns a descriptor until it closes or releases the descriptor. And what the objects
 * that own one have in common: socket options.
 *
 * @module
 */
import { INVALID_SOCKET, type SocketMaker } from "../ffi/platform.ts";
import type { SocketOptions } from "../ffi/socket_options.ts";
import { systemCalls } from "../ffi/system.ts";
import { closeAtEnd, DescriptorMap } from "../internal/runtime.ts";
import { hasWinsockCode, toClosedError, toDenoError, toInterruptedError } from "../ffi/winsock_error.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { WSA_ERRORS } from "../structs/constants.ts";

const owned = new DescriptorMap<Descriptor>();

/**
 * Returns whether an object of this process owns the descriptor. On Windows, a number that the system has just returned
 * is always new. Wine returns the same number for a blob that is opened twice.
 */
export function isOwned(handle: bigint): boolean {
  return owned.get(handle) !== undefined;
}

/**
 * Calls a callback once, when a descriptor is closed or released. If a stream owns the descriptor by then, the callback
 * is called when the stream is closed.
 *
 * @param owner The owner of the descriptor. If it no longer owns one, the callback is called at once.
 * @param callback The function to call.
 */
export function onRelease(owner: { readonly handle: bigint }, callback: () => void): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor === undefined) callback();
  else descriptor.released = callback;
}

/**
 * Marks a descriptor of a connection with one owner at a time: another process has, or may have, a copy of it.
 * `Socket.close` then shuts the connection down first, and so does closing a stream of the descriptor. The peer reads
 * the end even if the other copy is still open.
 *
 * @param owner The owner of the descriptor. If it no longer owns one, nothing is marked.
 */
export function markShared(owner: { readonly handle: bigint }): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor !== undefined) descriptor.shared = true;
}

/**
 * Marks a descriptor of a connection that another descriptor may use at the same time. Closing this descriptor must not
 * end the connection, even if it was offered to another process before and came back.
 *
 * @param owner The owner of the descriptor. If it no longer owns one, nothing is marked.
 */
export function markDuplicated(owner: { readonly handle: bigint }): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor === undefined) return;
  descriptor.sole = false;
  descriptor.shared = false;
}

/**
 * Returns whether closing a descriptor may end the connection, because no other descriptor is to use it.
 *
 * @param owner The owner of the descriptor.
 */
export function isExclusive(owner: { readonly handle: bigint }): boolean {
  return owned.get(owner.handle)?.exclusive === true;
}

/**
 * Closes the descriptor of a `Socket` whose connection now belongs to another process. The connection stays open.
 *
 * @param owner The owner of the descriptor. If it no longer owns one, nothing is closed.
 */
export function closeCopy(owner: { readonly handle: bigint }): void {
  const descriptor = owned.get(owner.handle);
  const suspect = descriptor?.suspect;
  if (suspect === undefined) descriptor?.close();
  else descriptor!.closeElsewhere(suspect, false);
}

/**
 * Notes that a connection is offered to another process. If that process is not trusted, it can set options of the
 * connection, such as `SO_LINGER`, so that closing the descriptor blocks. From then on a pool thread closes it.
 *
 * @param owner The owner of the descriptor. If it no longer owns one, nothing is noted.
 * @param suspect The process, if it is not trusted.
 */
export function noteOffered(owner: { readonly handle: bigint }, suspect: Suspect | undefined): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor === undefined) return;
  // Reading it resets what an earlier process has set, while the connection still belongs to this process.
  const earlier = descriptor.suspect;
  descriptor.suspect = suspect ?? earlier;
}

/**
 * Returns whether closing a descriptor can block, because of a process that {@linkcode noteOffered} has noted.
 *
 * @param owner The owner of the descriptor.
 */
export function isSuspect(owner: { readonly handle: bigint }): boolean {
  return owned.get(owner.handle)?.suspect !== undefined;
}

/** A process that is not trusted. */
export interface Suspect {
  readonly processId: number;
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  /** Whether the process has ended. */
  readonly over: boolean;
  /**
   * Closes a descriptor of a connection that the process was offered, on a pool thread.
   *
   * @param handle The descriptor. It has no owner any more.
   * @param end Whether both sides of the connection are shut down first.
   */
  close(handle: bigint, end: boolean): void;
}

/**
 * Notes that a process that is not trusted may have a descriptor of a socket that came back from it.
 *
 * @param owner The owner of the descriptor. If it no longer owns one, nothing is noted.
 * @param suspect The process.
 */
export function noteHolder(owner: { readonly handle: bigint }, suspect: Suspect): void {
  const descriptor = owned.get(owner.handle);
  if (descriptor !== undefined) (descriptor.holders ??= new Set()).add(suspect);
}

/**
 * Returns a process that is not trusted, runs, and may have a descriptor of a socket that came back from it.
 *
 * @param owner The owner of the descriptor.
 * @param except A process that does not count.
 * @returns One such process, if there is any.
 */
export function holderOf(owner: { readonly handle: bigint }, except?: number): Suspect | undefined {
  return owned.get(owner.handle)?.holders?.values().find(({ processId, over }) => !over && processId !== except);
}

/** How a stream ends the connection of the descriptor that it gets. */
export interface StreamEnd {
  /** Whether the stream shuts the connection down before it closes the descriptor. */
  readonly shared: boolean;
  /** Ends the connection on a pool thread. `undefined` if the stream closes the descriptor itself. */
  readonly elsewhere: ((handle: bigint) => void) | undefined;
}

/** The system itself, whichever provider is in use. It made every descriptor that was not opened from a blob. */
export const SYSTEM: SocketMaker = { closeSocket: (s) => systemCalls().close(s) };

/** A descriptor and the right to close it. */
export class Descriptor {
  #handle: bigint;
  /** The creator of the descriptor, which also closes it. */
  readonly maker: SocketMaker;
  /**
   * Whether the connection was offered to another process, which may have a copy of the descriptor but does not use it.
   */
  shared = false;
  #suspect: Suspect | undefined;
  /** The processes that are not trusted and may have kept a descriptor. */
  holders: Set<Suspect> | undefined;
  /** Whether, as far as this process knows, no other descriptor of the socket is in use. */
  sole: boolean;
  readonly #leaveOpen: () => void;
  /** The callback to call when the descriptor is closed or released. */
  released: (() => void) | undefined;
  /** The file of a local socket. The process that closes the last descriptor removes it. */
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
   * Takes ownership of a descriptor that was just made.
   *
   * @param handle The descriptor.
   * @param maker The creator of the descriptor. Defaults to the system.
   */
  static own(handle: bigint, maker: SocketMaker = SYSTEM): Descriptor {
    return new Descriptor(handle, maker, true);
  }

  /**
   * Takes ownership of a descriptor that the caller passes.
   *
   * @throws {TypeError} If another object of this process already owns it.
   */
  static adopt(handle: bigint): Descriptor {
    if (isOwned(handle)) {
      throw new TypeError(`Cannot take over socket ${handle}: it already has an owner in this process`);
    }
    return new Descriptor(handle, unknownMaker(), false);
  }

  /** The handle. `INVALID_SOCKET` after it was closed or released, so that the system itself refuses calls with it. */
  get handle(): bigint {
    return this.#closing === undefined ? this.#handle : INVALID_SOCKET;
  }

  get open(): boolean {
    return this.handle !== INVALID_SOCKET;
  }

  /** Resolves when a descriptor that could not be closed at once is closed; `undefined` if no close is pending. */
  get closing(): Promise<void> | undefined {
    return this.#closing;
  }

  /**
   * Calls the system with the handle.
   *
   * @throws {Deno.errors.BadResource} If the descriptor was closed or released.
   * @throws {Error} If the system refuses the call, in Deno's classes.
   */
  use<Result>(call: (handle: bigint) => Result): Result {
    return useHandle(this.handle, call);
  }

  /**
   * Calls the system with the handle, for the object that becomes the owner. If the call fails, the descriptor is
   * released: it stays open, and has no owner.
   *
   * @throws {Error} If the system refuses the call, in Deno's classes.
   */
  useFirst<Result>(call: (handle: bigint) => Result): Result {
    try {
      return this.use(call);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /**
   * Calls the system with the handle, for a call that waits.
   *
   * @param call The call, which gets the handle.
   * @param open Whether the descriptor was open when the wait began. Defaults to whether it is open now.
   * @throws {Deno.errors.BadResource} If the descriptor was closed or released.
   * @throws {Deno.errors.Interrupted} If the descriptor is closed or released while the call waits.
   * @throws {Error} If the system refuses the call, in Deno's classes.
   */
  async wait<Result>(call: (handle: bigint) => Promise<Result>, open: boolean = this.open): Promise<Result> {
    try {
      return await call(this.handle);
    } catch (error) {
      if (!open) throw toClosedError(error);
      throw this.open ? toDenoError(error) : toInterruptedError(error);
    }
  }

  /**
   * The last process that was offered the connection and is not trusted. `undefined` after it has ended: what it set can
   * then be reset for good, so that closing does not block.
   */
  get suspect(): Suspect | undefined {
    if (this.#suspect?.over) {
      this.#suspect = undefined;
      stopLingering(this.#handle);
    }
    return this.#suspect;
  }

  set suspect(suspect: Suspect | undefined) {
    this.#suspect = suspect;
  }

  /** Whether closing the descriptor may end the connection, because no other process is to use the connection. */
  get exclusive(): boolean {
    return this.sole || this.shared;
  }

  /** Releases the descriptor without closing it, and returns it. */
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
   * Releases the descriptor to another object of this process, which continues to use it.
   *
   * @returns A function that must be called when that object has closed the descriptor.
   */
  handOver(): () => void {
    const { released } = this;
    this.released = undefined;
    this.release();
    return released ?? (() => {});
  }

  /**
   * Closes the descriptor by its creator. Pending waits end. Does nothing if it was closed or released.
   *
   * @param ready Resolves when the descriptor can be closed. If closing then fails, this object owns it again. Defaults
   * to closing it now.
   * @throws {WinsockError} If it cannot be closed. This object still owns it, unless there is no such socket.
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
      // Another call to close it throws the error.
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

  /**
   * Closes the descriptor on a pool thread, because closing may block. A descriptor that only its creator knows is
   * closed here.
   *
   * @param suspect The process because of which closing may block.
   * @param end Whether both sides of the connection are shut down first.
   */
  closeElsewhere(suspect: Suspect, end: boolean): void {
    if (!this.open) return;
    try {
      systemCalls().assertSocket(this.#handle, "close a socket");
    } catch {
      return this.close();
    }
    suspect.close(this.release(), end);
  }

  /** Closes the descriptor of a connection, and ends the connection if another process may have a copy of it. */
  end(): void {
    const { suspect } = this;
    if (suspect !== undefined) return this.closeElsewhere(suspect, this.shared);
    if (this.open && this.shared) systemCalls().shutDown(this.#handle);
    this.close();
  }

  /** Returns how a stream ends the connection, for {@linkcode Descriptor.handOver}. */
  streamEnd(): StreamEnd {
    const { shared, suspect } = this;
    if (suspect === undefined) return { shared, elsewhere: undefined };
    return { shared: false, elsewhere: (handle) => suspect.close(handle, shared) };
  }
}

/**
 * Closes a descriptor that another process has passed, and that no object owns.
 *
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 */
export function closeHandle(handle: bigint): void {
  unknownMaker().closeSocket(handle);
}

/** Returns the creator of a descriptor that the caller passes: the provider in use, or else the system. */
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

/** Resets `SO_LINGER` if it makes closing wait. With 0 seconds, closing resets the connection and does not wait. */
export function stopLingering(handle: bigint): void {
  try {
    if (systemCalls().getOption(handle, "SO_LINGER") ?? 0) systemCalls().setOption(handle, "SO_LINGER", null);
  } catch {
    // The descriptor was closed, or its maker is not the system. The system does not wait for such a descriptor.
  }
}

function isNoSocket(error: unknown): boolean {
  return hasWinsockCode(error, WSA_ERRORS.WSAENOTSOCK);
}

/**
 * Calls the system with a handle.
 *
 * @throws {Deno.errors.BadResource} If the handle is `INVALID_SOCKET`: the socket was closed or released.
 * @throws {Error} If the system refuses the call, in Deno's classes.
 */
function useHandle<Result>(handle: bigint, call: (handle: bigint) => Result): Result {
  try {
    return call(handle);
  } catch (error) {
    throw handle === INVALID_SOCKET ? toClosedError(error) : toDenoError(error);
  }
}

/** The longest value of an option that can be read, in bytes. */
const MAX_OPTION_SIZE = 65_536;

/**
 * The options of a socket, which {@linkcode Socket}, {@linkcode Listener} and {@linkcode DatagramSocket} have in common.
 */
export abstract class SocketWithOptions {
  /** The descriptor. `INVALID_SOCKET` (all 64 bits set) after the object has closed or released it. */
  abstract readonly handle: bigint;

  /**
   * Reads a socket option (`getsockopt`). Options belong to the underlying socket: every process that shares it sees
   * the same value.
   *
   * @param name The name of the option.
   * @returns The value of the option.
   * @throws {Deno.errors.NotSupported} If this system does not have the option.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {WinsockError} WSAENOPROTOOPT if this kind of socket does not have the option.
   */
  getOption<Name extends keyof SocketOptions>(name: Name): SocketOptions[Name] {
    return useHandle(this.handle, (s) => systemCalls().getOption(s, name));
  }

  /**
   * Sets a socket option (`setsockopt`), for every process that shares the underlying socket.
   *
   * @param name The name of the option.
   * @param value The new value of the option.
   * @throws {RangeError} If the value is out of range.
   * @throws {Deno.errors.NotSupported} If this system does not have the option.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {WinsockError} WSAENOPROTOOPT if this kind of socket does not have the option.
   */
  setOption<Name extends keyof SocketOptions>(name: Name, value: SocketOptions[Name]): void {
    useHandle(this.handle, (s) => systemCalls().setOption(s, name, value));
  }

  /**
   * Reads a socket option that has no name in {@linkcode SocketOptions}, by the numbers in the headers of this system
   * (`getsockopt`).
   *
   * @example Reading `SO_RCVBUF` by its number
   * ```ts
   * import { listen } from "@winsock/handoff";
   * import { assertEquals } from "@std/assert";
   *
   * using listener = listen({ hostname: "127.0.0.1" });
   * const [level, optname] = Deno.build.os === "linux" ? [1, 8] : [0xffff, 0x1002];
   * const value = new DataView(listener.getRawOption(level, optname).buffer);
   * assertEquals(value.getInt32(0, true), listener.getOption("SO_RCVBUF"));
   * ```
   *
   * @param level The level of the option, such as that of `SOL_SOCKET`: 1 on Linux, 0xffff on Windows and macOS.
   * @param optname The number of the option.
   * @param size The most bytes of the value. Defaults to `4`, the size of an `int`.
   * @returns The value, in memory order.
   * @throws {RangeError} If a number is not a 32-bit integer, or the size is not from 1 to 65 536.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {WinsockError} WSAENOPROTOOPT if the system does not have the option, WSAEFAULT on Windows if `size` is too
   * small.
   */
  getRawOption(level: number, optname: number, size: number = 4): Uint8Array<ArrayBuffer> {
    checkInt32("level", level);
    checkInt32("optname", optname);
    if (!Number.isInteger(size) || size < 1 || size > MAX_OPTION_SIZE) {
      throw new RangeError(`Invalid \`size\`: must be an integer from 1 to ${MAX_OPTION_SIZE}, got ${size}`);
    }
    return useHandle(this.handle, (s) => systemCalls().getRawOption(s, level, optname, size));
  }

  /**
   * Sets a socket option that has no name in {@linkcode SocketOptions}, by the numbers in the headers of this system
   * (`setsockopt`), for every process that shares the underlying socket. The library does not check what the option
   * does: it may make the socket blocking or change what the system reports.
   *
   * @param level The level of the option.
   * @param optname The number of the option.
   * @param value The value in memory order, or an integer for an `int`.
   * @throws {RangeError} If a number is not a 32-bit integer.
   * @throws {TypeError} If the value is neither bytes nor a number.
   * @throws {Deno.errors.BadResource} If the socket was closed or released.
   * @throws {WinsockError} WSAENOPROTOOPT if the system does not have the option, WSAEINVAL or WSAEFAULT if the value is
   * not valid.
   */
  setRawOption(level: number, optname: number, value: Uint8Array<ArrayBuffer> | number): void {
    checkInt32("level", level);
    checkInt32("optname", optname);
    if (!(value instanceof Uint8Array) && typeof value !== "number") {
      throw new TypeError(`Invalid \`value\`: must be a Uint8Array or a number, got ${value}`);
    }
    if (typeof value === "number") checkInt32("value", value);
    const bytes = typeof value === "number" ? new Uint8Array(new Int32Array([value]).buffer) : value;
    useHandle(this.handle, (s) => systemCalls().setRawOption(s, level, optname, bytes));
  }
}

/** Checks an integer of 32 bits, signed or unsigned. */
function checkInt32(name: string, value: number): void {
  if (Number.isInteger(value) && value >= -0x8000_0000 && value <= 0xffff_ffff) return;
  throw new RangeError(`Invalid \`${name}\`: must be an integer of 32 bits, got ${value}`);
}
