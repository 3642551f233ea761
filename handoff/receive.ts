/**
 * The target's side of a hand-off, as a program uses it.
 *
 * @module
 */
import type { SocketKind } from "../ffi/platform.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import { type Passing, passWhile } from "../sockets/listener.ts";
import { type Incoming, type Received, ReceivedSocket, type ReceiveOptions, type SocketsByKind } from "./inbox.ts";
import type { PostMessageOptions, SendOptions } from "./outgoing.ts";
import { Target } from "./target.ts";

/**
 * Receives the sockets that this process's parent hands off with {@linkcode HandoffSource}.
 *
 * A socket is taken in the step in which the loop gets it, and not before. Sockets that the loop has not seen stay with
 * the source. Leaving the loop, or aborting the signal, rejects all of these at once. The loop ends when the source is
 * closed or has ended, after the sockets that arrived until then. Received sockets stay open. Nothing else may read
 * stdin.
 *
 * The same loop returns the connections that this process accepts itself, on a listener that the source shares with it
 * ({@linkcode HandoffSource.shareListener}). They are accepted while the loop waits for a socket, and cannot be
 * rejected.
 *
 * Programs that this process starts cannot read what is for it. If one that inherits stdin is started before this call,
 * it must not read: it could get the first frame. The loop then ends at once, and the source is told that it has, or
 * waits for its `startTimeout`.
 *
 * Needs ffi access to the system's socket library:
 * `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll` on Windows,
 * `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6` on Linux (`LIBRARY_PATHS` on any system). No net, env, read or run
 * permission.
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
 * The call itself tells the source that this process takes sockets, before the program asks for the first socket.
 *
 * @example A worker that also takes listeners
 * ```ts ignore
 * import { Listener, receive } from "@winsock/handoff";
 *
 * for await (const { socket } of receive({ kinds: ["connection", "listener"] })) {
 *   if (socket instanceof Listener) console.log(`listens on ${socket.addr.port}`);
 *   else socket.close();
 * }
 * ```
 *
 * @typeParam Kind The kinds of sockets that are taken, as in `kinds`.
 * @param options The kinds of sockets to take, and the other options.
 * @returns The sockets, in the order in which they were offered.
 * @throws {TypeError} If `autoAccept` or `kinds` is not valid.
 * @throws {Deno.errors.Busy} If stdin is read already by another call, perhaps of another copy of the library in this
 * thread.
 * @throws {HandoffError} While iterating: `channel-broken` if the bytes that arrive are not the protocol, or are not
 * for this process.
 * @throws {Deno.errors.NotCapable} While iterating: without ffi access; the message names the file.
 */
export function receive<Kind extends SocketKind = "connection">(
  options: ReceiveOptions<Kind> = {},
): HandoffTarget<Kind> {
  return new ReceivedSockets(options) as HandoffTarget<SocketKind> as HandoffTarget<Kind>;
}

/**
 * The target's end of a channel: the sockets that the source hands off, as {@linkcode receive} returns it, and the way
 * back to the source.
 *
 * @example A worker that hands each connection back to its source, with what it has found out about it
 * ```ts ignore
 * import { receive } from "@winsock/handoff";
 *
 * const target = receive();
 * for await (const { socket } of target) {
 *   const bytes = await socket.read(1_024, { signal: AbortSignal.timeout(5_000) });
 *   if (bytes !== null) socket.unread(bytes);
 *   await target.send(socket, { data: { secure: bytes?.[0] === 22 } }).catch(() => socket.close());
 * }
 * ```
 *
 * @typeParam Kind The kinds of sockets that are taken.
 */
