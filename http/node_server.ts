/**
 * A `node:http` server whose connections come from elsewhere.
 *
 * @module
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import http, { type IncomingMessage } from "node:http";
import net, { type Socket as NodeSocket } from "node:net";
import { setImmediate } from "node:timers";
import tls from "node:tls";
import { lateStream } from "./late_stream.ts";
import type { HttpSettings, HttpTlsOptions } from "./options.ts";
import { Outgoing } from "./outgoing.ts";
import { hasSeveralHosts } from "./raw_headers.ts";

/** Node's options; the types know nothing yet of the last one. */
interface ServerOptions extends http.ServerOptions {
  shouldUpgradeCallback: (request: IncomingMessage) => boolean;
}

/** What a {@linkcode NodeServer} tells. */
export interface NodeServerEvents {
  request(request: IncomingMessage, response: Outgoing): void;
  /** Whether a request for a WebSocket may be one; if not, it is a request as any other. */
  mayUpgrade(request: IncomingMessage): boolean;
  /** A request for a WebSocket; without one, the response is to be sent as ever. */
  upgrade(request: IncomingMessage, response: Outgoing, socket: NodeSocket, head: Uint8Array): void;
}

/** Parses requests and sends responses; all of it Node's own code. */
export class NodeServer {
  readonly #server: http.Server;
  readonly #tls: { secureContext: tls.SecureContext; ALPNProtocols: string[] } | undefined;

  constructor(settings: HttpSettings, events: NodeServerEvents) {
    const { headersTimeout, requestTimeout, keepAliveTimeout, maxHeaderSize } = settings;
    const options: ServerOptions = {
      headersTimeout,
      requestTimeout,
      keepAliveTimeout,
      maxHeaderSize,
      ServerResponse: Outgoing as unknown as typeof http.ServerResponse,
      connectionsCheckingInterval: Math.max(1, Math.ceil(headersTimeout / 4)),
      // Others, such as curl's for HTTP/2, may be answered as if they had not been asked.
      shouldUpgradeCallback: (request) =>
        request.headers.upgrade?.toLowerCase() === "websocket" && !hasSeveralHosts(request.rawHeaders) &&
        events.mayUpgrade(request),
    };
    this.#server = http.createServer(options);
    // The server itself does not listen, and Deno would close each connection after one response.
    Object.defineProperty(this.#server, "listening", { value: true });
    const take = (request: IncomingMessage, response: Outgoing) => {
      if (hasSeveralHosts(request.rawHeaders)) response.writeHead(400, { connection: "close" }).end();
      else events.request(request, response);
    };
    this.#server.on("request", (request, response) => take(request, response as Outgoing));
    this.#server.on("checkContinue", (request, response) => {
      continueWhenRead(request, response as Outgoing);
      take(request, response as Outgoing);
    });
    this.#server.on("upgrade", (request, socket, head) => {
      const response = new Outgoing(request);
      response.shouldKeepAlive = false;
      response.assignSocket(socket as NodeSocket);
      // The server has let go of the socket: what it does for a response is to be done here.
      const drain = () => response.emit("drain");
      socket.on("drain", drain);
      response.once("finish", () => {
        response.detachSocket(socket as NodeSocket);
        response.emit("close");
        (socket as NodeSocket).destroySoon();
      });
      events.upgrade(request, response, socket as NodeSocket, head);
    });
    if (settings.tls !== undefined) this.#tls = secureServer(settings.tls);
    // Begins to look for requests that take too long.
    this.#server.emit("listening");
  }

  /**
   * Serves a connection.
   *
   * @returns What requests have as their `socket`.
   */
  serve(socket: NodeSocket): NodeSocket {
    // Whatever comes from the network; without a listener it would end the process.
    socket.on("error", () => {});
    socket.setNoDelay(true);
    if (this.#tls === undefined) {
      this.#server.emit("connection", socket);
      return socket;
    }
    // Deno's TLS on a stream that is none of its own throws, in the event loop, if what is there at once is no TLS.
    const below = socket instanceof net.Socket
      ? socket
      : lateStream(new Promise((resolve) => setImmediate(resolve, socket)));
    const secure = new tls.TLSSocket(below, { isServer: true, ...this.#tls });
    secure.on("error", () => socket.destroy());
    secure.once("close", () => socket.destroy());
    // On a stream that is not Deno's own it would write on, to nobody.
    socket.once("close", () => secure.destroy());
    this.#server.emit("connection", secure);
    return secure;
  }

  /** Stops looking for requests that take too long. */
  close(): void {
    this.#server.close();
  }
}

function secureServer(options: HttpTlsOptions): { secureContext: tls.SecureContext; ALPNProtocols: string[] } {
  const { key, cert } = options;
  // Deno would take anything, and fail at every handshake.
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    throw new TypeError("The key is not the certificate's");
  }
  return { secureContext: tls.createSecureContext({ key, cert }), ALPNProtocols: ["http/1.1"] };
}

/**
 * A client that asks before it sends a body is told to when the handler begins to read it, and not before. If it never is,
 * nobody knows whether the body comes, and what would come after it cannot be told from it.
 */
function continueWhenRead(request: IncomingMessage, response: Outgoing): void {
  const { shouldKeepAlive } = response;
  response.shouldKeepAlive = false;
  const read = request._read;
  request._read = function (size) {
    request._read = read;
    if (!response.begun && !response.destroyed) {
      response.shouldKeepAlive = shouldKeepAlive;
      response.writeContinue();
    }
    read.call(request, size);
  };
}
