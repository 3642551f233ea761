/**
 * The target's side of a hand-off, as its program sees it.
 *
 * @module
 */
import type { SocketKind } from "../ffi/platform.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import { type Received, ReceivedSocket, type ReceiveOptions, type SocketsByKind } from "./inbox.ts";
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
 * The source is told at the call that this process takes sockets, and not when the first is asked for.
 *
 * @example A worker that takes listeners too
 * ```ts ignore
 * import { Listener, receive } from "@winsock/handoff";
 *
 * for await (const { socket } of receive({ kinds: ["connection", "listener"] })) {
 *   if (socket instanceof Listener) console.log(`listens on ${socket.addr.port}`);
 *   else socket.close();
 * }
 * ```
 *
 * @typeParam Kind The kinds of sockets that are taken, as `kinds` says.
 * @param options Which sockets to take, and how.
 * @returns What arrives, in the order in which it was offered.
 * @throws {TypeError} If `autoAccept` or `kinds` is not what it must be.
 * @throws {HandoffError} While iterating: `channel-broken` if what arrives is not the protocol, or not for this process.
 * @throws {Deno.errors.NotCapable} While iterating: without ffi access; the message names the file.
 */
export function receive<Kind extends SocketKind = "connection">(
  options: ReceiveOptions<Kind> = {},
): AsyncGenerator<ReceivedOf<Kind>, void, void> {
  return new ReceivedSockets(options) as AsyncGenerator<Received<AnySocket>, void, void> as AsyncGenerator<
    ReceivedOf<Kind>,
    void,
    void
  >;
}

/**
 * A socket that arrived, of one of several kinds.
 *
 * @typeParam Kind The kinds.
 */
export type ReceivedOf<Kind extends SocketKind> = { [K in Kind]: Received<SocketsByKind[K]> }[Kind];

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
