/**
 * The npm package that HTTP is served with, as far as it is used here: ws implements WebSocket.
 *
 * The library does not use an adapter from `node:http` to `Request` and `Response`. The existing ones (srvx,
 * `@hono/node-server`, `@remix-run/node-fetch-server`) read bodies with `Readable.toWeb`, or keep a body of their own
 * that a used request loses. They only observe the end of a body or a response. Here both must be correct if clients
 * disconnect at any time. The remaining parts of such an adapter are two short modules, `request.ts` and `response.ts`.
 *
 * @module
 */
import "./hide_env.ts";
import * as ws from "ws";
import "./restore_env.ts";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

/** A connection of ws: the interface of browsers, and an EventEmitter. */
export interface WsSocket extends Omit<WebSocket, "dispatchEvent"> {
  on(event: "error", listener: (error: Error) => void): this;
  once(event: "close", listener: () => void): this;
  emit(event: "open"): boolean;
  pause(): void;
  resume(): void;
  ping(): void;
  terminate(): void;
}

/** The class of ws's connections, with the members that subclasses use. */
export const WebSocketConnection = ws.WebSocket as unknown as new (...args: unknown[]) => {
  readonly bufferedAmount: number;
  on(event: string, listener: (...values: unknown[]) => void): unknown;
  send(...message: unknown[]): void;
  pong(...answer: unknown[]): void;
  terminate(): void;
};

/** The server of ws that handles upgrade requests. */
export interface WsServer {
  on(event: "wsClientError", listener: (error: Error) => void): this;
  on(event: "headers", listener: (lines: string[]) => void): this;
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Uint8Array, done: (socket: WsSocket) => void): void;
}

/** Creates a {@linkcode WsServer}. */
export const WebSocketServer = ws.WebSocketServer as unknown as new (options: {
  noServer: true;
  maxPayload: number;
  clientTracking: false;
  WebSocket: typeof WebSocketConnection;
  handleProtocols: (offered: Set<string>) => string | false;
}) => WsServer;
