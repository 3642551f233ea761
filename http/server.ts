/**
 * A server without a port.
 *
 * @module
 */
import type { SocketAddr } from "../sockets/address.ts";
import { Listener } from "../sockets/listener.ts";
import { type HttpConnection, type HttpConnections, Intake } from "./connections.ts";
import type { HttpEngine } from "./engine.ts";
import { tell } from "./errors.ts";
import type { HttpServer, HttpSettings } from "./options.ts";

/** How long a listener may take to close: as a rule no time at all, on a system that is out of threads for ever. */
const CLOSE_MS = 1_000;

/** Serves connections that come from somewhere else. */
export class ConnectionServer implements HttpServer {
  readonly finished: Promise<void>;
  readonly addr: SocketAddr | undefined;

  readonly #settings: HttpSettings;
  readonly #engine: HttpEngine;
  readonly #intake: Intake;
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
    this.#intake = new Intake(connections);
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
        const connection = await this.#intake.next((error) => tell(this.#settings.onError, error));
        if (connection === undefined) break;
        this.#take(connection);
      }
    } catch (error) {
      this.#failure = { error };
      tell(this.#settings.onError, error);
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
      if (!(error instanceof Error && "codeName" in error && error.codeName === "WSAENOTCONN")) {
        tell(this.#settings.onError, error);
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
    await this.#intake.stop().catch((error) => void tell(this.#settings.onError, error));
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