export interface HandoffTarget<Kind extends SocketKind = "connection">
  extends AsyncGenerator<ReceivedOf<Kind>, void, void> {
  /**
   * The messages of the source ({@linkcode HandoffSource.postMessage}): any JSON values. The loop ends when no more can
   * come. A message is taken in the step in which a loop gets it. Several loops share the messages. Leaving the loop over
   * the sockets also ends the messages.
   */
  readonly messages: AsyncIterable<unknown>;
  /**
   * Hands a socket back to the source, or another socket on to it. The source gets it from {@linkcode
   * HandoffSource.messages}; in a {@linkcode WorkerPool} it goes to another worker. The rules are those of {@linkcode
   * HandoffSource.send}: at every moment one process owns the socket, and one of the two decides.
   *
   * Bytes that this process has read ahead travel along: return them with {@linkcode Socket.unread} first. A connection
   * of which {@linkcode Socket.toConn} or {@linkcode Socket.toNodeSocket} made a stream is no longer a socket, and cannot
   * be handed back.
   *
   * @param socket The socket. When the promise resolves, the source owns the socket, and it is closed in this process.
   * If the promise rejects, the socket is unchanged and belongs to the caller.
   * @param options What is sent together with the socket.
   * @throws {HandoffError} `timeout` if the source's program did not take it within `sendTimeout`; `rejected` if the
   * source does not trust this process, or cannot open the socket; `closed` if the source was closed or has ended, or
   * the loop was left: hand back before that. The reason says which.
   * @throws {WinsockError} If the socket cannot be shared: WSAENOTSOCK if it was closed or released.
   * @throws {TypeError} If the socket is being handed off already, or JSON cannot express `data`.
   * @throws {RangeError} If `data` or the initial bytes are too long.
   * @throws The signal's reason, if it is aborted before the source took the socket.
   */
  send(socket: AnySocket, options?: SendOptions): Promise<void>;
  /**
   * Sends a message to the source, which gets it from {@linkcode HandoffSource.messages} or, in a {@linkcode
   * WorkerPool}, as the event `workermessage`. Messages arrive in the order of the calls.
   *
   * @param message The message: any JSON value, at most 1 MiB.
   * @param options The signal that withdraws the message.
   * @returns Resolves when the source's program has got the message. If the promise rejects, the program never gets it.
   * @throws {HandoffError} `timeout` if the source's program did not take it within `sendTimeout`; `overloaded` if 1 024
   * messages, or 16 MiB of them, wait already; `closed` if the source was closed or has ended, or the loop was left.
   * @throws {TypeError} If JSON cannot express the message.
   * @throws {RangeError} If the message is too long.
   * @throws The signal's reason, if it is aborted before the source took the message.
   */
  postMessage(message: unknown, options?: PostMessageOptions): Promise<void>;
  /** Makes the process continue to run while it waits for sockets. This is the default. */
  ref(): void;
  /**
   * Lets the process end while it waits for sockets. The source then has the sockets that the program has not got.
   * Sockets that were received still keep the process running. An `input` stream keeps it running by its own rules. If
   * the program waits for a socket with a top-level `await`, Deno reports that the promise never resolves.
   */
  unref(): void;
}

/**
 * A socket that arrived, of one of several kinds.
 *
 * @typeParam Kind The kinds of sockets.
 */
export type ReceivedOf<Kind extends SocketKind> = { [K in Kind]: Received<SocketsByKind[K]> }[Kind];

/** A received socket. If it was taken, it cannot be accepted or rejected any more. */
type PassedSocket = Pick<Received<AnySocket>, "socket" | "data"> & Partial<Received<AnySocket>>;

/**
 * The object that {@linkcode receive} returns. It is not a generator object: the `return` of a generator would wait for
 * the socket that a pending `next` waits for.
 */
class ReceivedSockets implements HandoffTarget<SocketKind>, Passing<PassedSocket> {
  readonly #target: Target;
  readonly #manual: boolean;
  #over = false;

  /**
   * Tells the source at once that this process takes sockets, even if the program asks for the first one much later.
   */
  constructor(options: ReceiveOptions) {
    this.#target = new Target(options);
    this.#manual = options.autoAccept === false;
  }

  async [passWhile](wanted: () => boolean, passed: (received: PassedSocket) => void): Promise<boolean> {
    if (this.#over) return false;
    const pass = (incoming: Incoming) => {
      passed(this.#manual ? new ReceivedSocket(incoming) : { socket: incoming.socket, data: incoming.data });
    };
    try {
      if (await this.#target.passWhile(wanted, pass)) return true;
    } catch (error) {
      this.#leave();
      throw error;
    }
    this.#leave();
    return false;
  }

  async next(): Promise<IteratorResult<ReceivedOf<SocketKind>, void>> {
    if (this.#over) return { done: true, value: undefined };
    try {
      const incoming = await this.#target.next();
      if (incoming !== undefined) {
        return { done: false, value: new ReceivedSocket(incoming) as Received<AnySocket> as ReceivedOf<SocketKind> };
      }
    } catch (error) {
      this.#leave();
      throw error;
    }
    this.#leave();
    return { done: true, value: undefined };
  }

  // deno-lint-ignore require-await -- an iterator's `return` is asynchronous
  async return(): Promise<IteratorResult<ReceivedOf<SocketKind>, void>> {
    this.#leave();
    return { done: true, value: undefined };
  }

  async throw(error: unknown): Promise<IteratorResult<ReceivedOf<SocketKind>, void>> {
    await this.return();
    throw error;
  }

  get messages(): AsyncIterable<unknown> {
    return this.#target.messages;
  }

  async send(socket: AnySocket, options: SendOptions = {}): Promise<void> {
    await this.#target.send(socket, options);
  }

  async postMessage(message: unknown, options: PostMessageOptions = {}): Promise<void> {
    await this.#target.postMessage(message, options);
  }

  ref(): void {
    this.#target.setReferenced(true);
  }

  unref(): void {
    this.#target.setReferenced(false);
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
