/**
 * A `node:http` server whose connections are accepted elsewhere.
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
import { asksForWebSocket, mayHaveBody } from "./request.ts";

/** The status of the response to a request that Node rejects, by the code of the error; 400 for other codes. */
const STATUS_OF: Record<string, number> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 };

/** Node's options. The types do not have the last one yet. */
interface ServerOptions extends http.ServerOptions {
  shouldUpgradeCallback: (request: IncomingMessage) => boolean;
}

/** The callbacks of a {@linkcode NodeServer}. */
interface NodeServerEvents {
  request(request: IncomingMessage, response: NodeResponse): void;
  /**
   * Returns whether a complete request waits for its response, and marks that the connection closes after it. Without
   * this, the refusal of later bytes that are not HTTP would be sent instead of the response.
   */
  isAnswering(socket: NodeSocket): boolean;
  /** Returns whether a request for a WebSocket may be upgraded. Otherwise it is handled like any other request. */
  mayUpgrade(request: IncomingMessage): boolean;
  /** Called for a request for a WebSocket. If the handler does not upgrade it, the response is sent as usual. */
  upgrade(request: IncomingMessage, response: NodeResponse, socket: NodeSocket, head: Uint8Array): void;
}

/** Parses requests and sends responses, with the code of Node. */
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
    // Node would drop the headers beyond a limit. `refusalOf` limits their number instead.
    this.#server.maxHeadersCount = 0;
    // A client that ends its side after a request waits for the response. The types do not have this property.
    Object.assign(this.#server, { httpAllowHalfOpen: true });
    // The server does not listen, and Deno would close each connection after one response.
    Object.defineProperty(this.#server, "listening", { value: true });
    this.#server.on("request", (request, response) => events.request(request, response as NodeResponse));
    this.#server.on("checkContinue", (request, response) => {
      if (mayHaveBody(request)) (response as NodeResponse).expectContinue();
      events.request(request, response as NodeResponse);
    });
    // The server does not know any other expectation. They are ignored, as in Deno.serve.
    this.#server.on("checkExpectation", (request, response) => events.request(request, response as NodeResponse));
    this.#server.on("clientError", (error, socket) => {
      if (!events.isAnswering(socket as NodeSocket)) refuse(error, socket);
    });
    this.#server.on("upgrade", (request, socket, head) => {
      const response = new NodeResponse(request);
      response.shouldKeepAlive = false;
      response.assignSocket(socket as NodeSocket);
      // The server has released the socket, so its work for a response is done here.
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
    // Starts the check for requests that take too long.
    this.#server.emit("listening");
  }

  /**
   * Serves a connection.
   *
   * @returns The stream that requests have as their `socket`.
   */
  serve(socket: NodeSocket): NodeSocket {
    // Ignores network errors. Without a listener, an error would end the process.
    socket.on("error", () => {});
    socket.setNoDelay(true);
    if (this.#tls === undefined) {
      this.#server.emit("connection", socket);
      return socket;
    }
    // TLS of Deno on a stream that is not a `net.Socket` throws, in the event loop, if the first bytes are available
    // immediately and are not TLS.
    const below = socket instanceof net.Socket
      ? socket
      : deferredStream(new Promise((resolve) => setImmediate(resolve, socket)));
    const secure = new tls.TLSSocket(below, { isServer: true, ...this.#tls });
    secure.on("error", () => socket.destroy());
    secure.once("close", () => socket.destroy());
    // On a stream that is not a `net.Socket`, it would continue to write after the close.
    socket.once("close", () => secure.destroy());
    pauseBelow(secure, below);
    this.#server.emit("connection", secure);
    return secure;
  }

  /** Stops the check for requests that take too long. */
  close(): void {
    this.#server.close();
  }
}

/** Answers data that is not HTTP, or requests that take too long, as Node does without a listener. */
function refuse(error: Error & { code?: string }, socket: Duplex): void {
  const { _httpMessage: response } = socket as Duplex & { _httpMessage?: http.ServerResponse | null };
  if (socket.writable && !response?.headersSent) {
    const status = STATUS_OF[error.code ?? ""] ?? 400;
    socket.write(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\nConnection: close\r\n\r\n`);
  }
  socket.destroy(error);
}

/** The handle of Deno's TLS streams, and the handle of the connection below it. */
interface TlsHandle {
  readStart(): number;
  readStop(): number;
  readonly _nativeTcpHandle?: { readStart(): void; readStop(): void };
}

/**
 * Makes a paused TLS stream also pause its connection. Otherwise Deno reads on, decrypts and buffers everything that a
 * client sends. If the client ends its side meanwhile, Deno loses that event.
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
  // Deno would accept any key, and fail at each handshake.
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    throw new TypeError("Invalid `tls`: the private key does not match the certificate");
  }
  return { secureContext: tls.createSecureContext({ key, cert }), ALPNProtocols: ["http/1.1"] };
}
