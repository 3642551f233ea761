/**
 * A connection that the server of `Deno.serve` serves, and the requests on it.
 *
 * Deno closes the descriptor. It may already be closed without a notification, and another connection may have the
 * number. So its addresses are compared before it is used.
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
import { FAREWELL_MS, FIRST_REQUEST_MS, type HttpConnection } from "./connection_server.ts";
import { bodyOf, type DenoBody } from "./deno_body.ts";
import { deferredStream } from "./deferred_stream.ts";
import type { WsSocket } from "./npm.ts";
import { HandshakeError, INTERNAL_ERROR, type WebSockets } from "./web_sockets.ts";

/** Turns the connection of a request into a WebSocket. */
type Upgrade = (options: WebSocketUpgradeOptions) => HttpWebSocket;

/** One request, as the source of its handler's `info`. */
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
    if (this.#answered) throw new TypeError("Cannot upgrade to a WebSocket: the request was already answered");
    return { socket: this.#upgrade(options), response: new Response(null, { status: 204 }) };
  }

  /** Marks the request as answered. */
  close(): void {
    this.#answered = true;
  }
}

/** A descriptor, and the addresses of the connection that it belongs to. */
interface ServedSocket {
  readonly handle: bigint;
  readonly localAddr: Deno.NetAddr;
  readonly remoteAddr: Deno.NetAddr;
}

/** Returns whether the descriptor still belongs to the connection, and the client is still connected. */
function isConnected({ handle, localAddr, remoteAddr }: ServedSocket): boolean {
  try {
    const calls = systemCalls();
    return isSame(calls.remoteAddress(handle), remoteAddr) && isSame(calls.localAddress(handle), localAddr);
  } catch {
    return false;
  }
}

/**
 * Duplicates the descriptor of a connection. The duplicate stays open when Deno closes its own descriptor.
 *
 * @returns The socket of the duplicate, to be read when Deno has closed the other descriptor; `undefined` if the client
 * has disconnected.
 * @throws {WinsockError} WSAEMFILE if the process cannot have more descriptors.
 */
function reclaimSocket(given: ServedSocket): Socket | undefined {
  return isConnected(given) ? ownSocket(systemCalls().duplicate(given.handle)) : undefined;
}

/** Shuts down both directions of a connection, even if Deno or its client still waits. */
function shutdownSocket(given: ServedSocket): void {
  if (isConnected(given)) systemCalls().shutDown(given.handle);
}

function isSame(address: Deno.NetAddr | Deno.UnixAddr, { hostname, port }: Deno.NetAddr): boolean {
  return address.transport === "tcp" && address.hostname === hostname && address.port === port;
}

const SWITCHING_PROTOCOLS = 101;
/** The time for a closing connection to close at the shutdown, in milliseconds. */
const LEAVE_MS = 1_000;
/** The time for a program to read the body of a request that it has answered, in milliseconds. */
const MAX_READ = 60_000;

/** The parts that all connections of a server share. */
export interface DenoContext {
  readonly handler: HttpHandler<SocketAddr>;
  readonly settings: HttpSettings;
  readonly webSockets: WebSockets;
}

/** A WebSocket, and the stream below it. */
interface Upgraded {
  readonly webSocket: WsSocket;
  readonly stream: NodeSocket;
  /** Resolves when the stream has closed. */
  readonly closed: Promise<void>;
}

/** Serves a connection until it closes. */
export class DenoConnection {
  /** Its index in the list of its engine. */
  place = 0;
  readonly #context: DenoContext;
  readonly #peer: ConnectionInfo & ServedSocket;
  readonly #server: DenoServer;
  readonly #closed: () => void;
  /** Whether the server no longer has the connection, or is no longer awaited. */
  #left = false;
  #upgraded: Upgraded | undefined;
  #answering = 0;
  #answers = 0;
  /** The time when the connection began, was last used, or was told to close. */
  #since = performance.now();
  /** Whether the last request was answered before all of its body had arrived, and its body is not read. */
  #unread = false;
  #draining = false;
  #leaving = false;

