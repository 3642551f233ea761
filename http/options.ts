/**
 * How HTTP is served: options and their defaults.
 *
 * @module
 */
import type { SocketAddr } from "../ffi/socket_address.ts";
import type { StreamOptions } from "../sockets/stream.ts";

/**
 * Answers one request. Handlers written for `Deno.serve`, and the `fetch` of Hono, are of this type.
 *
 * @typeParam A What the connections' addresses are: of TCP, or `Deno.UnixAddr`.
 */
export type HttpHandler<A extends SocketAddr = Deno.NetAddr> = (
  request: Request,
  info: HttpInfo<A>,
) => Response | Promise<Response>;

/** A WebSocket as {@linkcode HttpInfo.upgradeWebSocket} makes them: the browser's interface, except `dispatchEvent`. */
export type HttpWebSocket = Omit<WebSocket, "dispatchEvent">;

/** How {@linkcode HttpInfo.upgradeWebSocket} answers. */
export interface WebSocketUpgradeOptions {
  /** The subprotocol to use, if the client offers it; the `protocol` of the WebSocket tells. Default: none. */
  protocol?: string;
  /** Headers to send along, such as a cookie. Those of the response the handler returns are not sent. */
  headers?: HeadersInit;
  /**
   * How long nothing may come from the client, in seconds, as with `Deno.upgradeWebSocket`. After half of that it is sent a
   * ping, which clients answer by themselves; after all of it the WebSocket is ended (1006). While something waits to be sent
   * the `sendTimeout` counts instead. 0: as long as it likes. Defaults to `30`.
   */
  idleTimeout?: number;
}

/**
 * What a handler is told besides the request.
 *
 * @typeParam A What the connection's addresses are: of TCP, or `Deno.UnixAddr`.
 */
export interface HttpInfo<A extends SocketAddr = Deno.NetAddr> {
  /** The client's address and port, or path. */
  readonly remoteAddr: A;
  /** The address and port, or the path, the client connected to. */
  readonly localAddr: A;
  /** The `data` that was handed over with the connection; `undefined` if there was none. */
  readonly data: unknown;
  /** Resolves when the response is sent; rejects when the connection ends before that. */
  readonly completed: Promise<void>;
  /**
   * Makes a WebSocket of the connection: what `Deno.upgradeWebSocket` does, which knows only the requests of `Deno.serve`,
   * and throws `Deno.errors.NotSupported` for others.
   *
   * The handshake is answered at once. Messages, and the `open` event, come after the handler has returned, so that it may
   * take its time before it listens. The `binaryType` is `arraybuffer`.
   *
   * @param options What to answer.
   * @returns The WebSocket, and a response for the handler to return.
   * @throws {TypeError} If the request asks for no WebSocket, or in a wrong way; a handler that lets this pass answers 400.
   * @throws {RangeError} If the `idleTimeout` is out of its range.
   */
  upgradeWebSocket(options?: WebSocketUpgradeOptions): { socket: HttpWebSocket; response: Response };
}

/** A certificate, and what else TLS takes. */
export interface HttpTlsOptions {
  /** The private key, as PEM. */
  key: string;
  /** The certificate and its intermediates, as PEM. */
  cert: string;
}

