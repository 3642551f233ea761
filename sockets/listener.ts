/**
 * A listening socket and its owner.
 *
 * @module
 */
import type { Acceptor } from "../ffi/socket_calls.ts";
import { systemCalls } from "../ffi/system.ts";
import { Descriptor, whenReleased } from "./descriptor.ts";
import { ownSocket, type Socket } from "./socket.ts";

/** Where {@linkcode listen} listens. */
export interface ListenOptions {
  /** An IPv4 or IPv6 address, or `localhost` for 127.0.0.1. Default `0.0.0.0`; `::` takes IPv4 connections too. */
  hostname?: string;
  /** The port; 0 lets the system choose one. */
  port: number;
  /** Connections that may wait to be accepted. Default 511; the system may have a lower limit. */
  backlog?: number;
}

/**
 * Listens for TCP connections (`bind`, `listen`).
 *
 * The port is this socket's alone (`SO_EXCLUSIVEADDRUSE` on Windows), and child processes do not inherit it. Needs ffi
 * access to the system's socket library, and no net permission.
 *
 * @example
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * assertEquals(listener.addr.hostname, "127.0.0.1");
 * ```
 *
 * @param options Where.
 * @returns The listener; the caller's to close.
 * @throws {TypeError} If the hostname is no IP address.
 * @throws {RangeError} If the port is not between 0 and 65535.
 * @throws {WinsockError} WSAEADDRINUSE if the port is taken, WSAEACCES if it may not be used.
 */
export function listen(options: ListenOptions): Listener {
  const handle = systemCalls().listen(toAddress(options, "0.0.0.0"), options.backlog ?? 511);
  return ownListener(handle);
}

/** An address with its defaults filled in and its port checked. */
export function toAddress(
  { hostname, port }: { hostname?: string; port: number },
  defaultHostname: string,
): { hostname: string; port: number } {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new RangeError(`Port ${port} is not from 0 to 65535`);
  return { hostname: hostname === "localhost" ? "127.0.0.1" : hostname ?? defaultHostname, port };
}

/** Makes the {@linkcode Listener} of a descriptor the system has just made. */
export let ownListener: (handle: bigint) => Listener;

/**
 * A listening TCP socket. The object owns its descriptor, as {@linkcode Socket} does.
 *
 * Accepting never blocks the event loop, and {@linkcode Listener.close} ends a pending {@linkcode Listener.accept} at
 * once. On Windows two processes must not accept on the same listener at the same time: give the listener away, or pass
 * on its connections.
 */
export class Listener implements AsyncIterable<Socket>, Disposable {
  readonly #descriptor: Descriptor;
  #acceptor: Acceptor | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** While accepting is paused: resolves when that ends. */
  #paused: PromiseWithResolvers<void> | undefined;
  #connections = 0;
  #drained = Promise.withResolvers<void>();

  private constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
  }

  /**
   * Takes ownership of a listening stream socket's descriptor.
   *
   * @param handle The descriptor. It is left alone if this throws.
   * @returns The listener that owns it.
   * @throws {TypeError} If it does not listen, or belongs to another object already.
   * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
   */
  static fromHandle(handle: bigint): Listener {
    const kind = systemCalls().kind(handle, `take over socket ${handle}`);
    if (kind !== "listener") throw new TypeError(`Cannot take over socket ${handle}: it is a ${kind}, not a listener`);
    return new Listener(Descriptor.adopt(handle));
  }

  static {
    ownListener = (handle) => new Listener(Descriptor.own(handle));
  }

  /** The descriptor; `INVALID_SOCKET` (all 64 bits set) once the object has given it up. */
  get handle(): bigint {
    return this.#descriptor.handle;
  }

  /**
   * The address and port listened on (`getsockname`).
   *
   * @throws {WinsockError} WSAENOTSOCK if the listener was closed or given up.
   */
  get addr(): Deno.NetAddr {
    return systemCalls().localAddress(this.handle);
  }

  /**
   * Waits for the next connection. Calls made while one is pending are answered in turn.
   *
   * @returns The connection's socket, which child processes do not inherit; the caller's to close.
   * @throws {Deno.errors.BadResource} If the listener is closed or given up, also while this waits.
   * @throws {WinsockError} If the system cannot accept, such as WSAEMFILE.
   */
  async accept(): Promise<Socket> {
    const socket = await this.#next();
    if (socket === undefined) throw new Deno.errors.BadResource("Listener has been closed");
    return socket;
  }

  /** The connections, until the listener is closed or given up. Leaving the loop leaves the listener open. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Socket, void, void> {
    for (let socket = await this.#next(); socket !== undefined; socket = await this.#next()) yield socket;
  }

  /**
   * Stops accepting: {@linkcode Listener.accept} and the loop wait. Connections go on arriving, and wait in the system to
   * be accepted, here or by whoever else has the socket.
   *
   * @returns Resolves when nothing is being accepted any more.
   */
  async pause(): Promise<void> {
    this.#paused ??= Promise.withResolvers();
    const acceptor = this.#acceptor;
    this.#acceptor = undefined;
    await acceptor?.stop();
  }

  /** Accepts again; if it was not paused, does nothing. */
  resume(): void {
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  /** How many of the connections accepted here this process has, and has not closed or given up. */
  get connections(): number {
    return this.#connections;
  }

  /** Resolves when this process has none of the connections accepted here: at once, if it has none now. */
  drained(): Promise<void> {
    if (this.#connections === 0) return Promise.resolve();
    return this.#drained.promise;
  }

  /**
   * Gives up ownership: the descriptor stays open and is the caller's to close. A pending accept ends.
   *
   * @returns The descriptor.
   */
  detach(): bigint {
    this.#acceptor?.stop().catch(() => {});
    const handle = this.#descriptor.release();
    this.resume();
    return handle;
  }

  /** Closes this descriptor and ends a pending accept; once it is closed or given up, does nothing. */
  close(): void {
    if (this.#descriptor.open && this.#acceptor !== undefined) {
      this.#descriptor.release();
      this.#acceptor.close();
    } else {
      this.#descriptor.close();
    }
    this.resume();
  }

  /** The same as {@linkcode Listener.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #next(): Promise<Socket | undefined> {
    const next = this.#last.then(() => this.#acceptOne());
    this.#last = next.catch(() => {});
    return next;
  }

  async #acceptOne(): Promise<Socket | undefined> {
    while (this.#descriptor.open) {
      if (this.#paused !== undefined) {
        await this.#paused.promise;
        continue;
      }
      this.#acceptor ??= systemCalls().acceptor(this.handle);
      const handle = await this.#acceptor.accept();
      if (handle !== undefined) return this.#own(handle);
    }
    return undefined;
  }

  #own(handle: bigint): Socket {
    const socket = ownSocket(handle);
    this.#connections++;
    whenReleased(socket, () => {
      if (--this.#connections > 0) return;
      this.#drained.resolve();
      this.#drained = Promise.withResolvers();
    });
    return socket;
  }
}
