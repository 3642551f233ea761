/**
 * The information about a request that handlers get, and the handling of their errors.
 *
 * @module
 */
import type { SocketAddr } from "../ffi/socket_address.ts";
import type { HttpInfo, HttpSettings, HttpWebSocket, WebSocketUpgradeOptions } from "./options.ts";
import { BodyTooLargeError } from "./request.ts";
import { HandshakeError } from "./web_sockets.ts";

/** The addresses and the data of a connection. */
export interface ConnectionInfo {
  readonly localAddr: SocketAddr;
  readonly remoteAddr: SocketAddr;
  readonly data: unknown;
}

/** The parts of an engine's request that `info` gives to the handler. */
export interface InfoSource {
  readonly peer: ConnectionInfo;
  readonly completed: Promise<void>;
  upgradeWebSocket(options: WebSocketUpgradeOptions): { socket: HttpWebSocket; response: Response };
}

/** The second argument of a handler. It has the members of {@linkcode HttpInfo}, and does not expose the engine. */
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

  /** A handler can take it out of the object by destructuring. */
  get upgradeWebSocket(): HttpInfo["upgradeWebSocket"] {
    return (options = {}) => this.#source.upgradeWebSocket(options);
  }
}

// Handlers must not create instances.
Reflect.deleteProperty(RequestInfo.prototype, "constructor");

/**
 * Calls `onError`. If that throws, prints its error to the console. Never rejects.
 *
 * @returns The response that `onError` returned, if any.
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

/** Prints an error. A thrown value may have any type, and may throw when it is inspected. */
export function print(error: unknown): void {
  try {
    console.error(error);
  } catch {
    console.error("An error that cannot be printed");
  }
}

/** Returns the response to an error that the client caused; `undefined` for other errors. */
export function answerToClient(error: unknown): Response | undefined {
  if (isA(HandshakeError, error)) return error.response();
  return isA(BodyTooLargeError, error) ? contentTooLarge() : undefined;
}

/** Tests `instanceof` for a value of any type, which may throw when it is inspected. */
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
