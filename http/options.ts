/**
 * The options of `serveHttp`, and their defaults.
 *
 * @module
 */
import {
  BOOLEAN,
  checkOptions,
  FUNCTION,
  integer,
  limit,
  MAX_DURATION,
  oneOf,
  type Rule,
  SIGNAL,
} from "../internal/options.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import type { StreamOptions } from "../sockets/stream.ts";

/**
 * Answers one request. Handlers for `Deno.serve`, and the `fetch` of Hono, have this type.
 *
 * @typeParam A The type of the connections' addresses: of TCP, or `Deno.UnixAddr`.
 */
export type HttpHandler<A extends SocketAddr = Deno.NetAddr> = (
  request: Request,
  info: HttpInfo<A>,
) => Response | Promise<Response>;

/**
 * A WebSocket that {@linkcode HttpInfo.upgradeWebSocket} creates: the interface of browsers, except `dispatchEvent`.
 */
export type HttpWebSocket = Omit<WebSocket, "dispatchEvent">;

/** Options of {@linkcode HttpInfo.upgradeWebSocket}. */
export interface WebSocketUpgradeOptions {
  /**
   * The subprotocol to use if the client offers it. The `protocol` of the WebSocket is then this name. Defaults to
   * none.
   */
  protocol?: string;
  /**
   * Headers to send with the handshake, such as a cookie. Headers of the response that the handler returns are not
   * sent.
   */
  headers?: HeadersInit;
  /**
   * The time without data from the client, in seconds, as in `Deno.upgradeWebSocket`. After half of this time the
   * server sends a ping, which clients answer automatically. After all of it the WebSocket is ended (1006). While data
   * waits to be sent, the `sendTimeout` counts instead. 0 means no limit. Defaults to `30`.
   */
  idleTimeout?: number;
}

/**
 * The second argument of a handler: the connection of the request, and how to upgrade it.
 *
 * @typeParam A The type of the connection's addresses: of TCP, or `Deno.UnixAddr`.
 */
export interface HttpInfo<A extends SocketAddr = Deno.NetAddr> {
  /** The address and port, or the path, of the client. */
  readonly remoteAddr: A;
  /** The address and port, or the path, that the client connected to. */
  readonly localAddr: A;
  /** The `data` that was sent with the connection; `undefined` if there was no data. */
  readonly data: unknown;
  /** Resolves when the response is sent. Rejects if the connection ends before that. */
  readonly completed: Promise<void>;
  /**
   * Turns the connection into a WebSocket. Use it instead of `Deno.upgradeWebSocket`, which only knows the requests of
   * `Deno.serve` and throws `Deno.errors.NotSupported` for others.
   *
   * The handshake is answered immediately. Messages and the `open` event arrive after the handler has returned, so the
   * handler can add its listeners later. The `binaryType` is `arraybuffer`.
   *
   * @param options The subprotocol, the headers of the handshake, and the idle timeout.
   * @returns The WebSocket, and a response for the handler to return.
   * @throws {TypeError} If the request does not ask for a WebSocket, or the handshake is invalid. If the handler does
   * not catch this error, the client gets a 400.
   * @throws {RangeError} If the `idleTimeout` is out of range.
   */
  upgradeWebSocket(options?: WebSocketUpgradeOptions): { socket: HttpWebSocket; response: Response };
}

/** The key and the certificate for TLS. */
export interface HttpTlsOptions {
  /** The private key, in PEM format. */
  key: string;
  /** The certificate and its intermediate certificates, in PEM format. */
  cert: string;
}

