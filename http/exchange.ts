/**
 * One request and its response.
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

/** What all exchanges of a server share. */
export interface ExchangeContext {
  readonly handler: HttpHandler<SocketAddr>;
  readonly onError: HttpSettings["onError"];
  readonly webSockets: WebSockets;
}

/** What a request to change protocols leaves behind: the connection, and what was read of it too much. */
export interface Upgrade {
  readonly socket: NodeSocket;
  readonly head: Uint8Array;
}

/** Lets the handler answer a request, and sends what it answers. */
export class Exchange implements InfoSource {
  readonly peer: ConnectionInfo;
  readonly #context: ExchangeContext;
  readonly #incoming: IncomingMessage;
  readonly #outgoing: NodeResponse;
  readonly #body: RequestBody;
  readonly #upgrade: Upgrade | undefined;
  /** Aborts the signal of the request, if anybody has looked at it. */
  #abort: (() => void) | undefined;
  #request: Request | undefined;
  #webSocket: WsSocket | undefined;
  #completed: PromiseWithResolvers<void> | undefined;
  #reported = false;
  /** Whether the client has ended its side, so that what fails for that is no error. */
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
    if (this.#webSocket !== undefined) throw new TypeError("Cannot upgrade to a WebSocket: it was done already");
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
      // Most are there at once, and need not wait for a turn.
      if (answer instanceof Response) this.#send(answer);
      else this.#sendLater(answer);
    } catch (error) {
      this.#sendLater(Promise.reject(error));
    }
  }

  /** The client sends nothing more, and may have gone. */
  abort(): void {
    this.#clientEnded = true;
    this.#abort?.();
    this.#body.breakOff();
  }

  readonly #onAbort = (abort: () => void): void => {
    this.#abort = abort;
    if (this.#clientEnded) abort();
  };

  /** The response is sent, or cannot be any more. */
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
      if (response === undefined) throw new TypeError("The handler returned no Response");
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

  /** What was to be sent could not be begun, or was no more than begun. Never rejects. */
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

  /** The response to an error: the client's own fault is no error of this side. */
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

  /** Whether an error says no more than that the client, which has gone, has gone. */
  #isAbort(error: unknown): boolean {
    if (this.#webSocket !== undefined) return false;
    if (error === this.#incoming.errored) return true;
    try {
      if (!(error instanceof Error)) return false;
      if (error.name === "AbortError" || error instanceof Deno.errors.ConnectionAborted) return true;
      const { code } = error as { code?: unknown };
      return code === "ECONNRESET" || code === "EPIPE" || code === "ERR_STREAM_PREMATURE_CLOSE";
    } catch {
      // What is thrown may be anything.
      return false;
    }
  }

  #brokenOff(): Error {
    return new Deno.errors.ConnectionAborted("The connection ended before the response was sent");
  }
}

/** A `Response`, of whatever making: frameworks for Node bring their own. */
function toResponse(value: unknown): Response | undefined {
  try {
    if (value instanceof Response) return value;
    const isOne = typeof value === "object" && value !== null && "status" in value && "headers" in value;
    return isOne ? value as Response : undefined;
  } catch {
    return undefined;
  }
}

/** Tells whoever makes a response's body that nobody wants it. Never rejects. */
async function discard(response: Response): Promise<void> {
  try {
    if (!response.bodyUsed) await response.body?.cancel();
  } catch {
    // It is locked, or what was returned as a response is none.
  }
}
