/**
 * A server without a port.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { Socket as NodeSocket } from "node:net";
import type { SocketAddr } from "../sockets/address.ts";
import { type HttpConnection, type HttpConnections, Intake } from "./connections.ts";
import { Exchange, type ExchangeContext, type Peer, type Upgrade } from "./exchange.ts";
import { NodeServer } from "./node_server.ts";
import type { HttpHandler, HttpServer, HttpSettings } from "./options.ts";
import type { Outgoing } from "./outgoing.ts";
import { SlowClients } from "./slow_clients.ts";
import { Turns } from "./turns.ts";
import { WebSockets } from "./web_sockets.ts";

/** What Node adds to the time a connection is kept, for a request that is on its way. */
const KEEP_ALIVE_BUFFER_MS = 1_000;

/** A connection that is served. */
interface Connection extends Peer {
  readonly stream: NodeSocket;
  readonly turns: Turns;
  /** The last one, sent or not. */
  response?: Outgoing;
}

/** Serves connections that come from somewhere else. */
export class ConnectionServer implements HttpServer {
  readonly finished: Promise<void>;

  readonly #settings: HttpSettings;
  readonly #context: ExchangeContext;
  readonly #intake: Intake;
  readonly #node: NodeServer;
  readonly #slowClients: SlowClients;
  readonly #open = new Set<NodeSocket>();
  /** Those that have had no request yet. */
  readonly #silent = new Set<NodeSocket>();
  /** Connections that are accepted, and not served yet. */
  #accepting = 0;
  readonly #peers = new WeakMap<NodeSocket, Connection>();
  readonly #responses = new Set<Outgoing>();
  #room: PromiseWithResolvers<void> | undefined;
  #draining = false;
  /** Whether it keeps no connection any more. */
  #ended = false;
  #done = false;
  #deadlines: ReturnType<typeof setTimeout>[] = [];
  #failure: { error: unknown } | undefined;
  readonly #finished = Promise.withResolvers<void>();

  constructor(connections: HttpConnections<SocketAddr>, handler: HttpHandler<SocketAddr>, settings: HttpSettings) {
    this.#settings = settings;
    this.#context = { handler, onError: settings.onError, webSockets: new WebSockets(settings) };
    this.#intake = new Intake(connections);
    this.#node = new NodeServer(settings, {
      request: (request, response) => {
        this.#peers.get(request.socket as NodeSocket)!.turns.take(() => this.#exchange(request, response));
      },
      mayUpgrade: ({ socket }) => this.#peers.get(socket as NodeSocket)!.turns.free,
      upgrade: (request, response, socket, head) => this.#exchange(request, response, { socket, head }),
    });
    this.#slowClients = new SlowClients(settings.sendTimeout, settings.minSendRate);
    this.finished = this.#finished.promise;
    this.finished.catch(() => {});
    const { signal } = settings;
    const abort = () => this.#end();
    signal?.addEventListener("abort", abort, { once: true });
    this.finished.catch(() => {}).then(() => signal?.removeEventListener("abort", abort));
    if (signal?.aborted) this.#end();
    this.#takeAll();
  }

  get connectionCount(): number {
    return this.#open.size + this.#accepting;
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
        const connection = await this.#intake.next((error) => this.#tell(error));
        if (connection === undefined) break;
        this.#take(connection);
      }
    } catch (error) {
      this.#failure = { error };
      this.#tell(error);
    }
    this.#drain();
  }

  async #take(connection: HttpConnection<SocketAddr>): Promise<void> {
    const { socket } = connection;
    if (this.#draining && giveBack(connection)) return;
    if (this.#ended) return socket.close();
    this.#accepting++;
    try {
      if (connection.accept !== undefined && !await accepted(connection) || this.#ended) socket.close();
      else this.#serve(connection);
    } catch (error) {
      socket.close();
      // A peer that has reset the connection already has no address.
      if (!(error instanceof Error && "codeName" in error && error.codeName === "WSAENOTCONN")) this.#tell(error);
    } finally {
      this.#accepting--;
      this.#changed();
    }
  }

  #serve({ socket, data }: HttpConnection<SocketAddr>): void {
    const { localAddr, remoteAddr } = socket;
    const stream = socket.toNodeSocket(this.#settings);
    this.#open.add(stream);
    this.#silent.add(stream);
    stream.once("close", () => {
      this.#open.delete(stream);
      this.#silent.delete(stream);
      this.#changed();
    });
    const served = this.#node.serve(stream);
    const connection: Connection = { stream, localAddr, remoteAddr, data, turns: new Turns(served) };
    this.#peers.set(served, connection);
    this.#slowClients.watch(served, stream, () => connection.response);
  }

  #exchange(request: IncomingMessage, response: Outgoing, upgrade?: Upgrade): void {
    const peer = this.#peers.get(request.socket as NodeSocket)!;
    this.#silent.delete(peer.stream);
    const exchange = new Exchange(this.#context, peer, request, response, upgrade);
    peer.response = response;
    if (this.#draining) response.shouldKeepAlive = false;
    if (upgrade === undefined) this.#responses.add(response);
    response.once("close", () => {
      this.#responses.delete(response);
      exchange.closed();
      peer.turns.pass();
    });
    exchange.answer();
  }

  /** Takes no more connections, and lets each go after its next response. */
  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#intake.stop();
    this.#room?.resolve();
    for (const response of this.#responses) {
      if (!response.headersSent) response.shouldKeepAlive = false;
    }
    this.#context.webSockets.goAway();
    const { keepAliveTimeout, shutdownTimeout } = this.#settings;
    this.#deadlines = [
      setTimeout(() => destroyAll(this.#silent), keepAliveTimeout + KEEP_ALIVE_BUFFER_MS),
      setTimeout(() => this.#end(), shutdownTimeout),
    ];
    this.#changed();
  }

  /** Closes everything. */
  #end(): void {
    this.#ended = true;
    this.#drain();
    destroyAll(this.#open);
    this.#changed();
  }

  #untilRoom(): Promise<void> {
    this.#room ??= Promise.withResolvers();
    return this.#room.promise;
  }

  #changed(): void {
    this.#room?.resolve();
    this.#room = undefined;
    if (!this.#draining || this.#done || (this.#ended ? this.#open.size : this.connectionCount) > 0) return;
    this.#ended = this.#done = true;
    this.#deadlines.forEach(clearTimeout);
    this.#node.close();
    this.#slowClients.stop();
    if (this.#failure === undefined) this.#finished.resolve();
    else this.#finished.reject(this.#failure.error);
  }

  async #tell(error: unknown): Promise<void> {
    try {
      await this.#settings.onError(error);
    } catch (errorOfHandler) {
      console.error(errorOfHandler);
    }
  }
}

function destroyAll(sockets: Iterable<NodeSocket>): void {
  for (const socket of sockets) socket.destroy();
}

/** Whether a connection could be taken; if not, whoever offered it has taken it back, and knows. */
async function accepted(connection: HttpConnection<SocketAddr>): Promise<boolean> {
  try {
    await connection.accept!();
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
