/**
 * WebSockets: the handshake, and the end of all of them.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { endWhenIdle } from "./idle_web_socket.ts";
import { atLeast, type HttpSettings, type WebSocketUpgradeOptions } from "./options.ts";
import { WebSocketConnection, WebSocketServer, type WsServer, type WsSocket } from "./packages.ts";

const GOING_AWAY = 1001;
/** What a WebSocket is closed with whose handler fails. */
export const INTERNAL_ERROR = 1011;

/** A request for a WebSocket that is not as it must be. */
export class HandshakeError extends TypeError {
  override readonly name = "TypeError";
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
   * @throws {RangeError} If the `idleTimeout` is out of its range.
   */
  open(request: IncomingMessage, socket: Duplex, head: Uint8Array, options: WebSocketUpgradeOptions): WsSocket {
    const { idleTimeout = 30_000 } = options;
    atLeast(0, "idleTimeout", idleTimeout);
    this.#options = { ...options, headers: new Headers(options.headers) };
    this.#failure = undefined;
    let opened: WsSocket | undefined;
    this.#server.handleUpgrade(request, socket, head, (webSocket) => opened = webSocket);
    if (opened === undefined) {
      const { message = "the client has gone" } = this.#failure ?? {};
      throw new HandshakeError(`Cannot upgrade to a WebSocket: ${message}`);
    }
    const webSocket = opened;
    this.#keep(webSocket, () => endWhenIdle(webSocket, socket, idleTimeout));
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

/** WebSockets that end when more waits for a client that does not read: messages, and what answers its pings. */
function boundedWebSocket(maxBufferedAmount: number): typeof WebSocketConnection {
  return class extends WebSocketConnection {
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