/** How {@linkcode serveHttp} works. All times are in milliseconds. */
export interface ServeHttpOptions extends StreamOptions {
  /** Ends the server and all its connections at once; {@linkcode HttpServer.shutdown} lets them finish. */
  signal?: AbortSignal;
  /**
   * Told of what goes wrong, once for each error: a handler that throws, a response that cannot be sent or breaks off, a
   * connection that cannot be taken, `connections` that fails. Where a response can still be sent it is the one returned,
   * or else status 500. A client that goes away is no error. Default: prints it with `console.error`.
   */
  onError?: (error: unknown, request?: Request) => Response | void | Promise<Response | void>;
  /**
   * Whose server parses requests and sends responses. {@linkcode HttpServer.engine} tells which it is. Defaults to `"auto"`.
   * To choose one by its name is experimental: which there are, and what they can do, may change in any version.
   *
   * * `"auto"`: Deno's own where it can be, and otherwise Node's: with `tls`, with an option that only Node's knows, and in a
   *   Deno before 2.9.6, or one that cannot serve the connections of others.
   * * `"Deno.serve"`: Deno's own, several times as fast, and with HTTP/2 for clients that begin with it. Requests,
   *   `info.completed` and what becomes of responses, which must be Deno's own, are as they are there. It knows no `tls`, no
   *   `native`, and of the limits below not the `requestTimeout`, the `sendTimeout`, the `minSendRate` and the
   *   `maxHeaderSize`; the `headersTimeout` is for the first request of a connection. What a handler throws because its
   *   client has gone is told to `onError`. Connections with initial bytes, and local ones, are served by `node:http` all
   *   the same.
   * * `"node:http"`: Node's, as Deno has it, with all that is below. What differs for handlers and clients is listed in
   *   "Migrating".
   *
   * @experimental
   */
  engine?: "auto" | "node:http" | "Deno.serve";
  /** Serves HTTPS: the connections begin with a TLS handshake. */
  tls?: HttpTlsOptions;
  /**
   * How many connections may be open at a time; the next one is taken from `connections` when one has closed. Default
   * 10 000.
   */
  maxConnections?: number;
  /**
   * How long a client may take for TLS and the headers of a request, at most the `requestTimeout`; then 408. Checked four
   * times in that time. Default 30 000, or the `requestTimeout` where that is less.
   */
  headersTimeout?: number;
  /**
   * How long the body of a request may be, in bytes. A longer one is answered 413: before the handler hears of it if the
   * request says its length, and otherwise when the handler does not catch what reading it throws. `Infinity`: any length.
   * Default 128 MiB.
   */
  maxRequestBodySize?: number;
  /** How long a client may take for a whole request with its body; then 408. 0: as long as it likes. Default 300 000. */
  requestTimeout?: number;
  /** How long a connection is kept for the next request, and a second more for what is on its way. Default 5000. */
  keepAliveTimeout?: number;
  /**
   * How long a client may leave what is sent to it untaken; then its connection is reset. It counts only while something
   * waits: a response that has nothing to say for the moment, such as server-sent events, may take any time. Checked four
   * times in that time. 0: as long as it likes. Default 60 000.
   */
  sendTimeout?: number;
  /**
   * How many bytes a second a client must take in the `sendTimeout` while something waits. 0: one byte in all of it will
   * do. What can be seen is that the systems on both sides have room again, which comes in lumps, so that a client may read
   * faster than this and be too slow if the `sendTimeout` is short. Default 240.
   */
  minSendRate?: number;
  /** How long all headers of a request may be together, in bytes; then 431. Default 16 384. */
  maxHeaderSize?: number;
  /** How long a WebSocket message may be, in bytes; then the WebSocket is closed with 1009. Default 16 MiB. */
  maxMessageSize?: number;
  /**
   * How many bytes may wait to be sent on a WebSocket when another message is; then its client does not read, and it is
   * ended (1006). A single message may be longer. Default 16 MiB.
   */
  maxBufferedAmount?: number;
  /** How long a shutdown may take before all connections are closed. Default 8000, which is within a pool's 10 000. */
  shutdownTimeout?: number;
}

