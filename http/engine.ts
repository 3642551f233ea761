/**
 * What serves HTTP on connections.
 *
 * @module
 */
import type { SocketAddr } from "../sockets/address.ts";
import type { HttpConnection } from "./connections.ts";

/** How long a connection that waits for a request has at the shutdown, in milliseconds: one may be on its way. */
export const FAREWELL_MS = 250;

/** Parses requests, lets the handler answer them, and sends the responses. */
export interface HttpEngine {
  /** How many connections it serves, WebSockets included. */
  readonly connectionCount: number;

  /** Serves a connection until it closes, and has its socket from then on. If this throws, it is left alone. */
  serve(connection: HttpConnection<SocketAddr>): void;

  /** Lets each connection go after its next response, and asks WebSockets to close. */
  drain(): void;

  /** Closes all connections. */
  end(): void;

  /** Ends what goes on beside connections, when there are none any more. */
  stop(): void;
}
