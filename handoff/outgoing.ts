/**
 * One socket or message that is handed off: what is sent with it, and what becomes of it.
 *
 * @module
 */
import { BYTES, type Rule, SIGNAL } from "../internal/options.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { closeCopy, noteHolder, type Suspect } from "../sockets/descriptor.ts";
import { type AnySocket, kindOfSocket } from "../sockets/duplicate_socket.ts";
import { beginHandoff, type Socket } from "../sockets/socket.ts";
import type { QueuedFrame } from "./channel.ts";
import { errorAbout, HandoffError } from "./errors.ts";
import { HEADER_SIZE, MAX_INITIAL_BYTES, OFFER_SIZE } from "./protocol.ts";
import type { ListenerShare } from "./shared_listener.ts";

/** The size of a blob in bytes, even if this channel does not send blobs. */
const BLOB_SIZE = 628;
/** No initial bytes, or no blob. */
export const NO_BYTES: Uint8Array<ArrayBuffer> = new Uint8Array(0);
/** What errors of messages say. */
export const NOT_SENT = "Cannot send the message";

/** What is sent together with a socket. */
export interface SendOptions {
  /** The data for the other process: any JSON value, at most 1 MiB. */
  data?: unknown;
  /**
   * The bytes that were already read from the connection, at most 1 MiB. The next owner's first read returns them.
   * Defaults to the socket's own `initialBytes`, which this option replaces for this call. If the socket comes back,
   * these bytes are not kept; use {@linkcode Socket.unread} to keep them.
   */
  initialBytes?: Uint8Array;
  /** The signal that withdraws the socket, unless it was taken already. */
  signal?: AbortSignal;
}

/** Options of {@linkcode HandoffSource.postMessage} and {@linkcode HandoffTarget.postMessage}. */
export interface PostMessageOptions {
  /** The signal that withdraws the message, unless it was taken already. */
  signal?: AbortSignal;
}

/** What the options of a hand-off must be. */
export const SEND_RULES: { readonly initialBytes: Rule; readonly signal: Rule } = {
  initialBytes: BYTES,
  signal: SIGNAL,
};
/** What the options of a message must be. */
export const POST_RULES: { readonly signal: Rule } = { signal: SIGNAL };

/** The listeners and datagram sockets that are in flight, of all channels. Each is offered once at a time. */
const inFlight = new WeakSet<AnySocket>();

/**
 * The states: waiting → offered → settled. A hand-off is settled when its caller has been told who owns the socket. The
 * answer of the target to its OFFER may still be missing then.
 */
type State = "waiting" | "offered" | "settled";

/** One outgoing socket or message. */
export class OutgoingHandoff implements QueuedFrame {
  /** The socket; `undefined` for a message. */
  readonly socket: AnySocket | undefined;
  /** Settles with the hand-off. Resolves when the target owns the socket, and it is closed in this process. */
  readonly settled: Promise<void>;
  /** The size of its OFFER in bytes, in memory and in the channel. */
  readonly size: number;
  readonly data: Uint8Array;
  readonly initialBytes: Uint8Array;
  /** The time at which it is withdrawn, in the time of `performance.now()`. */
  deadline = Infinity;
  state: State = "waiting";
  sequence = 0;
  /** The blob that a provider made for the target, by which the duplicate can be withdrawn. */
  blob: Uint8Array = NO_BYTES;
  readonly #encode: (outgoing: OutgoingHandoff) => Uint8Array | undefined;
  readonly #done = Promise.withResolvers<void>();
  /** The share of the listener, if the source keeps the listener. */
  readonly share: ListenerShare | undefined;

  constructor(
    socket: AnySocket | undefined,
    data: Uint8Array,
    initialBytes: Uint8Array,
    encode: (outgoing: OutgoingHandoff) => Uint8Array | undefined,
    share?: ListenerShare,
  ) {
    this.socket = socket;
    this.settled = this.#done.promise;
    this.size = HEADER_SIZE + OFFER_SIZE + BLOB_SIZE + data.byteLength + initialBytes.byteLength;
    this.data = data;
    this.initialBytes = initialBytes;
    this.#encode = encode;
    this.share = share;
  }

  /** The descriptor that is sent before the frame, if the channel passes descriptors: an OFFER without a blob. */
  get descriptor(): bigint | undefined {
    return this.blob.byteLength === 0 ? this.socket?.handle : undefined;
  }

  encode(): Uint8Array | undefined {
    return this.#encode(this);
  }

  /**
   * Completes the hand-off, because the target owns the socket. This process closes its copy, and does nothing else to
   * it. A shared listener stays open in this process.
   */
  complete(): void {
    if (this.state === "settled") return;
    this.state = "settled";
    if (this.share !== undefined || this.socket === undefined) return this.#done.resolve();
    try {
      if (kindOfSocket(this.socket) !== "connection") this.socket.close();
      else closeCopy(this.socket);
      this.#done.resolve();
    } catch (error) {
      this.#done.reject(error);
    }
  }

  /**
   * Returns the socket to its caller.
   *
   * @param holder The target, if it is not trusted and may have received the socket.
   */
  giveBack(reason: unknown, holder?: Suspect): void {
    if (this.state === "settled") return;
    this.state = "settled";
    if (holder !== undefined && this.socket !== undefined) noteHolder(this.socket, holder);
    this.#done.reject(this.socket === undefined && reason instanceof HandoffError ? aboutMessage(reason) : reason);
    if (this.blob.byteLength > 0) defaultProvider().withdraw(this.blob);
  }
}

function aboutMessage(error: HandoffError): HandoffError {
  return new HandoffError(error.outcome, error.reason, errorAbout(NOT_SENT, { cause: error }));
}

/** Returns the bytes that are sent together with a socket: the given bytes, or the socket's own initial bytes. */
export function checkedInitialBytes(socket: AnySocket, given: Uint8Array | undefined): Uint8Array {
  if (kindOfSocket(socket) !== "connection") {
    if (given !== undefined) {
      throw new TypeError("Invalid `initialBytes`: must be unset for a socket that is not a connection");
    }
    return NO_BYTES;
  }
  const bytes = given ?? (socket as Socket).initialBytes;
  if (bytes.byteLength > MAX_INITIAL_BYTES) {
    const got = `${bytes.byteLength} bytes`;
    throw new RangeError(`Invalid \`initialBytes\`: must have at most ${MAX_INITIAL_BYTES} bytes, got ${got}`);
  }
  return bytes;
}

/**
 * Prevents a socket from being used, or handed off over another channel, while it is in flight.
 *
 * @returns A function that lets the socket be used again.
 */
export function takeOutOfUse(socket: AnySocket): () => void {
  if (kindOfSocket(socket) === "connection") return beginHandoff(socket as Socket);
  if (inFlight.has(socket)) throw new TypeError(`Cannot hand off socket ${socket.handle}: it is in flight already`);
  inFlight.add(socket);
  return () => inFlight.delete(socket);
}
