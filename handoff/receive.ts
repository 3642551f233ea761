/**
 * The target's side of a hand-off, as its program sees it.
 *
 * @module
 */
import type { DatagramSocket } from "../sockets/datagram_socket.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import type { Listener } from "../sockets/listener.ts";
import type { Socket } from "../sockets/socket.ts";
import { type Received, ReceivedSocket, type ReceiveOptions } from "./inbox.ts";
import { Target } from "./target.ts";

/**
 * Receives the sockets that the process that spawned this one hands over with {@linkcode HandoffSource}.
 *
 * A socket is taken in the step in which the loop gets it, and not before: what the loop has not seen stays the source's.
 * Leaving the loop, or aborting the signal, rejects all of that at once. The loop ends when the source is closed or has
 * ended; what has arrived until then is received first. Sockets that were received stay open. Nothing else may read stdin.
 *
 * Connections that this process accepts by itself, on a listener that the source shares with it
 * ({@linkcode HandoffSource.shareListener}), come out of the same loop. They are accepted while the loop waits for a socket, and
 * cannot be rejected.
 *
 * Needs ffi access to the system's socket library: `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll`
 * on Windows, `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6` on Linux (`LIBRARY_PATHS` on any system). No
 * net, env, read or run permission.
 *
 * @example A worker that echoes
 * ```ts ignore
 * import { receive } from "@winsock/handoff";
 *
 * for await (const { socket } of receive()) {
 *   const conn = socket.toConn();
 *   conn.readable.pipeTo(conn.writable).catch(() => {}).finally(() => conn.close());
 * }
 * ```
 *
 * @param options Which sockets to take, and how.
 * @returns What arrives, in the order in which it was offered.
 * @throws {HandoffError} While iterating: `channel-broken` if what arrives is not the protocol, or not for this process.
 * @throws {Deno.errors.NotCapable} While iterating: without ffi access; the message names the file.
 */
export function receive(
  options: ReceiveOptions & { listeners: true; datagrams: true },
): AsyncGenerator<Received<Socket> | Received<Listener> | Received<DatagramSocket>, void, void>;
/**
 * The connections and listeners that the process that spawned this one hands over; datagram sockets are rejected.
 *
 * @param options Which sockets to take, and how.
 * @returns What arrives, in the order in which it was offered.
 */
export function receive(
  options: ReceiveOptions & { listeners: true },
): AsyncGenerator<Received<Socket> | Received<Listener>, void, void>;
/**
 * The connections and datagram sockets that the process that spawned this one hands over; listeners are rejected.
 *
 * @param options Which sockets to take, and how.
 * @returns What arrives, in the order in which it was offered.
 */
export function receive(
  options: ReceiveOptions & { datagrams: true },
): AsyncGenerator<Received<Socket> | Received<DatagramSocket>, void, void>;
/**
 * The connections that the process that spawned this one hands over; listeners and datagram sockets are rejected.
 *
 * @param options Which sockets to take, and how.
 * @returns What arrives, in the order in which it was offered.
 */
export function receive(
  options?: ReceiveOptions & { listeners?: false; datagrams?: false },
): AsyncGenerator<Received<Socket>, void, void>;
/**
 * The sockets that the process that spawned this one hands over, where it is not known before of which kinds.
 *
 * @param options Which sockets to take, and how.
 * @returns What arrives, in the order in which it was offered.
 */
export function receive(
  options: ReceiveOptions,
): AsyncGenerator<Received<Socket> | Received<Listener> | Received<DatagramSocket>, void, void>;
export function receive(options: ReceiveOptions = {}): AsyncGenerator<Received<AnySocket>, void, void> {
  return new ReceivedSockets(options);
}

/**
 * What {@linkcode receive} returns. It is not a generator function's object, which would let `return` wait for the socket
 * that a pending `next` waits for.
 */
class ReceivedSockets implements AsyncGenerator<Received<AnySocket>, void, void> {
  readonly #target: Target;
  #over = false;

  /** The source is told at once that this process takes sockets, however long the program needs until it asks for one. */
  constructor(options: ReceiveOptions) {
    this.#target = new Target(options);
  }

  async next(): Promise<IteratorResult<Received<AnySocket>, void>> {
    if (this.#over) return { done: true, value: undefined };
    try {
      const incoming = await this.#target.next();
      if (incoming !== undefined) return { done: false, value: new ReceivedSocket(incoming) };
    } catch (error) {
      this.#leave();
      throw error;
    }
    this.#leave();
    return { done: true, value: undefined };
  }

  // deno-lint-ignore require-await -- an iterator's `return` is asynchronous
  async return(): Promise<IteratorResult<Received<AnySocket>, void>> {
    this.#leave();
    return { done: true, value: undefined };
  }

  async throw(error: unknown): Promise<IteratorResult<Received<AnySocket>, void>> {
    await this.return();
    throw error;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #leave(): void {
    this.#over = true;
    this.#target.leave();
  }
}