/** Options of {@linkcode serveHttp}. All times are in milliseconds. */
export interface ServeHttpOptions extends StreamOptions {
  /**
   * A signal that ends the server and all its connections at once. {@linkcode HttpServer.shutdown} lets them finish.
   */
  signal?: AbortSignal;
  /**
   * A function that is called once for each error: a handler that throws, a response that cannot be sent or breaks off,
   * a connection that cannot be taken, or `connections` that fails. If a response can still be sent, the client gets the
   * response that the function returns, or a 500. A client that disconnects is not an error. Defaults to a function that
   * prints the error with `console.error`.
   */
  onError?: (error: unknown, request?: Request) => Response | void | Promise<Response | void>;
  /**
   * The server that parses requests and sends responses. {@linkcode HttpServer.engine} is the one in use. Defaults to
   * `"auto"`. To choose an engine by its name is experimental: the engines and their features may change in any
   * version.
   *
   * * `"auto"`: the server of `Deno.serve` if possible, and otherwise `node:http`. It is `node:http` with `tls`, with
   *   an option that only `node:http` supports, before Deno 2.9.6, and if this Deno cannot serve connections that it
   *   did not accept.
   * * `"Deno.serve"`: the server of `Deno.serve`. It is several times as fast, and supports HTTP/2 for clients that
   *   begin with it. Requests, `info.completed` and the treatment of responses, which must be Deno's own, are the same
   *   as in `Deno.serve`. It does not support `tls`, `native`, `requestTimeout`, `sendTimeout`, `minSendRate` and
   *   `maxHeaderSize`. The `headersTimeout` only applies to the first request of a connection. Errors that a handler
   *   throws because its client has disconnected are passed to `onError`. Connections with initial bytes and local
   *   connections are still served by `node:http`.
   * * `"node:http"`: the server of `node:http`, as Deno implements it, with all options below. "Migrating" lists the
   *   differences for handlers and clients.
   *
   * @experimental
   */
  engine?: "auto" | "node:http" | "Deno.serve";
  /** The key and the certificate for HTTPS. With them, each connection begins with a TLS handshake. */
  tls?: HttpTlsOptions;
  /**
   * The maximum number of open connections. When it is reached, the next connection is taken from `connections` when
   * one has closed. Defaults to `10_000`.
   */
  maxConnections?: number;
  /**
   * The time for the TLS handshake and the headers of a request, at most the `requestTimeout`. A client that exceeds it
   * gets a 408. It is checked four times in this time. Defaults to `30_000`, or to the `requestTimeout` if that is
   * less.
   */
  headersTimeout?: number;
  /**
   * The maximum length of a request's body, in bytes; `Infinity` means no limit. A request with a longer body is
   * answered 413. If the request states its length, the handler is not called. Otherwise reading the body throws, and
   * the client gets the 413 if the handler does not catch the error. Defaults to 128 MiB.
   */
  maxRequestBodySize?: number;
  /**
   * The time for a whole request with its body. A client that exceeds it gets a 408. 0 means no limit. Defaults to
   * `300_000`.
   */
  requestTimeout?: number;
  /**
   * The time that a connection is kept for the next request, plus one second for data in flight. Defaults to `5000`.
   */
  keepAliveTimeout?: number;
  /**
   * The time without progress in sending before the connection is reset. It only counts while data waits to be sent: a
   * response that is silent for a while, such as server-sent events, is not limited. It is checked four times in this
   * time. 0 means no limit. Defaults to `60_000`.
   */
  sendTimeout?: number;
  /**
   * The minimum rate at which a client must take data within the `sendTimeout`, in bytes per second. 0 means that one
   * byte in this time is sufficient. The server only sees when the buffers of the systems on both sides have room
   * again, which happens in large steps. With a short `sendTimeout`, a client that reads faster than this rate can
   * therefore be considered too slow. Defaults to `240`.
   */
  minSendRate?: number;
  /**
   * Whether responses are compressed for clients that accept `br` or `gzip`, by the rules of `Deno.serve`: those of
   * 64 bytes or more and streams, with a media type that compresses well, and without a `content-encoding`, a
   * `content-range` and `no-transform`. Each part of a stream is sent as soon as it is compressed. Defaults to `false`.
   */
  automaticCompression?: boolean;
  /**
   * The maximum length of all headers of a request together, in bytes. Longer headers are answered 431. Defaults to
   * `16_384`.
   */
  maxHeaderSize?: number;
  /**
   * The maximum length of a WebSocket message, in bytes. A longer one closes the WebSocket with 1009. Defaults to 16
   * MiB.
   */
  maxMessageSize?: number;
  /**
   * The maximum number of bytes that may already wait on a WebSocket when another message is sent. If more bytes wait,
   * the client does not read, and the WebSocket is ended (1006). A single message may be longer. Defaults to 16 MiB.
   */
  maxBufferedAmount?: number;
  /**
   * The time for a shutdown before all connections are closed. Defaults to `8000`, which is less than the 10 000 of a
   * pool.
   */
  shutdownTimeout?: number;
}

/**
 * The server that {@linkcode serveHttp} returns: the members of `Deno.HttpServer`, the engine, and the number of
 * connections.
 */
