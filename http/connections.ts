/**
 * Taking connections from wherever they come.
 *
 * @module
 */
import { acceptNext } from "../sockets/accepting.ts";
import type { SocketAddr } from "../sockets/address.ts";
import { Listener } from "../sockets/listener.ts";
import { Socket } from "../sockets/socket.ts";

/**
 * A connection and what came with it: what `receive()` yields, and an inherited connection.
 *
 * @typeParam A What its addresses are: of TCP, or `Deno.UnixAddr`.
 */
export interface HttpConnection<A extends SocketAddr = Deno.NetAddr> {
  /** The connection. */
  readonly socket: Socket<A>;
  /** What handlers find as {@linkcode HttpInfo.data}. */
  readonly data?: unknown;
  /** Takes it, where that is done by hand. */
  accept?(): Promise<void>;
  /** Leaves it to whoever offered it, where it is not accepted yet. */
  reject?(reason: string): void;
}

/**
 * Where connections come from: a listener, `receive()`, or anything that yields sockets.
 *
 * @typeParam A What their addresses are: of TCP, or `Deno.UnixAddr`.
 */
export type HttpConnections<A extends SocketAddr = Deno.NetAddr> =
  | Listener<A>
  | AsyncIterable<Socket<A> | HttpConnection<A>>;

type AnyConnection = Socket<SocketAddr> | HttpConnection<SocketAddr>;

/** Yields one connection after the other, until it is stopped. */
export class Intake {
  readonly #source: HttpConnections<SocketAddr>;
  #iterator: AsyncIterator<AnyConnection> | undefined;
  #stopped = false;

  constructor(source: HttpConnections<SocketAddr>) {
    this.#source = source;
  }

  /**
   * The next connection.
   *
   * @param onError Told of what kept a listener from accepting; it goes on.
   * @returns `undefined` when no more will come.
   * @throws What the iterable throws.
   */
  async next(onError: (error: unknown) => void): Promise<HttpConnection<SocketAddr> | undefined> {
    if (this.#stopped) return undefined;
    const next = this.#source instanceof Listener ? await acceptNext(this.#source, onError) : await this.#pull();
    if (next instanceof Socket) return { socket: next };
    if (next === undefined || next.socket instanceof Socket) return next;
    throw new TypeError("What connections yields is no Socket");
  }

  /**
   * Takes no more: closes a listener, tells an iterable. It may yield one more that it was asked for already.
   *
   * @returns Resolves when a listener leaves nothing of this process at its address.
   */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    const source = this.#source;
    if (source instanceof Listener) {
      source.close();
      await source.pause();
    } else {
      // A generator that waits for its source answers only after that; nobody can wait for it here.
      this.#iterator?.return?.()?.catch(() => {});
    }
  }

  async #pull(): Promise<AnyConnection | undefined> {
    const source = this.#source as AsyncIterable<AnyConnection>;
    this.#iterator ??= source[Symbol.asyncIterator]();
    const { done, value } = await this.#iterator.next();
    return done ? undefined : value;
  }
}
