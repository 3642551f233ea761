/**
 * Serves HTTP on connections that were accepted elsewhere.
 *
 * @module
 */
import { check, FUNCTION, type Rule } from "../internal/options.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { compressing, compressingErrors } from "./compression.ts";
import { ConnectionServer, type HttpConnections } from "./connection_server.ts";
import { DenoEngine, shouldServe } from "./deno_engine.ts";
import { NodeEngine } from "./node_engine.ts";
import { type HttpHandler, type HttpServer, httpSettings, type ServeHttpOptions } from "./options.ts";

const CONNECTIONS: Rule = {
  what: "a Listener or an async iterable",
  accepts: (value) => typeof (Object(value) as Partial<AsyncIterable<unknown>>)[Symbol.asyncIterator] === "function",
};

/**
 * Serves HTTP/1.1 and WebSockets on the connections of a listener, of `receive()`, or of any iterable of sockets. The
 * handler is the same as for `Deno.serve`, such as Hono's `app.fetch`, Oak's `app.handle`, or a function.
 *
 * The server of `Deno.serve` parses the requests of plain TCP connections without initial bytes. `node:http` serves all
 * other connections, and all connections if that server cannot be used. With `node:http`, requests and headers that
 * take too long are answered 408. With both engines, data that is not HTTP is answered 400, a body that is too long is
 * answered 413, and the connection is closed. Requests of one connection are answered one after the other, even if
 * several arrive at once.
 *
 * Bodies are streams in both directions. The handler decides how much of a request's body is read, and a response's
 * body is read as fast as the client takes it. With `node:http`:
 *
 * * A client that takes nothing, or too little, of the waiting data is disconnected after the `sendTimeout`.
 * * Responses of text or bytes have a `content-length`, regardless of the handler's headers.
 * * If a stream fails or does not match its `content-length`, the client gets an error response if nothing was sent
 *   yet. Otherwise the response breaks off.
 * * The part of a request's body that the handler does not read is thrown away. After a short rest the connection
 *   continues. A long rest is read until the client has sent it, or for 30 s.
 *
 * When `connections` ends, the server shuts down as {@linkcode HttpServer.shutdown} does. In a worker, this happens
 * when its pool or source is closed. If `connections` throws an error, the server also shuts down, and `finished`
 * rejects with the error.
 *
 * Needs ffi access to the system's socket library, and no net, env or read permission.
 *
 * @example A worker that answers requests on the connections that it receives
 * ```ts ignore
 * import { receive } from "@winsock/handoff";
 * import { serveHttp } from "@winsock/handoff/http";
 *
 * const server = serveHttp(receive(), (request, { remoteAddr }) => {
 *   return new Response(`${request.method} ${request.url} from ${remoteAddr.hostname}\n`);
 * });
 * await server.finished;
 * ```
 *
 * @example A server without net permission
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { serveHttp } from "@winsock/handoff/http";
 * import { assertEquals } from "@std/assert";
 *
 * const listener = listen({ hostname: "127.0.0.1", port: 0 });
 * const { port } = listener.addr;
 * await using server = serveHttp(listener, async (request) => new Response(await request.text()));
 * const response = await fetch(`http://127.0.0.1:${port}`, { method: "POST", body: "hello" });
 * assertEquals(await response.text(), "hello");
 * ```
 *
 * @typeParam A The type of the connections' addresses: of TCP, or `Deno.UnixAddr`.
 * @param connections The connections to serve. The server owns a listener from then on, and closes it at the shutdown.
 * @param handler Answers requests.
 * @param options The limits, TLS, and the function to call for errors.
 * @returns The server.
 * @throws {RangeError} If a number among the options is out of range.
 * @throws {TypeError} If an argument is of another type, or the engine does not support an option.
 * @throws {Deno.errors.NotSupported} If this Deno does not have the engine.
 * @throws {Error} If the key or the certificate cannot be used.
 */
export function serveHttp<A extends SocketAddr = Deno.NetAddr>(
  connections: HttpConnections<A>,
  handler: HttpHandler<A>,
  options: ServeHttpOptions = {},
): HttpServer {
  check("handler", handler, FUNCTION);
  check("connections", connections, CONNECTIONS);
  const settings = httpSettings(options, shouldServe());
  const Engine = settings.engine === "Deno.serve" ? DenoEngine : NodeEngine;
  let handle = handler as HttpHandler<SocketAddr>;
  if (settings.automaticCompression) {
    handle = compressing(handle);
    settings.onError = compressingErrors(settings.onError);
  }
  return new ConnectionServer(connections, settings, (changed) => new Engine(handle, settings, changed));
}