  /**
   * @param onClosed Called once, when the connection has closed.
   * @throws Any error of taking over the socket.
   */
  constructor(
    context: DenoContext,
    { socket, data }: HttpConnection,
    localAddr: Deno.NetAddr,
    onClosed: (connection: DenoConnection) => void,
  ) {
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
    this.#closed = () => {
      closed();
      onClosed(this);
    };
    // An error of the client's side of the connection is ignored.
    const leave = () => this.#leaves();
    this.#server.finished.then(leave, leave);
  }

  /** Closes the connection if it has waited too long for its first or next request. */
  check(now: number): void {
    if (this.#answering > 0 || this.#upgraded !== undefined) return;
    const { headersTimeout, keepAliveTimeout } = this.#context.settings;
    const first = this.#answers === 0;
    const patience = this.#draining
      ? first ? FIRST_REQUEST_MS : FAREWELL_MS
      : first
      ? headersTimeout
      : keepAliveTimeout;
    const waited = now - this.#since;
    if (this.#leaving) {
      // Deno waits without a limit for a body that was announced and is not read.
      if (this.#unread && waited >= (this.#draining ? LEAVE_MS : keepAliveTimeout)) this.end();
    } else if (waited >= patience) {
      if (first && !this.#draining) this.end();
      else this.#leave();
    }
  }

  /** Sets whether the connection keeps the process running. */
  setReferenced(referenced: boolean): void {
    if (referenced) this.#server.ref();
    else this.#server.unref();
  }

  /** Closes the connection after its next response, or at the next check if it was idle for a while. */
  drain(): void {
    this.#draining = true;
  }

  /**
   * Closes the connection. If a request is never answered, Deno keeps the descriptor, but the connection is shut down.
   */
  end(): void {
    shutdownSocket(this.#peer);
    this.#upgraded?.stream.destroy();
    this.#server.close();
    this.#leaves();
  }

  /** Notes that the server no longer has the connection, or is no longer awaited. */
  #leaves(): void {
    if (this.#left) return;
    this.#left = true;
    if (this.#upgraded === undefined) this.#closed();
    else this.#upgraded.closed.then(this.#closed);
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
      // Most responses are available immediately, and need not wait for a microtask.
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

  /** Returns the response to the server. After an upgrade, the server gets it when it has closed. */
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
    body?.discardRest();
    const last = this.#draining ? lastResponse(response) : response;
    return this.#unread && readyLength(last) === Infinity ? givingUp(last, body!) : last;
  }

  /** Records that a request is finished. */
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

  /** Returns the response to an error. A fault of the client is not reported. */
  async #answerTo(error: unknown, request: Request): Promise<Response> {
    const answer = this.#upgraded === undefined ? answerToClient(error) : undefined;
    return answer ?? await this.#report(error, request);
  }

  /** Closes the connection when all responses are sent. */
  #leave(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    this.#since = performance.now();
    this.#server.shutdown().catch(() => {});
  }

  /** Takes the connection back, and answers the handshake when Deno has closed its descriptor. */
  #upgrade(request: Request, options: WebSocketUpgradeOptions): WsSocket {
    if (this.#upgraded !== undefined) throw new TypeError("Cannot upgrade to a WebSocket: it was already upgraded");
    const connection = Promise.withResolvers<NodeSocket>();
    const stream = deferredStream(connection.promise);
    const socket = this.#left ? undefined : reclaimSocket(this.#peer);
    try {
      if (socket === undefined) throw new HandshakeError("the client has disconnected");
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

/** Returns the parts of a request that a handshake uses. */
function incoming({ method, url, headers }: Request): IncomingMessage {
  return { method, url, headers: Object.fromEntries(headers) } as unknown as IncomingMessage;
}

/**
 * Returns the response, with its end delayed until the program has read the body of its request. Deno closes the server
 * of the connection at the end of the response. The request body would then break off, and the client could not send
 * the rest.
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
  // With a length, Deno would end the response when that many bytes are sent.
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

/** Returns a response, of a stream, that gives up the body of its request before it ends, unless the body is read then. */
function givingUp(response: Response, requestBody: DenoBody): Response {
  if (isLeft(response)) return response;
  const { body, status, statusText, headers } = response;
  // Deno ends the response when that many bytes are sent.
  const length = Number(headers.get("content-length") ?? Infinity);
  async function* parts(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    let sent = 0;
    for await (const part of body!) {
      sent += part.length;
      if (sent >= length) requestBody.giveUp();
      yield part;
    }
    requestBody.giveUp();
  }
  return new Response(ReadableStream.from(parts()), { status, statusText, headers });
}

/** Returns whether a response cannot be sent as it is or as a copy. Deno then reports the error. */
function isLeft({ body, bodyUsed, status, type }: Response): boolean {
  return bodyUsed || body?.locked || status === SWITCHING_PROTOCOLS || type === "error";
}

/**
 * Checks a response more strictly than the server of Deno. Some versions of Deno end the process for a response that
 * this rejects.
 *
 * @throws {TypeError} If the response must not be passed to Deno.
 */
function checkSendable(response: Response): void {
  if (!hasSendableHeaders(response)) {
    throw new TypeError("Cannot send the Response: the value of a header has a control character");
  }
  if (response.type === "error") throw new TypeError("Cannot send Response.error(): it does not have a status");
  if (response.bodyUsed) throw new TypeError("Cannot send the body: it was already used");
  if (readyLength(response) === Infinity && response.body?.locked) {
    throw new TypeError("Cannot send the body: it is locked");
  }
}

/**
 * Copies a response of another class, such as one of a framework for Node, into a `Response` of Deno.
 *
 * @throws {TypeError} If it is not a response.
 */
function copyOf(value: unknown): Response {
  if (typeof value !== "object" || value === null || !("status" in value) || !("headers" in value)) {
    throw new TypeError("Cannot send a response: the handler did not return a Response");
  }
  const { body, bodyUsed, status, statusText, headers } = value as Response;
  if (bodyUsed) throw new TypeError("Cannot send the body: it was already used");
  if (status === SWITCHING_PROTOCOLS) throw new TypeError("Cannot send the Response: the status must not be 101");
  if (body !== null && !(body instanceof ReadableStream)) {
    throw new TypeError("Cannot send the body: it is not a stream");
  }
  const copied = new Headers();
  headers.forEach((value, name) => copied.append(name, value));
  return new Response(body, { status, statusText, headers: copied });
}

/** Returns the response with the header `connection: close`. A response that cannot be sent is returned unchanged. */
function lastResponse(response: Response): Response {
  const { body, status, statusText } = response;
  if (isLeft(response)) return response;
  const headers = new Headers(response.headers);
  headers.set("connection", "close");
  return new Response(body, { status, statusText, headers });
}