export interface HttpServer extends AsyncDisposable {
  /** The address of the listener that the server serves; `undefined` if `connections` is not a listener. */
  readonly addr: SocketAddr | undefined;
  /**
   * Resolves when the server takes no more connections, all its connections have closed, and the port of its listener
   * is free. If `connections` threw an error, rejects at that time with the error.
   */
  readonly finished: Promise<void>;
  /**
   * The engine for plain TCP connections without initial bytes: the one that {@linkcode ServeHttpOptions.engine} names
   * or that `"auto"` has chosen. All other connections are served by `node:http`.
   */
  readonly engine: "node:http" | "Deno.serve";
  /** The number of open connections, including WebSockets. */
  readonly connectionCount: number;
  /**
   * Takes no more connections and finishes the open ones. Responses have the header `connection: close`. A connection
   * that waits for its next request is closed at once if it was idle for a quarter of a second, and otherwise after that
   * time, because a request may be in flight. A connection that has not sent its first request has one second for it. WebSockets are asked to close (1001). Connections that are
   * still open after the `shutdownTimeout` are closed.
   *
   * If `connections` is a listener, it is closed. Its port is free when this resolves, unless another process also has
   * the listener. Other `connections` are asked to return. `receive()` can only return with its next connection, so
   * give it a signal. A connection that arrives during the shutdown is rejected and stays with its source, or is
   * served.
   *
   * @returns Resolves when all connections have closed.
   */
  shutdown(): Promise<void>;
  /** Makes the server keep the process running. This is the default; see {@linkcode HttpServer.unref}. */
  ref(): void;
  /**
   * Lets the process end although the server waits for connections or has some. If `connections` is not a listener,
   * waiting for connections is only affected if it has an `unref` method. A shutdown, and a handler that waits for
   * something else, still keep the process running.
   */
  unref(): void;
  /** The same as {@linkcode HttpServer.shutdown}. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** The options, with all defaults filled in. */
export type HttpSettings =
  & Required<Omit<ServeHttpOptions, "signal" | "engine" | "tls" | "native">>
  & Pick<ServeHttpOptions, "signal" | "tls" | "native">
  & Pick<HttpServer, "engine">;

/** The options that the server of `Deno.serve` does not support. */
const OF_NODE = ["tls", "native", "requestTimeout", "sendTimeout", "minSendRate", "maxHeaderSize"] as const;
const NUMBER = integer(0, MAX_DURATION);
const POSITIVE = integer(1, MAX_DURATION);
const TLS: Rule = {
  what: "an object with the strings `cert` and `key`",
  accepts: (value) => {
    const { cert, key } = Object(value) as Partial<HttpTlsOptions>;
    return typeof cert === "string" && typeof key === "string";
  },
};
const RULES: { readonly [Name in keyof ServeHttpOptions]: Rule } = {
  engine: oneOf("auto", "node:http", "Deno.serve"),
  automaticCompression: BOOLEAN,
  native: BOOLEAN,
  tls: TLS,
  signal: SIGNAL,
  onError: FUNCTION,
  maxConnections: POSITIVE,
  headersTimeout: POSITIVE,
  keepAliveTimeout: POSITIVE,
  maxHeaderSize: POSITIVE,
  maxMessageSize: POSITIVE,
  maxBufferedAmount: POSITIVE,
  maxRequestBodySize: limit(0),
  requestTimeout: NUMBER,
  sendTimeout: NUMBER,
  minSendRate: NUMBER,
  shutdownTimeout: NUMBER,
};

/**
 * Fills in the defaults.
 *
 * @param mayBeDeno Whether `"auto"` may choose the server of `Deno.serve`.
 * @throws {RangeError} If a number is out of range.
 * @throws {TypeError} If an option is of another type, or the engine does not support it.
 */
export function httpSettings(given: ServeHttpOptions, mayBeDeno: boolean): HttpSettings {
  checkOptions(given, RULES);
  const { engine = "auto", ...options } = given;
  const foreign = OF_NODE.find((name) => options[name] !== undefined);
  if (engine === "Deno.serve" && foreign !== undefined) {
    throw new TypeError(`Invalid \`${foreign}\`: must not be set for the engine "Deno.serve"`);
  }
  const chosen = engine !== "auto" ? engine : mayBeDeno && foreign === undefined ? "Deno.serve" : "node:http";
  // The server of `Deno.serve` does not have a `requestTimeout`, so it does not limit the `headersTimeout`.
  const least = chosen === "Deno.serve" ? options.headersTimeout ?? 0 : 0;
  const requestTimeout = options.requestTimeout ?? Math.max(300_000, least);
  const settings: HttpSettings = {
    ...options,
    engine: chosen,
    onError: options.onError ?? ((error) => console.error(error)),
    maxConnections: options.maxConnections ?? 10_000,
    headersTimeout: options.headersTimeout ?? (requestTimeout === 0 ? 30_000 : Math.min(30_000, requestTimeout)),
    requestTimeout,
    keepAliveTimeout: options.keepAliveTimeout ?? 5_000,
    sendTimeout: options.sendTimeout ?? 60_000,
    minSendRate: options.minSendRate ?? 240,
    maxHeaderSize: options.maxHeaderSize ?? 16_384,
    maxRequestBodySize: options.maxRequestBodySize ?? 128 * 1024 ** 2,
    maxMessageSize: options.maxMessageSize ?? 16 * 1024 ** 2,
    maxBufferedAmount: options.maxBufferedAmount ?? 16 * 1024 ** 2,
    shutdownTimeout: options.shutdownTimeout ?? 8_000,
    automaticCompression: options.automaticCompression ?? false,
  };
  if (requestTimeout !== 0 && settings.headersTimeout > requestTimeout) {
    throw new RangeError(
      `Invalid \`headersTimeout\`: must be at most ${requestTimeout} (requestTimeout), got ${settings.headersTimeout}`,
    );
  }
  return settings;
}
