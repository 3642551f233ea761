/**
 * The npm packages HTTP is served with, as far as they are used here.
 *
 * srvx makes a `Request` of what `node:http` has parsed and sends a `Response` back. Of the adapters compared it is the
 * fastest and has no dependencies. `@remix-run/node-fetch-server` serves half as many requests; `@hono/node-server`
 * wants hono beside it, and its requests have no `bytes` and cannot be given to `new Request`. ws speaks WebSocket.
 *
 * @module
 */
import "./quiet_env.ts";
import * as srvx from "srvx/node";
import * as ws from "ws";
import "./restored_env.ts";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

/** A `Request` that is made out of Node's only as far as it is looked at. */
export const NodeRequest = srvx.NodeRequest as unknown as new (
  exchange: { req: IncomingMessage; res: ServerResponse },
) => Request;

/** Sends a response; resolves when it is sent, rejects when it cannot be begun. */
export const sendNodeResponse = srvx.sendNodeResponse as unknown as (
  response: ServerResponse,
  content: Response,
) => Promise<void>;

/** A connection of ws: the browser's interface, and an EventEmitter. */
export interface WsSocket extends Omit<WebSocket, "dispatchEvent"> {
  on(event: "error", listener: (error: Error) => void): this;
  once(event: "close", listener: () => void): this;
  emit(event: "open"): boolean;
  pause(): void;
  resume(): void;
  ping(): void;
  terminate(): void;
}

/** The class of ws's connections, as far as others are made of it. */
export const WebSocketConnection = ws.WebSocket as unknown as new (...args: unknown[]) => {
  readonly bufferedAmount: number;
  send(...message: unknown[]): void;
  pong(...answer: unknown[]): void;
  terminate(): void;
};

/** What ws makes of a request to change protocols. */
export interface WsServer {
  on(event: "wsClientError", listener: (error: Error) => void): this;
  on(event: "headers", listener: (lines: string[]) => void): this;
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Uint8Array, done: (socket: WsSocket) => void): void;
}

/** Makes a {@linkcode WsServer}. */
export const WebSocketServer = ws.WebSocketServer as unknown as new (options: {
  noServer: true;
  maxPayload: number;
  clientTracking: false;
  WebSocket: typeof WebSocketConnection;
  handleProtocols: (offered: Set<string>) => string | false;
}) => WsServer;
