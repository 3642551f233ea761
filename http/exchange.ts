/**
 * One request of `node:http`, and its response.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { Socket as NodeSocket } from "node:net";
import type { SocketAddr } from "../ffi/socket_address.ts";
import {
  answerToClient,
  badRequest,
  type ConnectionInfo,
  type InfoSource,
  internalServerError,
  print,
  reportError,
  RequestInfo,
} from "./handler.ts";
import type { NodeResponse } from "./response.ts";
import type { HttpHandler, HttpSettings, HttpWebSocket, WebSocketUpgradeOptions } from "./options.ts";
import type { WsSocket } from "./npm.ts";
import { makeRequest, type RequestBody } from "./request.ts";
import { HandshakeError, INTERNAL_ERROR, type WebSockets } from "./web_sockets.ts";

/** The parts that all exchanges of a server share. */
export interface ExchangeContext {
  readonly handler: HttpHandler<SocketAddr>;
  readonly onError: HttpSettings["onError"];
  readonly webSockets: WebSockets;
}

/** The connection of an upgrade request, and the bytes that were read after the request. */
export interface Upgrade {
  readonly socket: NodeSocket;
  readonly head: Uint8Array;
}

/** Calls the handler for a request, and sends the response. */
export class Exchange implements InfoSource {
  readonly peer: ConnectionInfo;
  readonly #context: ExchangeContext;
  readonly #incoming: IncomingMessage;
  readonly #outgoing: NodeResponse;
  readonly #body: RequestBody;
  readonly #upgrade: Upgrade | undefined;
  /** Aborts the signal of the request, if the program has read it. */
  #abort: (() => void) | undefined;
  #request: Request | undefined;
  #webSocket: WsSocket | undefined;
  #completed: PromiseWithResolvers<void> | undefined;
  #reported = false;
  /** Whether the client has ended its side, so that an error caused by that is not reported. */
  #clientEnded = false;

  constructor(
    context: ExchangeContext,
    peer: ConnectionInfo,
    incoming: IncomingMessage,
    outgoing: NodeResponse,
    body: RequestBody,
    upgrade?: Upgrade,
  ) {
    this.peer = peer;
    this.#context = context;
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#body = body;
    this.#upgrade = upgrade;
  }

