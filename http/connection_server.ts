/**
 * A server without a port: its connections, the engine that serves them, and its shutdown.
 *
 * @module
 */
import type { SocketAddr } from "../ffi/socket_address.ts";
import { INVALID_SOCKET } from "../ffi/platform.ts";
import { acceptWhile, acceptWithRetry, Listener, type Passing, passWhile } from "../sockets/listener.ts";
import { Socket } from "../sockets/socket.ts";
import { reportError } from "./handler.ts";
import type { HttpServer, HttpSettings } from "./options.ts";

/**
 * The time from the last use of a connection, in milliseconds, before which the shutdown does not close it, because a
 * request may be in flight. Connections that were idle for that time are closed at once.
 */
export const FAREWELL_MS = 250;
/**
 * The same for the first request of a connection, in milliseconds from its beginning. A client that has just connected is
 * about to send it.
 */
export const FIRST_REQUEST_MS = 1_000;
/** The time for requests that have arrived to be read before that, in milliseconds. */
export const ARRIVAL_MS = 20;

/** Parses requests, calls the handler, and sends the responses. */
export interface HttpEngine {
  /** The number of open connections, including WebSockets. */
  readonly connectionCount: number;

  /** Serves a connection until it closes. It owns the socket from then on; if this throws, the caller still owns it. */
  serve(connection: HttpConnection<SocketAddr>): void;

  /** Closes each connection after its next response, and asks WebSockets to close. */
  drain(): void;

  /** Sets whether its connections, including later ones, keep the process running. */
  setReferenced(referenced: boolean): void;

  /** Closes all connections. */
  end(): void;

  /** Stops timers and other background work, when all connections have closed. */
  stop(): void;
}

/**
 * A connection and its data: an element of `receive()`, or an inherited connection.
 *
 * @typeParam A The type of its addresses: of TCP, or `Deno.UnixAddr`.
 */
export interface HttpConnection<A extends SocketAddr = Deno.NetAddr> {
  /** The connection. */
  readonly socket: Socket<A>;
  /** The data that handlers get as {@linkcode HttpInfo.data}. */
  readonly data?: unknown;
  /** Takes the connection, if it is not taken automatically. */
  accept?(): Promise<void>;
  /** Rejects the connection, if it is not accepted yet. The source then has it back. */
  reject?(reason: string): void;
}

/**
 * The origin of the connections: a listener, `receive()`, or any iterable of sockets. If it has the methods `ref` and
 * `unref`, the server calls them to set whether waiting for a connection keeps the process running.
 *
 * @typeParam A The type of the connections' addresses: of TCP, or `Deno.UnixAddr`.
 */
export type HttpConnections<A extends SocketAddr = Deno.NetAddr> =
  | Listener<A>
  | AsyncIterable<Socket<A> | HttpConnection<A>>;

type AnyConnection = Socket<SocketAddr> | HttpConnection<SocketAddr>;

/** Passes connections on, until it is stopped. */
class ConnectionSource {
  readonly #source: HttpConnections<SocketAddr>;
  #iterator: AsyncIterator<AnyConnection> | undefined;
  #stopped = false;

  constructor(source: HttpConnections<SocketAddr>) {
    this.#source = source;
  }

  /**
   * Passes connections on while they are wanted.
   *
   * @param wanted Returns whether another connection is wanted.
   * @param passed Gets each connection.
   * @param onError Called with an error that prevented a listener from accepting. The listener continues.
   * @returns Resolves with whether more connections may arrive.
   * @throws Any error that the iterable throws.
   */
  async passWhile(
    wanted: () => boolean,
    passed: (connection: HttpConnection<SocketAddr>) => void,
    onError: (error: unknown) => void,
  ): Promise<boolean> {
    const source = this.#source;
    if (this.#stopped) return false;
    if (source instanceof Listener) {
      const pass = (socket: Socket<SocketAddr>) => passed({ socket });
      await acceptWithRetry(source, onError, async () => void await acceptWhile(source, wanted, pass, true));
      return source.handle !== INVALID_SOCKET;
    }
    if (!(passWhile in source)) {
      const next = await this.#pull(source);
      if (next !== undefined) passed(asConnection(next));
      return next !== undefined;
    }
    this.#iterator ??= source[Symbol.asyncIterator]();
    let invalid: { error: unknown } | undefined;
    const more = await (source as unknown as Passing<AnyConnection>)[passWhile](
      () => invalid === undefined && wanted(),
      (next) => {
        try {
          passed(asConnection(next));
        } catch (error) {
          invalid = { error };
        }
      },
    );
    if (invalid !== undefined) throw (invalid as { error: unknown }).error;
    return more;
  }

  /**
   * Takes no more connections: closes a listener, or tells an iterable to return. An iterable may still yield the
   * connection that was already requested.
   *
   * @returns Resolves when this process has nothing left at the address of a listener.
   */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    const source = this.#source;
    if (source instanceof Listener) {
      source.close();
      await source.pause();
    } else {
      // A generator that waits for its source only answers after that, so its answer is not awaited.
      this.#iterator?.return?.()?.catch(() => {});
    }
  }

  /** Sets whether waiting for a connection keeps the process running, if the source supports it. */
  setReferenced(referenced: boolean): void {
    const source = this.#source as Partial<Record<"ref" | "unref", () => void>>;
    if (referenced) source.ref?.();
    else source.unref?.();
  }

  async #pull(source: AsyncIterable<AnyConnection>): Promise<AnyConnection | undefined> {
    this.#iterator ??= source[Symbol.asyncIterator]();
    const { done, value } = await this.#iterator.next();
    return done ? undefined : value;
  }
}

