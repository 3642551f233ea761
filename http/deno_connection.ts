/**
 * One connection that the server of `Deno.serve` has, and the requests on it.
 *
 * The descriptor is Deno's to close. Deno may have closed it without having said so, and another connection may have the
 * number by now. So its addresses are compared before it is used.
 *
 * @module
 */
import type { SocketAddr } from "../ffi/socket_address.ts";
import {
  type DenoInfo,
  type DenoServer,
  hasSendableHeaders,
  notByDeno,
  readyLength,
  refuseDenoUpgrade,
  serveResource,
  takeReadyBody,
} from "./deno_internals.ts";
import type { HttpHandler, HttpSettings, HttpWebSocket, WebSocketUpgradeOptions } from "./options.ts";
import {
  answerToClient,
  type ConnectionInfo,
  contentTooLarge,
  type InfoSource,
  internalServerError,
  isA,
  print,
  reportError,
  RequestInfo,
} from "./handler.ts";
import { systemCalls } from "../ffi/system.ts";
import { ownSocket, resourceOf, type Socket } from "../sockets/socket.ts";
import type { IncomingMessage } from "node:http";
import type { Socket as NodeSocket } from "node:net";
import { finished } from "node:stream";
import { FAREWELL_MS, type HttpConnection } from "./connection_server.ts";
import { bodyOf, type DenoBody } from "./deno_body.ts";
import { deferredStream } from "./deferred_stream.ts";
import type { WsSocket } from "./npm.ts";
import { HandshakeError, INTERNAL_ERROR, type WebSockets } from "./web_sockets.ts";

/** Makes a WebSocket of the connection a request came on. */
type Upgrade = (options: WebSocketUpgradeOptions) => HttpWebSocket;

/** One request, and what its handler can ask for. */
class DenoExchange implements InfoSource {
  readonly peer: ConnectionInfo;
  readonly #info: DenoInfo;
  readonly #upgrade: Upgrade;
  #answered = false;

  constructor(peer: ConnectionInfo, info: DenoInfo, upgrade: Upgrade) {
    this.peer = peer;
    this.#info = info;
    this.#upgrade = upgrade;
  }

  get completed(): Promise<void> {
    const { completed } = this.#info;
    completed.catch(() => {});
    return completed;
  }

