/**
 * What a handler is told of the connection of a request, and what becomes of its errors.
 *
 * @module
 */
import type { SocketAddr } from "../ffi/socket_address.ts";
import type { HttpInfo, HttpSettings, HttpWebSocket, WebSocketUpgradeOptions } from "./options.ts";
import { BodyTooLargeError } from "./request.ts";
import { HandshakeError } from "./web_sockets.ts";

/** What is known of a connection. */
export interface ConnectionInfo {
  readonly localAddr: SocketAddr;
  readonly remoteAddr: SocketAddr;
  readonly data: unknown;
}

/** What an engine knows of a request, and can do with it, for the handler. */
export interface InfoSource {
  readonly peer: ConnectionInfo;
  readonly completed: Promise<void>;
  upgradeWebSocket(options: WebSocketUpgradeOptions): { socket: HttpWebSocket; response: Response };
}

/** What a handler is given besides the request: what {@linkcode HttpInfo} has, and nothing of the engine. */
export class RequestInfo implements HttpInfo<SocketAddr> {
  readonly #source: InfoSource;

  constructor(source: InfoSource) {
    this.#source = source;
  }

  get localAddr(): SocketAddr {
    return this.#source.peer.localAddr;
  }

  get remoteAddr(): SocketAddr {
    return this.#source.peer.remoteAddr;
  }

  get data(): unknown {
    return this.#source.peer.data;
  }

  get completed(): Promise<void> {
    return this.#source.completed;
  }

  /** It can be taken out of its object, as handlers do with their parameters. */
  get upgradeWebSocket(): HttpInfo["upgradeWebSocket"] {
    return (options = {}) => this.#source.upgradeWebSocket(options);
  }
}

// Handlers are not to make any.
Reflect.deleteProperty(RequestInfo.prototype, "constructor");

/**
 * Tells of an error; one in telling goes to the console. Never rejects.
 *
 * @returns What is to be answered to it, if anything.
 */
export async function reportError(
  onError: HttpSettings["onError"],
  error: unknown,
  request?: Request,
): Promise<Response | void> {
  try {
    return await onError(error, request);
  } catch (errorOfHandler) {
    print(errorOfHandler);
  }
}

/** Prints an error. What is thrown may be anything, and may throw in being looked at. */
export function print(error: unknown): void {
  try {
    console.error(error);
  } catch {
    console.error("An error that cannot be printed");
  }
}

/** The response to what is the client's own fault; `undefined` if an error is none of those. */
export function answerToClient(error: unknown): Response | undefined {
  if (isA(HandshakeError, error)) return error.response();
  return isA(BodyTooLargeError, error) ? contentTooLarge() : undefined;
}

/** `instanceof`, of what may be anything, and may throw in being looked at. */
export function isA<T>(Class: new (...args: never[]) => T, value: unknown): value is T {
  try {
    return value instanceof Class;
  } catch {
    return false;
  }
}

export function badRequest(): Response {
  return new Response("Bad Request", { status: 400 });
}

export function contentTooLarge(): Response {
  return new Response("Content Too Large", { status: 413 });
}

export function internalServerError(): Response {
  return new Response("Internal Server Error", { status: 500 });
}
