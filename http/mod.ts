/**
 * HTTP, HTTPS and WebSockets on connections that were accepted elsewhere: in a worker, or by a listener of this
 * library.
 *
 * Handlers are the same as for `Deno.serve`, such as Hono's `app.fetch` and Oak's `app.handle`. Needs the permissions
 * of the connections, ffi access to the system's socket library, and no net, env or read permission.
 *
 * @example A server without net permission
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { serveHttp } from "@winsock/handoff/http";
 * import { assertEquals } from "@std/assert";
 *
 * const listener = listen({ hostname: "127.0.0.1", port: 0 });
 * const { port } = listener.addr;
 * await using server = serveHttp(listener, (request, { remoteAddr }) => {
 *   return new Response(`${request.method} from ${remoteAddr.hostname}`);
 * });
 * const response = await fetch(`http://127.0.0.1:${port}`, { headers: { connection: "close" } });
 * assertEquals(await response.text(), "GET from 127.0.0.1");
 * ```
 *
 * @example A Hono app in a worker
 * ```ts ignore
 * import { receive } from "@winsock/handoff";
 * import { serveHttp } from "@winsock/handoff/http";
 * import { Hono } from "hono";
 *
 * const app = new Hono().get("/", (c) => c.text("Hello"));
 * await serveHttp(receive(), app.fetch).finished;
 * ```
 *
 * @module
 */
export type { HttpConnection, HttpConnections } from "./connection_server.ts";
export type {
  HttpHandler,
  HttpInfo,
  HttpServer,
  HttpTlsOptions,
  HttpWebSocket,
  ServeHttpOptions,
  WebSocketUpgradeOptions,
} from "./options.ts";
export { serveHttp } from "./serve_http.ts";
