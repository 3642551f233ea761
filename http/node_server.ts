/**
 * A `node:http` server whose connections come from elsewhere.
 *
 * @module
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import http from "node:http";
import type { IncomingMessage } from "node:http";
import net from "node:net";
import type { Socket as NodeSocket } from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate } from "node:timers";
import tls from "node:tls";
import { deferredStream } from "./deferred_stream.ts";
import type { HttpSettings, HttpTlsOptions } from "./options.ts";
import { NodeResponse } from "./response.ts";
import { asksForWebSocket } from "./request.ts";

/** What requests that Node gives up are answered, by its codes; 400 for all others. */
const STATUS_OF: Record<string, number> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 };

/** Node's options; the types know nothing yet of the last one. */
interface ServerOptions extends http.ServerOptions {
  shouldUpgradeCallback: (request: IncomingMessage) => boolean;
}

/** What a {@linkcode NodeServer} tells. */
interface NodeServerEvents {
  request(request: IncomingMessage, response: NodeResponse): void;
  /**
   * Whether a request that has come as a whole waits for its response, after which the connection is to be closed: what
   * comes after it, and is not HTTP or not to be answered, would be refused in its place.
   */
  isAnswering(socket: NodeSocket): boolean;
  /** Whether a request for a WebSocket may be one; if not, it is a request as any other. */
  mayUpgrade(request: IncomingMessage): boolean;
  /** A request for a WebSocket; without one, the response is to be sent as ever. */
  upgrade(request: IncomingMessage, response: NodeResponse, socket: NodeSocket, head: Uint8Array): void;
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
      ServerResponse: NodeResponse as unknown as typeof http.ServerResponse,
      connectionsCheckingInterval: Math.max(1, Math.ceil(headersTimeout / 4)),
      shouldUpgradeCallback: (request) => asksForWebSocket(request) && events.mayUpgrade(request),
    };
    this.#server = http.createServer(options);
    // Those beyond a limit would vanish; how many there may be is looked at elsewhere.
    this.#server.maxHeadersCount = 0;
    // A client that ends its side after a request waits for the response. The types do not know it.
    Object.assign(this.#server, { httpAllowHalfOpen: true });
    // The server itself does not listen, and Deno would close each connection after one response.
    Object.defineProperty(this.#server, "listening", { value: true });
    this.#server.on("request", (request, response) => events.request(request, response as NodeResponse));
    this.#server.on("checkContinue", (request, response) => {
      (response as NodeResponse).expectContinue();
      events.request(request, response as NodeResponse);
    });
    // Other expectations are none that this server knows: as with Deno.serve, they are not looked at.
    this.#server.on("checkExpectation", (request, response) => events.request(request, response as NodeResponse));
    this.#server.on("clientError", (error, socket) => {
      if (!events.isAnswering(socket as NodeSocket)) refuse(error, socket);
    });
    this.#server.on("upgrade", (request, socket, head) => {
      const response = new NodeResponse(request);
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
      : deferredStream(new Promise((resolve) => setImmediate(resolve, socket)));
    const secure = new tls.TLSSocket(below, { isServer: true, ...this.#tls });
    secure.on("error", () => socket.destroy());
    secure.once("close", () => socket.destroy());
    // On a stream that is not Deno's own it would write on, to nobody.
    socket.once("close", () => secure.destroy());
    pauseBelow(secure, below);
    this.#server.emit("connection", secure);
    return secure;
  }

  /** Stops looking for requests that take too long. */
  close(): void {
    this.#server.close();
  }
}

/** Answers what is not HTTP, or takes too long, as Node does where nobody listens. */
function refuse(error: Error & { code?: string }, socket: Duplex): void {
  const { _httpMessage: response } = socket as Duplex & { _httpMessage?: http.ServerResponse | null };
  if (socket.writable && !response?.headersSent) {
    const status = STATUS_OF[error.code ?? ""] ?? 400;
    socket.write(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\nConnection: close\r\n\r\n`);
  }
  socket.destroy(error);
}

/** The handle of Deno's TLS streams, and that of the connection below. */
interface TlsHandle {
  readStart(): number;
  readStop(): number;
  readonly _nativeTcpHandle?: { readStart(): void; readStop(): void };
}

/**
 * Makes a TLS stream that is paused pause the connection. Deno's own reads on, decrypts, and keeps what nobody takes, however
 * much a client sends; and when the client has ended its side meanwhile, that is forgotten.
 */
function pauseBelow(secure: tls.TLSSocket, connection: NodeSocket): void {
  const handle = (secure as unknown as { _handle?: TlsHandle })._handle;
  if (typeof handle?.readStart !== "function" || typeof handle.readStop !== "function") return;
  const readStart = handle.readStart.bind(handle);
  handle.readStart = () => {
    const begun = readStart();
    if (handle._nativeTcpHandle === undefined) connection.resume();
    else handle._nativeTcpHandle?.readStart();
    return begun;
  };
  handle.readStop = () => {
    if (handle._nativeTcpHandle === undefined) connection.pause();
    else handle._nativeTcpHandle?.readStop();
    return 0;
  };
}

function secureServer(options: HttpTlsOptions): { secureContext: tls.SecureContext; ALPNProtocols: string[] } {
  const { key, cert } = options;
  // Deno would take anything, and fail at every handshake.
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    throw new TypeError("The key is not the certificate's");
  }
  return { secureContext: tls.createSecureContext({ key, cert }), ALPNProtocols: ["http/1.1"] };
}
