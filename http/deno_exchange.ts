/**
 * What a handler is told of a request that the server of `Deno.serve` has parsed.
 *
 * @module
 */
import type { SocketAddr } from "../sockets/address.ts";
import type { DenoInfo } from "./deno_http.ts";
import type { HttpInfo, HttpWebSocket, WebSocketUpgradeOptions } from "./options.ts";
import { type Peer, PeerInfo } from "./peer.ts";

/** Makes a WebSocket of the connection a request came on. */
export type Upgrade = (options: WebSocketUpgradeOptions) => HttpWebSocket;

/** What a handler is told besides the request. */
export class DenoExchange extends PeerInfo implements HttpInfo<SocketAddr> {
  readonly #info: DenoInfo;
  readonly #upgrade: Upgrade;
  #answered = false;

  constructor(peer: Peer, info: DenoInfo, upgrade: Upgrade) {
    super(peer);
    this.#info = info;
    this.#upgrade = upgrade;
  }

  get completed(): Promise<void> {
    const { completed } = this.#info;
    completed.catch(() => {});
    return completed;
  }

  upgradeWebSocket(options: WebSocketUpgradeOptions = {}): { socket: HttpWebSocket; response: Response } {
    if (this.#answered) throw new TypeError("Cannot upgrade to a WebSocket: the request was answered already");
    return { socket: this.#upgrade(options), response: new Response(null, { status: 204 }) };
  }

  /** It has its response. */
  close(): void {
    this.#answered = true;
  }
}
