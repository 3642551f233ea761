/**
 * One socket on its way out of this process.
 *
 * @module
 */
import { defaultProvider } from "../spi/default_provider.ts";
import { duplicateSocket, type SharedSocket } from "../sockets/duplicate_socket.ts";
import { encodeFrame, FrameType, HEADER_SIZE } from "./frame.ts";
import type { MakeFrame } from "./frame_writer.ts";
import { encodeOffer } from "./payload.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/**
 * waiting → offered → committing → settled. A hand-off that is taken back, refused or failed is settled from any of
 * them.
 */
type State = "waiting" | "offered" | "committing" | "settled";

/** A hand-off as its source sees it. */
export class OutgoingHandoff {
  readonly socket: SharedSocket;
  /** Settles with the hand-off: resolves when the target owns the socket, and it is closed here. */
  readonly settled: Promise<void>;
  /** Bytes its OFFER takes, in memory and on the wire. */
  readonly size: number;
  state: State = "waiting";
  sequence = 0;
  /** The frame that waits to leave, or has left. */
  frame: MakeFrame | undefined;
  readonly #data: Uint8Array;
  readonly #initialBytes: Uint8Array;
  readonly #done = Promise.withResolvers<void>();
  #info: Uint8Array | undefined;

  constructor(socket: SharedSocket, data: Uint8Array, initialBytes: Uint8Array) {
    this.socket = socket;
    this.settled = this.#done.promise;
    this.size = HEADER_SIZE + WSAPROTOCOL_INFOW.size + 4 + data.byteLength + initialBytes.byteLength;
    this.#data = data;
    this.#initialBytes = initialBytes;
  }

  /**
   * Duplicates the socket for a process. A duplicate that has no offer would stay in the target, so it is made when its
   * offer leaves.
   *
   * @returns OFFER.
   * @throws {WinsockError} If the socket cannot be shared.
   */
  encodeOffer(processId: number): Uint8Array {
    this.#info = duplicateSocket(this.socket, processId);
    const payload = encodeOffer({ info: this.#info, data: this.#data, initialBytes: this.#initialBytes });
    return encodeFrame(FrameType.OFFER, this.sequence, ...payload);
  }

  /** COMMIT: from the moment it leaves the target owns the socket, and not before. */
  encodeCommit(): Uint8Array {
    return encodeFrame(FrameType.COMMIT, this.sequence);
  }

  /** The target has the socket: closes it here. */
  complete(): void {
    this.state = "settled";
    try {
      this.socket.close();
      this.#done.resolve();
    } catch (error) {
      this.#done.reject(error);
    }
  }

  /** Gives the socket back to whoever sent it. */
  giveBack(reason: unknown): void {
    if (this.state === "settled") return;
    this.state = "settled";
    this.#done.reject(reason);
    if (this.#info !== undefined) defaultProvider().withdraw(this.#info);
  }
}
