/**
 * The engine that serves with `node:http`. It serves any connection, including TLS, on any version of Deno.
 *
 * @module
 */
import net from "node:net";
import type { Socket as NodeSocket } from "node:net";
import type { IncomingMessage } from "node:http";
import { setImmediate } from "node:timers";
import type { SocketAddr } from "../ffi/socket_address.ts";
import {
  ARRIVAL_MS,
  FAREWELL_MS,
  FIRST_REQUEST_MS,
  type HttpConnection,
  type HttpEngine,
} from "./connection_server.ts";
import { Exchange, type ExchangeContext, type Upgrade } from "./exchange.ts";
import { NodeServer } from "./node_server.ts";
import type { HttpHandler, HttpSettings } from "./options.ts";
import type { NodeResponse } from "./response.ts";
import type { ConnectionInfo } from "./handler.ts";
import { SlowClients } from "./slow_clients.ts";
import { asksForUpgrade, refusalOf, RequestBody } from "./request.ts";
import { WebSockets } from "./web_sockets.ts";

/**
 * The number of waiting requests above which no more are read. Requests that have already been read with them also
 * wait.
 */
const MAX_WAITING = 100;
/** The precision of the time after which idle connections are closed at the shutdown, in milliseconds. */
const STEP_MS = 50;

/**
 * Answers one request after the other, as `Deno.serve` does. A client may send many requests without waiting for
 * responses. A waiting request costs little.
 */
class RequestQueue {
  readonly #stream: NodeSocket & { _paused?: boolean };
  readonly #waiting: (() => void)[] = [];
  #taken = false;

  constructor(stream: NodeSocket) {
    this.#stream = stream;
  }

  /** Whether all requests are answered. */
  get idle(): boolean {
    return !this.#taken;
  }

  /** Whether no request waits behind the one that is being answered. */
  get isLast(): boolean {
    return this.#waiting.length === 0;
  }

