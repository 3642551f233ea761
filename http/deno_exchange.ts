/**
 * What a handler is told of a request that the server of `Deno.serve` has parsed.
 *
 * @module
 */
import type { SocketAddr } from "../sockets/address.ts";
import type { DenoInfo } from "./deno_http.ts";
import type { Peer } from "./exchange.ts";
import type { HttpInfo } from "./options.ts";

/** What a handler is told besides the request. */
export class DenoExchange implements HttpInfo<SocketAddr> {
  readonly #peer: Peer;
  readonly #info: DenoInfo;

  constructor(peer: Peer, info: DenoInfo) {
    this.#peer = peer;
    this.#info = info;
  }

  get localAddr(): SocketAddr {
    return this.#peer.localAddr;
  }

  get remoteAddr(): SocketAddr {
    return this.#peer.remoteAddr;
  }

  get data(): unknown {
    return this.#peer.data;
  }

  get completed(): Promise<void> {
    const { completed } = this.#info;
    completed.catch(() => {});
    return completed;
  }

  upgradeWebSocket(): never {
    throw noWebSockets();
  }
}

export function noWebSockets(): Error {
  return new Deno.errors.NotSupported('Cannot upgrade to a WebSocket: only the engine "node:http" can');
}