/** @throws {TypeError} If it is not a connection. */
function asConnection(next: AnyConnection): HttpConnection<SocketAddr> {
  if (next instanceof Socket) return { socket: next };
  if (next.socket instanceof Socket) return next;
  throw new TypeError("Invalid `connections`: must yield a Socket or an HttpConnection");
}

/**
 * The time for a listener to close, in milliseconds. It usually closes immediately, but never if the system is out of
 * threads.
 */
const CLOSE_MS = 1_000;

/** Serves connections that were accepted elsewhere. */
export class ConnectionServer implements HttpServer {
  readonly finished: Promise<void>;
  readonly addr: SocketAddr | undefined;

  readonly #settings: HttpSettings;
  readonly #engine: HttpEngine;
  readonly #intake: ConnectionSource;
  /** The number of connections that are being accepted and are not served yet. */
  #accepting = 0;
  #room: PromiseWithResolvers<void> | undefined;
  #draining = false;
  /** Whether the listener has nothing left at its address, or the time to wait for that is over. */
  #closed = false;
  /** Whether it no longer keeps connections. */
  #ended = false;
  #done = false;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #failure: { error: unknown } | undefined;
  readonly #finished = Promise.withResolvers<void>();

  /** @param makeEngine Creates the engine. The engine calls `changed` when a connection has closed. */
  constructor(
    connections: HttpConnections<SocketAddr>,
    settings: HttpSettings,
    makeEngine: (changed: () => void) => HttpEngine,
  ) {
    this.#settings = settings;
    this.#engine = makeEngine(() => this.#changed());
    this.#intake = new ConnectionSource(connections);
    this.addr = connections instanceof Listener ? connections.addr : undefined;
    this.finished = this.#finished.promise;
    this.finished.catch(() => {});
    const { signal } = settings;
    const abort = () => this.#end();
    signal?.addEventListener("abort", abort, { once: true });
    this.finished.catch(() => {}).then(() => signal?.removeEventListener("abort", abort));
    if (signal?.aborted) this.#end();
    this.#takeAll();
  }

  get engine(): HttpServer["engine"] {
    return this.#settings.engine;
  }

  get connectionCount(): number {
    return this.#engine.connectionCount + this.#accepting;
  }

  ref(): void {
    this.#intake.setReferenced(true);
    this.#engine.setReferenced(true);
  }

  unref(): void {
    this.#intake.setReferenced(false);
    this.#engine.setReferenced(false);
  }

  async shutdown(): Promise<void> {
    this.#drain();
    await this.finished.catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  async #takeAll(): Promise<void> {
    try {
      const { maxConnections } = this.#settings;
      const wanted = () => this.connectionCount < maxConnections;
      const take = (connection: HttpConnection<SocketAddr>) => this.#take(connection);
      const onError = (error: unknown) => void reportError(this.#settings.onError, error);
      do {
        while (!wanted()) await this.#untilRoom();
      } while (await this.#intake.passWhile(wanted, take, onError));
    } catch (error) {
      this.#failure = { error };
      reportError(this.#settings.onError, error);
    }
    this.#drain();
  }

  #take(connection: HttpConnection<SocketAddr>): void {
    if (this.#draining && giveBack(connection)) return;
    if (connection.accept === undefined) return this.#serve(connection);
    this.#accepting++;
    accepted(connection).then((mine) => {
      this.#accepting--;
      if (mine) this.#serve(connection);
      else connection.socket.close();
      this.#changed();
    });
  }

  #serve(connection: HttpConnection<SocketAddr>): void {
    const { socket } = connection;
    if (this.#ended) return socket.close();
    try {
      this.#engine.serve(connection);
    } catch (error) {
      socket.close();
      // If the peer has already reset the connection, it does not have an address.
      if (!(error instanceof Deno.errors.NotConnected)) {
        reportError(this.#settings.onError, error);
      }
    }
  }

  /** Takes no more connections, and closes each connection after its next response. */
  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#closeIntake();
    this.#room?.resolve();
    this.#engine.drain();
    this.#deadline = setTimeout(() => this.#end(), this.#settings.shutdownTimeout);
    this.#changed();
  }

  async #closeIntake(): Promise<void> {
    const closed = () => {
      this.#closed = true;
      this.#changed();
    };
    const late = setTimeout(closed, CLOSE_MS);
    await this.#intake.stop().catch((error) => void reportError(this.#settings.onError, error));
    clearTimeout(late);
    closed();
  }

  /** Closes all connections. */
  #end(): void {
    this.#ended = true;
    this.#drain();
    this.#engine.end();
    this.#changed();
  }

  #untilRoom(): Promise<void> {
    this.#room ??= Promise.withResolvers();
    return this.#room.promise;
  }

  #changed(): void {
    this.#room?.resolve();
    this.#room = undefined;
    const { connectionCount } = this.#ended ? this.#engine : this;
    if (!this.#closed || this.#done || connectionCount > 0) return;
    this.#ended = this.#done = true;
    clearTimeout(this.#deadline);
    this.#engine.stop();
    if (this.#failure === undefined) this.#finished.resolve();
    else this.#finished.reject(this.#failure.error);
  }
}

/** Accepts a connection. Returns false if that fails: then the source has withdrawn the connection. */
async function accepted(connection: HttpConnection<SocketAddr>): Promise<boolean> {
  try {
    await connection.accept?.();
    return true;
  } catch {
    return false;
  }
}

/** Rejects a connection, so that its source has it back. Returns false if that is not possible. */
function giveBack(connection: HttpConnection<SocketAddr>): boolean {
  try {
    connection.reject?.("the server is shutting down");
    return connection.reject !== undefined;
  } catch {
    // It was already accepted.
    return false;
  }
}