/** What {@linkcode serveHttp} makes: what a `Deno.HttpServer` has, and which engine serves how many connections. */
export interface HttpServer extends AsyncDisposable {
  /** The address of the listener it serves; `undefined` if its connections come from elsewhere. */
  readonly addr: SocketAddr | undefined;
  /**
   * Resolves when the server takes no more connections and has none, and nothing at the port of a listener; rejects then,
   * if `connections` threw, with what it threw.
   */
  readonly finished: Promise<void>;
  /**
   * Whose server serves plain TCP connections that come without initial bytes: what was asked for, or what
   * {@linkcode ServeHttpOptions.engine} `"auto"` has chosen. All other connections are served by `node:http`.
   */
  readonly engine: "node:http" | "Deno.serve";
  /** How many connections it has, WebSockets included. */
  readonly connectionCount: number;
  /**
   * Takes no more connections and finishes what it has. Responses say `connection: close`; a connection that waits for a
   * request, its first or its next, is closed after a quarter of a second, for one may be on its way; WebSockets are asked to
   * close (1001). What is left after the `shutdownTimeout` is closed.
   *
   * A listener is closed, and its port free when this resolves, if no other process has it. Other `connections` are told
   * to return; `receive()` can do so only with the next connection, so give it a signal. What comes this late is left to
   * whoever offers it, or served.
   *
   * @returns Resolves when no connection is left.
   */
  shutdown(): Promise<void>;
  /** Makes the server keep the process running, as it does unless {@linkcode HttpServer.unref} was called. */
  ref(): void;
  /**
   * Makes the server not keep the process running, neither by waiting for connections nor by those it has. Of `connections`
   * other than a listener the first is for their own `unref`, where they have one. A shutdown, and a handler that waits for
   * something else, still do.
   */
  unref(): void;
  /** The same as {@linkcode HttpServer.shutdown}. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Options with everything filled in that has a default. */
export type HttpSettings =
  & Required<Omit<ServeHttpOptions, "signal" | "engine" | "tls" | "native">>
  & Pick<ServeHttpOptions, "signal" | "tls" | "native">
  & Pick<HttpServer, "engine">;

const ENGINES: readonly unknown[] = ["auto", "node:http", "Deno.serve"] satisfies ServeHttpOptions["engine"][];
/** What the server of `Deno.serve` does not know. */
const OF_NODE = ["tls", "native", "requestTimeout", "sendTimeout", "minSendRate", "maxHeaderSize"] as const;
const AT_LEAST_ONE = [
  "maxConnections",
  "headersTimeout",
  "keepAliveTimeout",
  "maxHeaderSize",
  "maxMessageSize",
  "maxBufferedAmount",
] as const;
const AT_LEAST_ZERO = ["requestTimeout", "sendTimeout", "minSendRate", "shutdownTimeout"] as const;

/**
 * Fills in the defaults.
 *
 * @param mayBeDeno Whether Deno's own server may be chosen.
 * @throws {RangeError} If a number is out of its range.
 * @throws {TypeError} If there is no such engine, or an option is not for it.
 */
export function httpSettings({ engine = "auto", ...options }: ServeHttpOptions, mayBeDeno: boolean): HttpSettings {
  if (!ENGINES.includes(engine)) throw new TypeError(`There is no engine "${engine}"`);
  const foreign = OF_NODE.find((name) => options[name] !== undefined);
  if (engine === "Deno.serve" && foreign !== undefined) {
    throw new TypeError(`The ${foreign} is only for the engine "node:http"`);
  }
  const chosen = engine !== "auto" ? engine : mayBeDeno && foreign === undefined ? "Deno.serve" : "node:http";
  // Deno's own has none, and may be given any time for the headers.
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
  };
  for (const name of AT_LEAST_ONE) atLeast(1, name, settings[name]);
  for (const name of AT_LEAST_ZERO) atLeast(0, name, settings[name]);
  const { maxRequestBodySize } = settings;
  if (maxRequestBodySize !== Infinity && !(Number.isSafeInteger(maxRequestBodySize) && maxRequestBodySize >= 0)) {
    throw new RangeError(`The maxRequestBodySize is ${maxRequestBodySize}, not an integer from 0 or Infinity`);
  }
  if (requestTimeout !== 0 && settings.headersTimeout > requestTimeout) {
    throw new RangeError(
      `The headersTimeout is ${settings.headersTimeout}, more than the requestTimeout, ${requestTimeout}`,
    );
  }
  return settings;
}

/**
 * Checks an option.
 *
 * @throws {RangeError} If it is no integer, less than the least, or more than timers can wait.
 */
function atLeast(least: number, name: string, value: number): void {
  if (Number.isInteger(value) && value >= least && value <= 2 ** 31 - 1) return;
  throw new RangeError(`The ${name} is ${value}, not an integer from ${least} to ${2 ** 31 - 1}`);
}
