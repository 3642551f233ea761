/**
 * What the target's program gets, and how it asks for it.
 *
 * @module
 */
import type { SharedSocket } from "../sockets/duplicate_socket.ts";
import type { Socket } from "../sockets/socket.ts";

/** A socket that arrived. */
export interface Received<S extends SharedSocket = Socket> {
  /** The socket. Where sockets are accepted by hand it must not be used before {@linkcode Received.accept} has resolved. */
  readonly socket: S;
  /** The `data` of {@linkcode HandoffSource.send}; `undefined` if there was none. */
  readonly data: unknown;
  /** Bytes the source had read already. The socket's first read returns them too. */
  readonly initialBytes: Uint8Array;
  /**
   * Takes the socket: once this resolves, this process owns it and the source has let go. Where sockets are accepted
   * automatically that has happened already.
   *
   * @throws {HandoffError} If the source has taken the socket back meanwhile, or has died. It is closed here then.
   * @throws {TypeError} If it was rejected.
   */
  accept(): Promise<void>;
  /**
   * Leaves the socket to the source; it is closed here.
   *
   * @param reason Why, for the source; at most 4096 bytes of it arrive.
   * @throws {TypeError} If it was accepted already, automatically or by hand.
   */
  reject(reason: string): void;
}

/** How {@linkcode receive} takes sockets. */
export interface ReceiveOptions {
  /** Whether sockets are accepted as they come, or by hand with {@linkcode Received.accept}. Default `automatic`. */
  accept?: "automatic" | "manual";
  /** Whether to take listeners too; if not, they are rejected. Default false. */
  listeners?: boolean;
  /** Whether to take datagram sockets too; if not, they are rejected. Default false. */
  datagrams?: boolean;
  /**
   * How many sockets may be accepted ahead of the loop that takes them; more wait in the source. Default 16.
   */
  highWaterMark?: number;
  /** Ends the loop. */
  signal?: AbortSignal;
  /** Where frames come from, in chunks that are not written to again. Default: this process's stdin. */
  input?: ReadableStream<Uint8Array>;
}