  /** Answers a request when all requests before it are answered. */
  run(answer: () => void): void {
    if (this.idle) {
      this.#taken = true;
      return answer();
    }
    if (this.#waiting.push(answer) < MAX_WAITING) return;
    // The server itself does this when too much data waits to be sent. Without the mark, it would read on after each
    // response.
    this.#stream._paused = true;
    this.#stream.pause();
  }

  /** Continues with the next request, when a response has been sent or cannot be sent. */
  next(): void {
    if (!this.#stream.writable) this.#waiting.length = 0;
    const next = this.#waiting.shift();
    // This makes the server read on, because the body of the last request may be in flight. Deno's server does not
    // always emit this event.
    if (this.#stream._paused && this.#waiting.length === 0) this.#stream.emit("drain");
    if (next !== undefined) next();
    else this.#taken = false;
  }
}

/** A connection that the engine serves. */
interface Connection extends ConnectionInfo {
  readonly stream: NodeSocket;
  /** The stream that responses are written to: `stream`, or TLS on it. */
  readonly served: NodeSocket;
  readonly turns: RequestQueue;
  /** The last response, sent or not. */
  response?: NodeResponse;
  /** The request that is being answered. */
  exchange?: Exchange;
  /** The body of the last request. */
  body?: RequestBody;
  /** Whether the client has ended its side. */
  halfOpen: boolean;
  /** The time when the connection began or was last used. */
  since: number;
}

/** Serves connections with a server of `node:http` that does not listen. */
export class NodeEngine implements HttpEngine {
  readonly #settings: HttpSettings;
  readonly #context: ExchangeContext;
  readonly #changed: () => void;
  readonly #node: NodeServer;
  readonly #slowClients: SlowClients;
  readonly #open = new Set<Connection>();
  readonly #peers = new WeakMap<NodeSocket, Connection>();
  readonly #farewells = new Set<ReturnType<typeof setTimeout>>();
  #draining = false;
  #referenced = true;

  /** @param changed Called when a connection has closed. */
  constructor(handler: HttpHandler<SocketAddr>, settings: HttpSettings, changed: () => void) {
    this.#settings = settings;
    this.#context = { handler, onError: settings.onError, webSockets: new WebSockets(settings) };
    this.#changed = changed;
    this.#node = new NodeServer(settings, {
      request: (request, response) => {
        this.#peers.get(request.socket as NodeSocket)!.turns.run(() => this.#exchange(request, response));
      },
      isAnswering: (socket) => {
        const { turns, response, exchange } = this.#peers.get(socket) ?? {};
        if (exchange === undefined || !response!.req.complete || !turns!.isLast) return false;
        response!.shouldKeepAlive = false;
        return true;
      },
      mayUpgrade: ({ socket }) => this.#peers.get(socket as NodeSocket)!.turns.idle,
      upgrade: (request, response, socket, head) => this.#exchange(request, response, { socket, head }),
    });
    this.#slowClients = new SlowClients(settings.sendTimeout, settings.minSendRate);
  }

  get connectionCount(): number {
    return this.#open.size;
  }

  serve({ socket, data }: HttpConnection<SocketAddr>): void {
    const { localAddr, remoteAddr } = socket;
    const stream = socket.toNodeSocket(this.#settings);
    const served = this.#node.serve(stream);
    const turns = new RequestQueue(served);
    const connection: Connection = {
      stream,
      served,
      localAddr,
      remoteAddr,
      data,
      turns,
      halfOpen: false,
      since: performance.now(),
    };
    this.#open.add(connection);
    if (!this.#referenced) stream.unref();
    stream.once("close", () => {
      this.#open.delete(connection);
      this.#changed();
    });
    this.#peers.set(served, connection);
    served.once("end", () => this.#halfOpen(connection));
    this.#slowClients.watch(served, stream, () => connection.response);
    if (this.#draining) this.#letGo([connection]);
  }

  drain(): void {
    this.#draining = true;
    for (const { exchange, response } of this.#open) {
      if (exchange !== undefined && !response!.headersSent) response!.shouldKeepAlive = false;
    }
    this.#context.webSockets.goAway();
    this.#letGo([...this.#open]);
  }

  setReferenced(referenced: boolean): void {
    this.#referenced = referenced;
    for (const { stream } of this.#open) {
      if (referenced) stream.ref();
      else stream.unref();
    }
  }

  end(): void {
    for (const { stream } of this.#open) stream.destroy();
  }

  stop(): void {
    for (const timer of this.#farewells) clearTimeout(timer);
    this.#node.close();
    this.#slowClients.stop();
  }

  #exchange(request: IncomingMessage, response: NodeResponse, upgrade?: Upgrade): void {
    const peer = this.#peers.get(request.socket as NodeSocket)!;
    const body = new RequestBody(request, response, this.#settings.maxRequestBodySize);
    const exchange = new Exchange(this.#context, peer, request, response, body, upgrade);
    peer.response = response;
    peer.exchange = exchange;
    peer.body = body;
    if (this.#draining || asksForUpgrade(request)) response.shouldKeepAlive = false;
    response.once("close", () => {
      if (peer.exchange === exchange) delete peer.exchange;
      peer.since = performance.now();
      exchange.closed();
      peer.turns.next();
      if (this.#draining) this.#letGo([peer]);
    });
    if (peer.halfOpen) exchange.abort();
    const refusal = refusalOf(request, body);
    if (refusal === undefined) exchange.answer();
    else response.writeHead(refusal, { connection: "close", "content-length": 0 }).end();
  }

  /**
   * Closes the connections that wait for a request or for a body that is not read, as soon as they were idle for a while.
   */
  #letGo(connections: Connection[]): void {
    const now = performance.now();
    const byDelay = Map.groupBy(connections, ({ stream, since, response }) => {
      const left = since + (response === undefined ? FIRST_REQUEST_MS : FAREWELL_MS) - now;
      // Other streams see only after a while that a request has arrived.
      const least = stream instanceof net.Socket ? ARRIVAL_MS : FAREWELL_MS;
      // Connections with almost the same delay share a timer.
      return Math.max(least, Math.ceil(left / STEP_MS) * STEP_MS);
    });
    for (const [delay, some] of byDelay) this.#closeLater(some, delay);
  }

  /** Closes the connections that, after a delay, wait for a request or for a body that is not read. */
  #closeLater(connections: Connection[], delay: number): void {
    const close = () => {
      for (const { stream, served, exchange, body } of connections) {
        if (exchange === undefined && !body?.isRead && stream.writableLength + served.writableLength === 0) {
          stream.destroy();
        }
      }
    };
    const timer = setTimeout(() => {
      this.#farewells.delete(timer);
      // Data that has arrived by now is read first, even if this timer is late.
      setImmediate(close);
    }, delay);
    this.#farewells.add(timer);
  }

  /**
   * Closes a connection whose client ended its side and does not take responses. Such a client may have disconnected or
   * may wait for its response, and only sending the response shows which. It has the `keepAliveTimeout` for that, from
   * the last write.
   */
  #halfOpen(connection: Connection): void {
    const { stream, served } = connection;
    connection.halfOpen = true;
    connection.exchange?.abort();
    let [response, writes] = [connection.response, connection.response?.writes];
    const timer = setInterval(() => {
      // Data that waits for a slow client is handled in `slow_clients.ts`.
      const waits = served.writableLength > 0 || response?.writableEnded && !response.sent;
      if (!waits && connection.response === response && response?.writes === writes) stream.destroy();
      [response, writes] = [connection.response, connection.response?.writes];
    }, this.#settings.keepAliveTimeout);
    Deno.unrefTimer(timer);
    if (stream.destroyed) clearInterval(timer);
    stream.once("close", () => clearInterval(timer));
  }
}