  upgradeWebSocket(options: WebSocketUpgradeOptions): { socket: HttpWebSocket; response: Response } {
    if (this.#answered) throw new TypeError("Cannot upgrade to a WebSocket: the request was answered already");
    return { socket: this.#upgrade(options), response: new Response(null, { status: 204 }) };
  }

  /** It has its response. */
  close(): void {
    this.#answered = true;
  }
}

/** A descriptor, and the addresses of the connection it was of. */
interface ServedSocket {
  readonly handle: bigint;
  readonly localAddr: Deno.NetAddr;
  readonly remoteAddr: Deno.NetAddr;
}

/** Whether the descriptor is still the connection's, and the client there. */
function isConnected({ handle, localAddr, remoteAddr }: ServedSocket): boolean {
  try {
    const calls = systemCalls();
    return isSame(calls.remoteAddress(handle), remoteAddr) && isSame(calls.localAddress(handle), localAddr);
  } catch {
    return false;
  }
}

/**
 * Makes one more descriptor of a connection, which stays open when Deno closes its own.
 *
 * @returns A socket of its own, to be read when Deno has closed the other one; `undefined` if the client has gone.
 * @throws {WinsockError} WSAEMFILE if there is no room.
 */
function reclaimSocket(given: ServedSocket): Socket | undefined {
  return isConnected(given) ? ownSocket(systemCalls().duplicate(given.handle)) : undefined;
}

/** Ends both directions of a connection, whatever Deno or its client wait for. */
function shutdownSocket(given: ServedSocket): void {
  if (isConnected(given)) systemCalls().shutDown(given.handle);
}

function isSame(address: Deno.NetAddr | Deno.UnixAddr, { hostname, port }: Deno.NetAddr): boolean {
  return address.transport === "tcp" && address.hostname === hostname && address.port === port;
}

const SWITCHING_PROTOCOLS = 101;
/** How long a connection that was let go may take for it at the shutdown, in milliseconds. */
const LEAVE_MS = 1_000;
/** How long a program may read the body of a request that it has answered, in milliseconds. */
const MAX_READ = 60_000;

/** What all connections of a server share. */
export interface DenoContext {
  readonly handler: HttpHandler<SocketAddr>;
  readonly settings: HttpSettings;
  readonly webSockets: WebSockets;
}

/** A WebSocket, and the stream it is on. */
interface Upgraded {
  readonly webSocket: WsSocket;
  readonly stream: NodeSocket;
  /** Resolves when it has closed. */
  readonly closed: Promise<void>;
}

/** Serves a connection until it closes. */
export class DenoConnection {
  /** Resolves when it has closed. */
  readonly closed: Promise<void>;

  readonly #context: DenoContext;
  readonly #peer: ConnectionInfo & ServedSocket;
  readonly #server: DenoServer;
  readonly #ended = Promise.withResolvers<void>();
  /** Whether the server has no connection any more, or is not waited for. */
  #left = false;
  #upgraded: Upgraded | undefined;
  #answering = 0;
  #answers = 0;
  /** When it began, was answered last, or was told to let its connection go. */
  #since = performance.now();
  /** Whether the last request was answered before all of its body had come, and nobody reads it. */
  #unread = false;
  #draining = false;
  #leaving = false;

  /** @throws What taking over the socket throws. */
  constructor(context: DenoContext, { socket, data }: HttpConnection, localAddr: Deno.NetAddr) {
    this.#context = context;
    const { remoteAddr, handle } = socket;
    this.#peer = { localAddr, remoteAddr, data, handle };
    const { resource, closed } = resourceOf(socket);
    try {
      const onError = (error: unknown) => this.#report(error);
      this.#server = serveResource(resource, (request, info) => this.#answer(request, info), onError);
    } catch (error) {
      closed();
      throw error;
    }
    this.closed = this.#untilClosed().then(closed);
  }

  /** Lets it go if it has waited too long for its first request, or for another. */
  check(now: number): void {
    if (this.#answering > 0 || this.#upgraded !== undefined) return;
    const { headersTimeout, keepAliveTimeout } = this.#context.settings;
    const waited = now - this.#since;
    if (this.#leaving) {
      // Deno waits for a body that was announced, and that nobody reads, for as long as it does not come.
      if (this.#unread && waited >= (this.#draining ? LEAVE_MS : keepAliveTimeout)) this.end();
    } else if (waited >= (this.#draining ? FAREWELL_MS : this.#answers === 0 ? headersTimeout : keepAliveTimeout)) {
      if (this.#answers === 0 && !this.#draining) this.end();
      else this.#leave();
    }
  }

  /** Whether it is to keep the process running. */
  setReferenced(referenced: boolean): void {
    if (referenced) this.#server.ref();
    else this.#server.unref();
  }

  /** Lets it go after its next response. */
  drain(): void {
    this.#draining = true;
    // One that is on its way still has some time.
    this.#since = performance.now();
  }

  /** Closes it. Of a request that is never answered Deno keeps the descriptor, with nothing behind it. */
  end(): void {
    shutdownSocket(this.#peer);
    this.#upgraded?.stream.destroy();
    this.#server.close();
    this.#ended.resolve();
  }

  async #untilClosed(): Promise<void> {
    // How a client goes away is its own affair.
    await Promise.race([this.#server.finished.catch(() => {}), this.#ended.promise]);
    this.#left = true;
    await this.#upgraded?.closed;
  }

  #answer(request: Request, info: DenoInfo): Response | Promise<Response> {
    this.#answering++;
    info.completed.then(this.#done, this.#done);
    const exchange = new DenoExchange(this.#peer, info, (options) => this.#upgrade(request, options));
    let body: DenoBody | undefined;
    try {
      this.#unread = false;
      refuseDenoUpgrade(request);
      body = bodyOf(request, this.#context.settings.maxRequestBodySize);
      if (body?.announcedTooLarge) return this.#answered(contentTooLarge(), request, exchange, body);
      const answer = this.#context.handler(body?.request ?? request, new RequestInfo(exchange));
      // Most are there at once, and need not wait for a turn.
      if (answer instanceof Response) {
        checkSendable(answer);
        return this.#answered(answer, request, exchange, body);
      }
      return this.#answerLater(answer, request, exchange, body);
    } catch (error) {
      return this.#answerLater(Promise.reject(error), request, exchange, body);
    }
  }

  async #answerLater(
    answer: Response | Promise<Response>,
    request: Request,
    exchange: DenoExchange,
    body: DenoBody | undefined,
  ): Promise<Response> {
    let response: Response;
    try {
      const value: unknown = await answer;
      response = value instanceof Response ? value : copyOf(value);
      checkSendable(response);
    } catch (error) {
      this.#upgraded?.webSocket.close(INTERNAL_ERROR);
      response = await this.#answerTo(error, body?.request ?? request);
    }
    return await this.#answered(response, request, exchange, body);
  }

  /** The server goes on with the answer, or has it when it has closed. */
  #answered(
    response: Response,
    request: Request,
    exchange: DenoExchange,
    body: DenoBody | undefined,
  ): Response | Promise<Response> {
    exchange.close();
    if (this.#upgraded !== undefined) {
      this.#begin(this.#upgraded, request);
      return this.#server.finished.catch(() => {}).then(() => response);
    }
    // The handshake is done, and Deno ends the connection with the server.
    if (response.status === SWITCHING_PROTOCOLS) this.#report(notByDeno(), request);
    if (body?.isRead) return heldOpen(response, body.request.body!);
    this.#unread = body?.isLeft ?? false;
    return this.#draining ? lastResponse(response) : response;
  }

  /** A request is over. */
  readonly #done = (): void => {
    this.#answering--;
    this.#answers++;
    this.#since = performance.now();
    if (this.#draining && this.#answering === 0) this.#leave();
  };

  #begin({ webSocket }: Upgraded, request: Request): void {
    try {
      this.#context.webSockets.begin(webSocket);
    } catch (error) {
      webSocket.close(INTERNAL_ERROR);
      this.#report(error, request);
    }
  }

  /** The response to an error: the client's own fault is no error of this side. */
  async #answerTo(error: unknown, request: Request): Promise<Response> {
    const answer = this.#upgraded === undefined ? answerToClient(error) : undefined;
    return answer ?? await this.#report(error, request);
  }

  /** Lets it go when all that was answered is sent. */
  #leave(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    this.#since = performance.now();
    this.#server.shutdown().catch(() => {});
  }

  /** Takes the connection back, and answers the handshake as soon as Deno has closed its descriptor. */
  #upgrade(request: Request, options: WebSocketUpgradeOptions): WsSocket {
    if (this.#upgraded !== undefined) throw new TypeError("Cannot upgrade to a WebSocket: it was done already");
    const connection = Promise.withResolvers<NodeSocket>();
    const stream = deferredStream(connection.promise);
    const socket = this.#left ? undefined : reclaimSocket(this.#peer);
    try {
      if (socket === undefined) throw new HandshakeError("the client has gone");
      const webSocket = this.#context.webSockets.open(incoming(request), stream, new Uint8Array(0), options);
      const closed = new Promise<void>((resolve) => stream.once("close", resolve));
      this.#upgraded = { webSocket, stream, closed };
      const taken = this.#server.finished.catch(() => {}).then(() => socket.toNodeSocket());
      taken.then(connection.resolve, (error) => {
        socket.close();
        connection.reject(error);
      });
      this.#server.close();
      return webSocket;
    } catch (error) {
      stream.destroy();
      socket?.close();
      throw error;
    }
  }

  async #report(error: unknown, request?: Request): Promise<Response> {
    const response = await reportError(this.#context.settings.onError, error, request);
    if (!isA(Response, response)) return internalServerError();
    try {
      checkSendable(response);
      return response;
    } catch (errorOfInstead) {
      print(errorOfInstead);
      return internalServerError();
    }
  }
}

/** The request, as far as a handshake looks at it. */
function incoming({ method, url, headers }: Request): IncomingMessage {
  return { method, url, headers: Object.fromEntries(headers) } as unknown as IncomingMessage;
}

/**
 * The response, whose end is held back until the program has read the body of its request: Deno closes the server of the
 * connection with the response, and the body breaks off, and with it what the client sends.
 */
function heldOpen(response: Response, requestBody: ReadableStream): Response {
  const { bodyUsed, status, statusText, type } = response;
  if (bodyUsed || type === "error" || status < 200 || status === 204 || status === 205 || status === 304) {
    return response;
  }
  const headers = new Headers(response.headers);
  const ready = takeReadyBody(response);
  if (ready === undefined && isLeft(response)) return response;
  const bytes = typeof ready === "string"
    ? new TextEncoder().encode(ready)
    : ready as Uint8Array<ArrayBuffer> | undefined;
  // With a length Deno would end it when that is sent.
  headers.delete("content-length");
  const { body } = response;
  async function* parts(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    if (bytes === undefined) yield* body!;
    else if (bytes.length > 0) yield bytes;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, MAX_READ);
      finished(requestBody as unknown as NodeJS.ReadableStream, () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
  return new Response(ReadableStream.from(parts()), { status, statusText, headers });
}

/** Whether a response cannot be sent as it is, or as another one: Deno finds that out. */
function isLeft({ body, bodyUsed, status, type }: Response): boolean {
  return bodyUsed || body?.locked || status === SWITCHING_PROTOCOLS || type === "error";
}

/**
 * Checks what Deno's server would check, and more: some versions end the process over what this refuses.
 *
 * @throws {TypeError} If it must not be given the response.
 */
function checkSendable(response: Response): void {
  if (!hasSendableHeaders(response)) {
    throw new TypeError("A Response with a control character in the value of a header cannot be sent");
  }
  if (response.type === "error") throw new TypeError("Response.error() cannot be sent: it has no status");
  if (response.bodyUsed) throw new TypeError("The body of the Response was used already");
  if (readyLength(response) === Infinity && response.body?.locked) {
    throw new TypeError("The body of the Response is locked");
  }
}

/**
 * A response of another making, such as those of frameworks for Node, as one of Deno's.
 *
 * @throws {TypeError} If it is none.
 */
function copyOf(value: unknown): Response {
  if (typeof value !== "object" || value === null || !("status" in value) || !("headers" in value)) {
    throw new TypeError("The handler returned no Response");
  }
  const { body, bodyUsed, status, statusText, headers } = value as Response;
  if (bodyUsed) throw new TypeError("The body of the Response was used already");
  if (status === SWITCHING_PROTOCOLS) throw new TypeError("A Response with status 101 cannot be sent");
  if (body !== null && !(body instanceof ReadableStream)) {
    throw new TypeError("The body of the Response is not a stream");
  }
  const copied = new Headers();
  headers.forEach((value, name) => copied.append(name, value));
  return new Response(body, { status, statusText, headers: copied });
}

/** The response, saying that none follows; what cannot be sent is left as it is. */
function lastResponse(response: Response): Response {
  const { body, status, statusText } = response;
  if (isLeft(response)) return response;
  const headers = new Headers(response.headers);
  headers.set("connection", "close");
  return new Response(body, { status, statusText, headers });
}
