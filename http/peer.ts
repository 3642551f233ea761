/**
 * Who is at the ends of a connection.
 *
 * @module
 */
import type { SocketAddr } from "../sockets/address.ts";

/** What is known of a connection. */
export interface Peer {
  readonly localAddr: SocketAddr;
  readonly remoteAddr: SocketAddr;
  readonly data: unknown;
}

/** What handlers are told of the connection a request came on. */
export class PeerInfo implements Peer {
  readonly #peer: Peer;

  constructor(peer: Peer) {
    this.#peer = peer;
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
}
