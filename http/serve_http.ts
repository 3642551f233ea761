/**
 * Serving HTTP on connections that somebody else accepted.
 *
 * @module
 */
import type { SocketAddr } from "../ffi/socket_address.ts";
import { ConnectionServer, type HttpConnections } from "./connection_server.ts";
import { DenoEngine, shouldServe } from "./deno_engine.ts";
import { NodeEngine } from "./node_engine.ts";
import { type HttpHandler, type HttpServer, httpSettings, type ServeHttpOptions } from "./options.ts";

/**
 * Serves HTTP/1.1, and WebSockets, on the connections of a listener, of `receive()`, or of anything that yields sockets.
 * The handler is what `Deno.serve` takes: Hono's `app.fetch`, Oak's `app.handle`, or a function of one's own.
 *
 * Requests are parsed by Deno's own server, that of `Deno.serve`, wherever it can take a connection: if it is plain TCP, and
 * comes without initial bytes. Others, and all where that server cannot be used, are served by `node:http`, with its
 * safeguards: headers that take too long, and requests that take too long, are answered 408. By either, what is no HTTP is
 * answered 400, a body that is too long 413, and the connection is closed. Requests of one connection are answered one after
 * the other, however many of them come at once.
 *
 * Bodies are streams in both directions: how much of a request's is read is up to the handler, and a response's is asked
 * for what the client takes. By `node:http`, one that takes nothing, or next to nothing, of what waits for it is cut off after
 * the `sendTimeout`; responses made of text or bytes say their `content-length`, whatever the handler's headers say; a stream
 * that fails, or is not as long as its `content-length`, is answered as an error while nothing of it is sent, and breaks off
 * later. What a handler leaves of a request's body is thrown away: a short one so that the connection goes on, a long one
 * until the client has sent it, or for 30 s.
 *
 * When `connections` ends, the server shuts down as {@linkcode HttpServer.shutdown} does: in a worker, when its pool or
 * source is closed. An error that `connections` throws does the same, and is what `finished` rejects with.
 *
 * Needs ffi access to the system's socket library, and no net, env or read permission.
 *
 * @example A worker that answers requests on the connections it is handed
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
 * @typeParam A What the connections' addresses are: of TCP, or `Deno.UnixAddr`.
 * @param connections Where connections come from. A listener is the server's from now on: it is closed at the shutdown.
 * @param handler Answers requests.
 * @param options Limits, TLS, and what to do about errors.
 * @returns The server.
 * @throws {RangeError} If a number among the options is out of its range.
 * @throws {TypeError} If there is no such engine, or an option is not for it.
 * @throws {Deno.errors.NotSupported} If this Deno does not have the engine.
 * @throws {Error} If the key or the certificate cannot be used.
 */
export function serveHttp<A extends SocketAddr = Deno.NetAddr>(
  connections: HttpConnections<A>,
  handler: HttpHandler<A>,
  options: ServeHttpOptions = {},
): HttpServer {
  const settings = httpSettings(options, shouldServe());
  const Engine = settings.engine === "Deno.serve" ? DenoEngine : NodeEngine;
  return new ConnectionServer(connections, settings, (changed) => {
    return new Engine(handler as HttpHandler<SocketAddr>, settings, changed);
  });
}
