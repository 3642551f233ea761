/**
 * WebSockets: the handshake, the idle timeout, and the shutdown.
 *
 * @module
 */
import { checkOptions, type Rule, STRING } from "../internal/options.ts";
import type { Duplex } from "node:stream";
import { WebSocketConnection, WebSocketServer, type WsServer, type WsSocket } from "./npm.ts";
import type { IncomingMessage } from "node:http";
import type { HttpSettings, WebSocketUpgradeOptions } from "./options.ts";

/**
 * Pings a client after half of the idle timeout, and ends the WebSocket if nothing arrives in the other half. While
 * data waits to be sent, only the progress of the client counts, which `slow_clients.ts` checks.
 *
 * @param socket The open WebSocket.
 * @param connection The connection of the WebSocket.
 * @param idleTimeout The time, in milliseconds; 0 for no limit.
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
    // If the check is late by that much, this process was busy.
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

/** The maximum time of a timer, in whole seconds. */
const LONGEST_S = 2_147_483;
const IDLE_TIMEOUT: Rule = {
  what: `from 0 to ${LONGEST_S} seconds`,
  numeric: true,
  accepts: (value) => typeof value === "number" && value >= 0 && value <= LONGEST_S,
};
const GOING_AWAY = 1001;
/** The code that closes a WebSocket whose handler fails. */
export const INTERNAL_ERROR = 1011;

/** The only version in use. `ws` also supports an older one, which clients do not use. */
const VERSION = "13";
/** The headers of the handshake itself. If one was sent twice, clients could use either. */
const OWN_HEADERS = /^(connection|upgrade|content-length|transfer-encoding|trailer|sec-websocket-.*)$/;

/** The error for an invalid request for a WebSocket. */
export class HandshakeError extends TypeError {
  override readonly name = "TypeError";
  /** Whether the request asks for an unsupported version. */
  readonly isVersion: boolean;

  constructor(message: string, isVersion = false) {
    super(`Cannot upgrade to a WebSocket: ${message}`);
    this.isVersion = isVersion;
  }

  /** Returns the response to the client. */
  response(): Response {
    if (!this.isVersion) return new Response("Bad Request", { status: 400 });
    const headers = { "sec-websocket-version": VERSION, upgrade: "websocket" };
    return new Response("Upgrade Required", { status: 426, headers });
  }
}

/** The WebSockets of one server. */
export class WebSockets {
  /** The open WebSockets, each with the function to call when it begins. */
  readonly #open = new Map<WsSocket, () => void>();
  readonly #server: WsServer;
  /** The options of the current handshake, which ws handles synchronously. */
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
   * @returns The WebSocket. It receives nothing until {@linkcode begin} is called, after its listeners are added.
   * @throws {HandshakeError} If the request is invalid.
   * @throws {TypeError} If an option is of another type, or a header belongs to the handshake itself.
   * @throws {RangeError} If the `idleTimeout` is out of range.
   */
  open(request: IncomingMessage, socket: Duplex, head: Uint8Array, options: WebSocketUpgradeOptions): WsSocket {
    checkOptions(options, { idleTimeout: IDLE_TIMEOUT, protocol: STRING });
    const { idleTimeout = 30 } = options;
    const headers = headersOf(options);
    for (const name of headers.keys()) {
      if (OWN_HEADERS.test(name)) throw new TypeError(`Invalid \`headers\`: must not have "${name}"`);
    }
    checkHandshake(request);
    this.#options = { ...options, headers };
    this.#failure = undefined;
    let opened: WsSocket | undefined;
    this.#server.handleUpgrade(request, socket, head, (webSocket) => opened = webSocket);
    if (opened === undefined) {
      const { message = "the client has disconnected" } = this.#failure ?? {};
      throw new HandshakeError(message);
    }
    const webSocket = opened;
    this.#keep(webSocket, () => endWhenIdle(webSocket, socket, idleTimeout * 1_000));
    return webSocket;
  }

  /** Lets a WebSocket receive. */
  begin(socket: WsSocket): void {
    this.#open.get(socket)?.();
    socket.emit("open");
    socket.resume();
    if (this.#goingAway) socket.close(GOING_AWAY);
  }

  /** Asks the clients to close, including those whose handshake has not ended. */
  goAway(): void {
    this.#goingAway = true;
    for (const socket of this.#open.keys()) socket.close(GOING_AWAY);
  }

  #keep(socket: WsSocket, begin: () => void): void {
    this.#open.set(socket, begin);
    socket.once("close", () => this.#open.delete(socket));
    // A frame that is not valid is an error of the socket. Without a listener, the error would end the process.
    socket.on("error", () => {});
    socket.binaryType = "arraybuffer";
    socket.pause();
  }
}

/** Returns the headers that the handler wants to add to the handshake. */
function headersOf({ headers }: WebSocketUpgradeOptions): Headers {
  try {
    return new Headers(headers);
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : cause;
    throw new TypeError(`Invalid \`headers\`: must be what \`Headers\` accepts: ${problem}`, { cause });
  }
}

/** Checks the parts of a request for a WebSocket that `ws` does not check, or does not report. */
function checkHandshake({ headers }: IncomingMessage): void {
  const asks = headers.upgrade?.toLowerCase() === "websocket";
  if (!asks || !/(^|,)\s*upgrade\s*(,|$)/i.test(headers.connection ?? "")) {
    throw new HandshakeError("the request does not ask for it");
  }
  const version = headers["sec-websocket-version"];
  if (version !== VERSION) throw new HandshakeError(`its version is ${version ?? "missing"}, not ${VERSION}`, true);
}

/**
 * Creates the class of WebSockets with two differences from `ws`. If a listener throws, the error is reported like any
 * other error of the program, and the WebSocket continues, as in Deno; in `ws` it would stop reading without an error.
 * If too much data waits for a client that does not read, the WebSocket ends. This includes messages and the answers to
 * pings.
 */
function boundedWebSocket(maxBufferedAmount: number): typeof WebSocketConnection {
  return class extends WebSocketConnection {
    override on(event: string, listener: (...values: unknown[]) => void): unknown {
      // An error in this listener is an error of the handler, which the engine reports.
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

/** Calls a function. If it throws, reports the error as an uncaught one. */
function applyOrReport(called: (...values: unknown[]) => void, self: unknown, values: unknown[]): void {
  try {
    Reflect.apply(called, self, values);
  } catch (error) {
    reportError(error);
  }
}
