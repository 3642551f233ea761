/**
 * The npm package HTTP is served with, as far as it is used here: ws speaks WebSocket.
 *
 * There is no adapter from `node:http` to `Request` and `Response`. Those that there are (srvx, `@hono/node-server`,
 * `@remix-run/node-fetch-server`) read bodies by `Readable.toWeb`, or keep a body of their own that a request which was used
 * forgets, and look only at the end of a body or a response. Here both must be right while clients leave at any moment, and
 * what is left of such an adapter are two short modules, `request.ts` and `outgoing.ts`.
 *
 * @module
 */
import "./hide_env.ts";
import * as ws from "ws";
import "./restore_env.ts";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

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
  on(event: string, listener: (...values: unknown[]) => void): unknown;
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
