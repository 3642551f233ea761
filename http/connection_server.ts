/**
 * A server without a port: the connections it has, the engine that serves them, and their end.
 *
 * @module
 */
import type { SocketAddr } from "../ffi/socket_address.ts";
import { acceptWithRetry, Listener } from "../sockets/listener.ts";
import { Socket } from "../sockets/socket.ts";
import { reportError } from "./handler.ts";
import type { HttpServer, HttpSettings } from "./options.ts";

/** How long a connection that waits for a request has at the shutdown, in milliseconds: one may be on its way. */
export const FAREWELL_MS = 250;

/** Parses requests, lets the handler answer them, and sends the responses. */
export interface HttpEngine {
  /** How many connections it serves, WebSockets included. */
  readonly connectionCount: number;

  /** Serves a connection until it closes, and has its socket from then on. If this throws, it is left alone. */
  serve(connection: HttpConnection<SocketAddr>): void;

  /** Lets each connection go after its next response, and asks WebSockets to close. */
  drain(): void;

  /** Whether its connections, now and later, are to keep the process running. */
  setReferenced(referenced: boolean): void;

  /** Closes all connections. */
  end(): void;

  /** Ends what goes on beside connections, when there are none any more. */
  stop(): void;
}

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
 * Where connections come from: a listener, `receive()`, or anything that yields sockets. What has the methods `ref` and
 * `unref` is told by them whether waiting for a connection is to keep the process running.
 *
 * @typeParam A What their addresses are: of TCP, or `Deno.UnixAddr`.
 */
export type HttpConnections<A extends SocketAddr = Deno.NetAddr> =
  | Listener<A>
  | AsyncIterable<Socket<A> | HttpConnection<A>>;

type AnyConnection = Socket<SocketAddr> | HttpConnection<SocketAddr>;

/** Yields one connection after the other, until it is stopped. */
class ConnectionSource {
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
    const next = this.#source instanceof Listener ? await acceptWithRetry(this.#source, onError) : await this.#pull();
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

  /** Whether waiting for a connection is to keep the process running, of a source that can tell the difference. */
  setReferenced(referenced: boolean): void {
    const source = this.#source as Partial<Record<"ref" | "unref", () => void>>;
    if (referenced) source.ref?.();
    else source.unref?.();
  }

  async #pull(): Promise<AnyConnection | undefined> {
    const source = this.#source as AsyncIterable<AnyConnection>;
    this.#iterator ??= source[Symbol.asyncIterator]();
    const { done, value } = await this.#iterator.next();
    return done ? undefined : value;
  }
}

/** How long a listener may take to close: as a rule no time at all, on a system that is out of threads for ever. */
const CLOSE_MS = 1_000;

/** Serves connections that come from somewhere else. */
export class ConnectionServer implements HttpServer {
  readonly finished: Promise<void>;
  readonly addr: SocketAddr | undefined;

  readonly #settings: HttpSettings;
  readonly #engine: HttpEngine;
  readonly #intake: ConnectionSource;
  /** Connections that are accepted, and not served yet. */
  #accepting = 0;
  #room: PromiseWithResolvers<void> | undefined;
  #draining = false;
  /** Whether a listener leaves nothing at its address, or there was no more time to wait for that. */
  #closed = false;
  /** Whether it keeps no connection any more. */
  #ended = false;
  #done = false;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #failure: { error: unknown } | undefined;
  readonly #finished = Promise.withResolvers<void>();

  /** @param makeEngine Makes what serves the connections, and tells when one has closed. */
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
      for (;;) {
        while (this.connectionCount >= this.#settings.maxConnections) await this.#untilRoom();
        const connection = await this.#intake.next((error) => reportError(this.#settings.onError, error));
        if (connection === undefined) break;
        this.#take(connection);
      }
    } catch (error) {
      this.#failure = { error };
      reportError(this.#settings.onError, error);
    }
    this.#drain();
  }

  async #take(connection: HttpConnection<SocketAddr>): Promise<void> {
    const { socket } = connection;
    if (this.#draining && giveBack(connection)) return;
    if (this.#ended) return socket.close();
    this.#accepting++;
    try {
      if (await accepted(connection) && !this.#ended) this.#engine.serve(connection);
      else socket.close();
    } catch (error) {
      socket.close();
      // A peer that has reset the connection already has no address.
      if (!(error instanceof Deno.errors.NotConnected)) {
        reportError(this.#settings.onError, error);
      }
    } finally {
      this.#accepting--;
      this.#changed();
    }
  }

  /** Takes no more connections, and lets each go after its next response. */
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

  /** Closes everything. */
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

/** Whether a connection could be taken; if not, whoever offered it has taken it back, and knows. */
async function accepted(connection: HttpConnection<SocketAddr>): Promise<boolean> {
  try {
    await connection.accept?.();
    return true;
  } catch {
    return false;
  }
}

/** Whether a connection could be left to whoever offered it. */
function giveBack(connection: HttpConnection<SocketAddr>): boolean {
  try {
    connection.reject?.("the server is shutting down");
    return connection.reject !== undefined;
  } catch {
    // It was accepted before.
    return false;
  }
}
