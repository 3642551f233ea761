/**
 * WebSockets: the handshake, the end of idle ones, and the end of all of them.
 *
 * @module
 */
import type { Duplex } from "node:stream";
import { WebSocketConnection, WebSocketServer, type WsServer, type WsSocket } from "./npm.ts";
import type { IncomingMessage } from "node:http";
import type { HttpSettings, WebSocketUpgradeOptions } from "./options.ts";

/**
 * Asks a client that has been silent for half of the time whether it is there, and ends its WebSocket if nothing comes for
 * the other half. While something waits to be sent, what counts is how much of it the client takes, which is looked at
 * elsewhere.
 *
 * @param socket The WebSocket, which is open.
 * @param connection What it is on.
 * @param idleTimeout The time, in milliseconds; 0 for any time.
 */
function endWhenIdle(socket: WsSocket, connection: Duplex, idleTimeout: number): void {
  if (idleTimeout === 0) return;
  const half = idleTimeout / 2;
  let heard = performance.now();
  let asked: number | undefined;
  let timer: ReturnType<typeof setTimeout>;
  const hear = () => {
    heard = performance.now();
    asked = undefined;
  };
  const check = () => {
    if (socket.readyState !== socket.OPEN) return;
    if (socket.bufferedAmount > 0) hear();
    const now = performance.now();
    const silent = now - heard;
    if (silent < half) return wait(half - silent);
    // If the check comes as late as that, it is this process that was busy.
    if (asked !== undefined && now - asked < idleTimeout) return socket.terminate();
    asked = now;
    socket.ping();
    wait(half);
  };
  const wait = (delay: number) => {
    timer = setTimeout(check, Math.ceil(delay));
    Deno.unrefTimer(timer);
  };
  connection.on("data", hear);
  socket.once("close", () => clearTimeout(timer));
  wait(half);
}

/** The longest that a timer can wait, in whole seconds. */
const LONGEST_S = 2_147_483;
const GOING_AWAY = 1001;
/** What a WebSocket is closed with whose handler fails. */
export const INTERNAL_ERROR = 1011;

/** The only version there is; `ws` knows an older one besides, which no client has. */
const VERSION = "13";
/** What the handshake is made of. Sent twice, a client would take the one or the other. */
const OWN_HEADERS = /^(connection|upgrade|content-length|transfer-encoding|trailer|sec-websocket-.*)$/;

/** A request for a WebSocket that is not as it must be. */
export class HandshakeError extends TypeError {
  override readonly name = "TypeError";
  /** Whether it asks for another version than there is. */
  readonly isVersion: boolean;

  constructor(message: string, isVersion = false) {
    super(`Cannot upgrade to a WebSocket: ${message}`);
    this.isVersion = isVersion;
  }

  /** What the client is answered. */
  response(): Response {
    if (!this.isVersion) return new Response("Bad Request", { status: 400 });
    const headers = { "sec-websocket-version": VERSION, upgrade: "websocket" };
    return new Response("Upgrade Required", { status: 426, headers });
  }
}

/** The WebSockets of one server. */
export class WebSockets {
  /** What each begins with. */
  readonly #open = new Map<WsSocket, () => void>();
  readonly #server: WsServer;
  /** Of the handshake at hand, which ws does in one go. */
  #options: WebSocketUpgradeOptions = {};
  #failure: Error | undefined;
  #goingAway = false;

