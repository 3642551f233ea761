/**
 * One connection that the server of `Deno.serve` serves.
 *
 * @module
 */
import { systemCalls } from "../ffi/system.ts";
import type { SocketAddr } from "../sockets/address.ts";
import { resourceOf } from "../sockets/socket.ts";
import type { HttpConnection } from "./connections.ts";
import { DenoExchange, noWebSockets } from "./deno_exchange.ts";
import { type DenoInfo, type DenoServer, serveResource } from "./deno_http.ts";
import type { Peer } from "./exchange.ts";
import type { HttpHandler, HttpSettings } from "./options.ts";

const SWITCHING_PROTOCOLS = 101;

/** Serves a connection until it closes. */
export class DenoConnection {
  /** Resolves when it has closed. */
  readonly closed: Promise<void>;

  readonly #handler: HttpHandler<SocketAddr>;
  readonly #settings: HttpSettings;
  readonly #peer: Peer;
  readonly #handle: bigint;
  readonly #server: DenoServer;
  #answering = 0;
  #answers = 0;
  /** When it began, or was answered last. */
  #since = performance.now();
  #draining = false;
  #leaving = false;

  /** @throws What taking over the socket throws. */
  constructor(
    handler: HttpHandler<SocketAddr>,
    settings: HttpSettings,
    { socket, data }: HttpConnection<SocketAddr>,
  ) {
    this.#handler = handler;
    this.#settings = settings;
    const { localAddr, remoteAddr } = socket;
    this.#peer = { localAddr, remoteAddr, data };
    this.#handle = socket.handle;
    const { resource, closed } = resourceOf(socket);
    try {
      const onError = (error: unknown) => this.#report(error);
      this.#server = serveResource(resource, (request, info) => this.#answer(request, info), onError);
    } catch (error) {
      closed();
      throw error;
    }
    // How a client goes away is its own affair.
    this.closed = this.#server.finished.catch(() => {}).then(closed);
  }

  /** Lets it go if it has waited too long for its first request, or for another. */
  check(now: number): void {
    if (this.#answering > 0) return;
    const { headersTimeout, keepAliveTimeout } = this.#settings;
    const waited = now - this.#since;
    const first = this.#answers === 0;
    if (first && waited >= (this.#draining ? Math.min(headersTimeout, keepAliveTimeout) : headersTimeout)) this.end();
    else if (!first && waited >= keepAliveTimeout) this.#leave();
  }

  /** Lets it go after its next response. */
  drain(): void {
    this.#draining = true;
  }

  /** Closes it. */
  end(): void {
    if (this.#leaving) this.#cutOff();
    else this.#server.close();
  }

  #answer(request: Request, info: DenoInfo): Response | Promise<Response> {
    this.#answering++;
    try {
      const answer = this.#handler(request, new DenoExchange(this.#peer, info));
      // Most are there at once, and need not wait for a turn.
      if (answer instanceof Response) return this.#answered(answer, request);
      return this.#answerLater(answer, request);
    } catch (error) {
      return this.#answerLater(Promise.reject(error), request);
    }
  }

  async #answerLater(answer: Promise<Response>, request: Request): Promise<Response> {
    try {
      const response = await answer;
      if (!(response instanceof Response)) throw new TypeError("The handler returned no Response");
      return this.#answered(response, request);
    } catch (error) {
      return this.#answered(await this.#report(error, request), request);
    }
  }

  /** The server goes on with the answer. */
  #answered(response: Response, request: Request): Response {
    this.#answering--;
    this.#answers++;
    this.#since = performance.now();
    // The handshake is done, and Deno ends the connection with the server.
    if (response.status === SWITCHING_PROTOCOLS) this.#report(noWebSockets(), request);
    if (!this.#draining) return response;
    this.#leave();
    return lastResponse(response);
  }

  /** Lets it go when all that was answered is sent. */
  #leave(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    this.#server.shutdown().catch(() => {});
  }

  /**
   * Ends what waits for a client that does not take it: Deno cannot be told to any more. It has not said yet that it has
   * closed the descriptor; that this is not another connection's by now, the peer tells.
   */
  #cutOff(): void {
    try {
      const { remoteAddr } = this.#peer as { remoteAddr: Deno.NetAddr };
      const { hostname, port } = systemCalls().remoteAddress(this.#handle) as Deno.NetAddr;
      if (hostname === remoteAddr.hostname && port === remoteAddr.port) systemCalls().endSending(this.#handle);
    } catch {
      // It has no peer any more.
    }
  }

  async #report(error: unknown, request?: Request): Promise<Response> {
    try {
      const response = await this.#settings.onError(error, request);
      if (response instanceof Response) return response;
    } catch (errorOfHandler) {
      console.error(errorOfHandler);
    }
    return new Response("Internal Server Error", { status: 500 });
  }
}

/** The response, saying that none follows; what cannot be sent is left as it is. */
function lastResponse(response: Response): Response {
  if (response.bodyUsed || response.status === SWITCHING_PROTOCOLS || response.type === "error") return response;
  const { body, status, statusText } = response;
  const headers = new Headers(response.headers);
  headers.set("connection", "close");
  return new Response(body, { status, statusText, headers });
}
