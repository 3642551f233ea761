/**
 * HTTP, HTTPS and WebSockets on connections that somebody else accepted: in a worker, or behind a listener of this library.
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
export type { HttpConnection, HttpConnections } from "./connections.ts";
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