  constructor({ maxMessageSize, maxBufferedAmount }: Pick<HttpSettings, "maxMessageSize" | "maxBufferedAmount">) {
    this.#server = new WebSocketServer({
      noServer: true,
      maxPayload: maxMessageSize,
      clientTracking: false,
      WebSocket: boundedWebSocket(maxBufferedAmount),
      handleProtocols: (offered) => {
        const { protocol } = this.#options;
        return protocol !== undefined && offered.has(protocol) && protocol;
      },
    });
    this.#server.on("wsClientError", (error) => this.#failure = error);
    this.#server.on("headers", (lines) => {
      for (const [name, value] of new Headers(this.#options.headers)) lines.push(`${name}: ${value}`);
    });
  }

  /**
   * Answers the handshake.
   *
   * @returns The WebSocket, which receives nothing yet: {@linkcode begin} it when its listeners are there.
   * @throws {HandshakeError} If it is not as it must be.
   * @throws {TypeError} If a header is one of the handshake's own.
   * @throws {RangeError} If the `idleTimeout` is out of its range.
   */
  open(request: IncomingMessage, socket: Duplex, head: Uint8Array, options: WebSocketUpgradeOptions): WsSocket {
    const { idleTimeout = 30 } = options;
    if (!(idleTimeout >= 0 && idleTimeout <= LONGEST_S)) {
      throw new RangeError(`Invalid \`idleTimeout\`: must be from 0 to ${LONGEST_S} seconds, got ${idleTimeout}`);
    }
    const headers = new Headers(options.headers);
    for (const name of headers.keys()) {
      if (OWN_HEADERS.test(name)) throw new TypeError(`The handshake of a WebSocket has a "${name}" of its own`);
    }
    checkHandshake(request);
    this.#options = { ...options, headers };
    this.#failure = undefined;
    let opened: WsSocket | undefined;
    this.#server.handleUpgrade(request, socket, head, (webSocket) => opened = webSocket);
    if (opened === undefined) {
      const { message = "the client has gone" } = this.#failure ?? {};
      throw new HandshakeError(message);
    }
    const webSocket = opened;
    this.#keep(webSocket, () => endWhenIdle(webSocket, socket, idleTimeout * 1_000));
    return webSocket;
  }

  /** Lets it receive. */
  begin(socket: WsSocket): void {
    this.#open.get(socket)?.();
    socket.emit("open");
    socket.resume();
    if (this.#goingAway) socket.close(GOING_AWAY);
  }

  /** Asks the clients to close, those of handshakes under way too. */
  goAway(): void {
    this.#goingAway = true;
    for (const socket of this.#open.keys()) socket.close(GOING_AWAY);
  }

  #keep(socket: WsSocket, begin: () => void): void {
    this.#open.set(socket, begin);
    socket.once("close", () => this.#open.delete(socket));
    // What is no WebSocket frame is an error of the socket's, which without a listener would end the process.
    socket.on("error", () => {});
    socket.binaryType = "arraybuffer";
    socket.pause();
  }
}

/** Checks of a request for a WebSocket what `ws` does not, or does not tell. */
function checkHandshake({ headers }: IncomingMessage): void {
  const asks = headers.upgrade?.toLowerCase() === "websocket";
  if (!asks || !/(^|,)\s*upgrade\s*(,|$)/i.test(headers.connection ?? "")) {
    throw new HandshakeError("the request does not ask for it");
  }
  const version = headers["sec-websocket-version"];
  if (version !== VERSION) throw new HandshakeError(`its version is ${version ?? "missing"}, not ${VERSION}`, true);
}

/**
 * WebSockets whose listeners may throw: that is an error of the program as any other, and the WebSocket goes on, as Deno's
 * do. Within `ws` it would end the reading, without a word. And they end when more waits for a client that does not read: messages, and what answers its pings. */
function boundedWebSocket(maxBufferedAmount: number): typeof WebSocketConnection {
  return class extends WebSocketConnection {
    override on(event: string, listener: (...values: unknown[]) => void): unknown {
      // What throws as it opens is the handler's fault, which is looked after elsewhere.
      if (event === "open") return super.on(event, listener);
      return super.on(event, new Proxy(listener, { apply: applyOrReport }));
    }

    override send(...message: unknown[]): void {
      if (this.bufferedAmount > maxBufferedAmount) this.terminate();
      else super.send(...message);
    }

    override pong(...answer: unknown[]): void {
      if (this.bufferedAmount > maxBufferedAmount) this.terminate();
      else super.pong(...answer);
    }
  };
}

/** Calls a function, and reports what it throws where what nobody catches is reported. */
function applyOrReport(called: (...values: unknown[]) => void, self: unknown, values: unknown[]): void {
  try {
    Reflect.apply(called, self, values);
  } catch (error) {
    reportError(error);
  }
}