  get completed(): Promise<void> {
    if (this.#completed === undefined) {
      this.#completed = Promise.withResolvers();
      this.#completed.promise.catch(() => {});
      if (this.#webSocket !== undefined || this.#outgoing.sent) this.#completed.resolve();
      else if (this.#outgoing.destroyed) this.#completed.reject(this.#brokenOff());
    }
    return this.#completed.promise;
  }

  upgradeWebSocket(options: WebSocketUpgradeOptions): { socket: HttpWebSocket; response: Response } {
    if (this.#upgrade === undefined) {
      throw new HandshakeError("the request does not ask for it");
    }
    if (this.#webSocket !== undefined) throw new TypeError("Cannot upgrade to a WebSocket: it was already upgraded");
    const { socket, head } = this.#upgrade;
    const opened = this.#context.webSockets.open(this.#incoming, socket, head, options);
    this.#outgoing.detachSocket(socket);
    this.#webSocket = opened;
    this.#completed?.resolve();
    return { socket: opened, response: new Response(null, { status: 204 }) };
  }

  /** Answers the request. Never throws. */
  answer(): void {
    const request = makeRequest(this.#incoming, this.#body, this.peer.localAddr, this.#onAbort);
    if (request === undefined) {
      this.#outgoing.shouldKeepAlive = false;
      return this.#send(badRequest());
    }
    this.#request = request;
    try {
      const answer = this.#context.handler(request, new RequestInfo(this));
      // Most responses are available immediately, and need not wait for a microtask.
      if (answer instanceof Response) this.#send(answer);
      else this.#sendLater(answer);
    } catch (error) {
      this.#sendLater(Promise.reject(error));
    }
  }

  /** Handles that the client has ended its side, and may have disconnected. */
  abort(): void {
    this.#clientEnded = true;
    this.#abort?.();
    this.#body.breakOff();
  }

  readonly #onAbort = (abort: () => void): void => {
    this.#abort = abort;
    if (this.#clientEnded) abort();
  };

  /** Handles that the response is sent, or can no longer be sent. */
  closed(): void {
    if (this.#outgoing.sent) return this.#completed?.resolve();
    this.abort();
    const { failure } = this.#outgoing;
    if (failure !== undefined) this.#report(failure.error, failure.clientGone);
    this.#completed?.reject(failure?.error ?? this.#brokenOff());
  }

  async #sendLater(answer: Promise<Response>): Promise<void> {
    let response: Response | undefined;
    try {
      response = toResponse(await answer);
      if (response === undefined) throw new TypeError("Cannot send a response: the handler did not return a Response");
    } catch (error) {
      response = await this.#answerTo(error);
    }
    this.#send(response);
  }

  #send(response: Response): void {
    if (this.#webSocket !== undefined) return this.#begin(this.#webSocket);
    if (this.#outgoing.destroyed) return void discard(response);
    try {
      this.#outgoing.send(response, this.#body)?.catch((error) => this.#sendInstead(error));
    } catch (error) {
      discard(response);
      this.#sendInstead(error);
    }
  }

  #begin(webSocket: WsSocket): void {
    try {
      this.#context.webSockets.begin(webSocket);
    } catch (error) {
      this.#answerTo(error);
    }
  }

  /** Sends another response, or ends the connection if the headers were already sent. Never rejects. */
  async #sendInstead(error: unknown): Promise<void> {
    const outgoing = this.#outgoing;
    if (outgoing.destroyed) return;
    const instead = await this.#answerTo(error);
    if (outgoing.headersSent || outgoing.destroyed) return void outgoing.destroy();
    try {
      await outgoing.send(instead, this.#body);
    } catch (errorOfInstead) {
      print(errorOfInstead);
      discard(instead);
      if (outgoing.headersSent) outgoing.destroy();
      else outgoing.send(internalServerError(), this.#body);
    }
  }

  /** Returns the response to an error. A fault of the client is not reported. */
  async #answerTo(error: unknown): Promise<Response> {
    if (this.#webSocket !== undefined) this.#webSocket.close(INTERNAL_ERROR);
    else {
      const answer = answerToClient(error);
      if (answer !== undefined) return answer;
    }
    return await this.#report(error) ?? internalServerError();
  }

  async #report(
    error: unknown,
    clientGone = this.#clientEnded || this.#outgoing.destroyed || this.#incoming.destroyed,
  ): Promise<Response | undefined> {
    if (this.#reported || clientGone && this.#isAbort(error)) return undefined;
    this.#reported = true;
    return toResponse(await reportError(this.#context.onError, error, this.#request));
  }

  /** Returns whether an error only means that the client has disconnected. */
  #isAbort(error: unknown): boolean {
    if (this.#webSocket !== undefined) return false;
    if (error === this.#incoming.errored) return true;
    try {
      if (!(error instanceof Error)) return false;
      if (error.name === "AbortError" || error instanceof Deno.errors.ConnectionAborted) return true;
      const { code } = error as { code?: unknown };
      return code === "ECONNRESET" || code === "EPIPE" || code === "ERR_STREAM_PREMATURE_CLOSE";
    } catch {
      // A thrown value may have any type.
      return false;
    }
  }

  #brokenOff(): Error {
    return new Deno.errors.ConnectionAborted("Cannot send the response: the connection ended before");
  }
}

/** Returns the value as a `Response`. Frameworks for Node have their own classes. */
function toResponse(value: unknown): Response | undefined {
  try {
    if (value instanceof Response) return value;
    const isOne = typeof value === "object" && value !== null && "status" in value && "headers" in value;
    return isOne ? value as Response : undefined;
  } catch {
    return undefined;
  }
}

/** Cancels the body of a response, which is not needed. Never rejects. */
async function discard(response: Response): Promise<void> {
  try {
    if (!response.bodyUsed) await response.body?.cancel();
  } catch {
    // It is locked, or the returned value is not a response.
  }
}
