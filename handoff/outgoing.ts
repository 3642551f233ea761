/**
 * One socket or message that is handed off: what is sent with it, and what becomes of it. How connections are closed that
 * a process without trust was offered.
 *
 * @module
 */
import { BYTES, type Rule, SIGNAL } from "../internal/options.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { systemCalls } from "../ffi/system.ts";
import { closeCopy, noteHolder, stopLingering, type Suspect } from "../sockets/descriptor.ts";
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

/**
 * The most threads that close connections of processes without trust. All of them may be blocked, and Deno's pool needs
 * the rest.
 */
const CLOSING_THREADS = 8;
/** How often a process is checked while its connections are closed, in milliseconds. */
const CHECK_MS = 250;

let closing = 0;
/** The processes whose connections wait for a thread. */
const waitingForThread = new Set<UntrustedProcess>();

/**
 * A process without trust. It can make the last close of a connection block, so its connections are closed one after the
 * other, by one thread at a time: it holds up the closes of its own connections only.
 *
 * If that takes too long, the process is to be ended. Afterwards nothing blocks any more: `SO_LINGER` is reset for the
 * connections that wait, and a close that is blocked already is interrupted, if the system can do that.
 */
export class UntrustedProcess implements Suspect {
  readonly processId: number;
  readonly ended: Promise<void>;
  over = false;
  /** The connections, oldest first, each with the number of checks before it was added. The first is being closed. */
  readonly #connections: { handle: bigint; end: boolean; since: number }[] = [];
  readonly #maxChecks: number;
  readonly #slow: () => void;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** The number of checks during closes. It does not grow while the event loop stands still. */
  #checks = 0;
  #closing = false;
  /** The connection that was being closed at the last check. */
  #seen: object | undefined;

  /**
   * @param child The process.
   * @param patience The time for closing a connection and those before it, in milliseconds.
   * @param slow Called when it takes longer, again and again until the process has ended.
   */
  constructor(
    { pid, status }: { readonly pid: number; readonly status: Promise<unknown> },
    patience: number,
    slow: () => void,
  ) {
    this.processId = pid;
    this.ended = status.then(() => this.#end(), () => {});
    this.#maxChecks = Math.ceil(patience / CHECK_MS);
    this.#slow = slow;
  }

  close(handle: bigint, end: boolean): void {
    if (this.over) return closeWithoutLingering(handle, end);
    this.#connections.push({ handle, end, since: this.#checks });
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => this.#check(), CHECK_MS);
    Deno.unrefTimer(this.#timer);
    waitingForThread.add(this);
    useThreads();
  }

  /** Whether there are connections to close. */
  get waits(): boolean {
    return this.#connections.length > 0;
  }

  /** Closes the oldest connection. */
  async closeFirst(): Promise<void> {
    this.#closing = true;
    const { handle, end } = this.#connections[0]!;
    await systemCalls().closeElsewhere(handle, end).catch(() => {});
    this.#closing = false;
    this.#connections.shift();
    this.#rest();
  }

  /** Stops the checks if there is nothing to close. */
  #rest(): void {
    if (this.waits) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #end(): void {
    this.over = true;
    for (const { handle, end } of this.#connections.splice(this.#closing ? 1 : 0)) closeWithoutLingering(handle, end);
    waitingForThread.delete(this);
    this.#rest();
  }

  #check(): void {
    if (!this.#closing) return;
    const [first] = this.#connections;
    const blocked = first === this.#seen;
    this.#seen = first;
    this.#checks++;
    if (!this.over && this.#checks - first!.since >= this.#maxChecks) this.#slow();
    else if (this.over && blocked) systemCalls().interruptCloses();
  }
}

/** Closes a connection that only a process that has ended can have made linger. */
function closeWithoutLingering(handle: bigint, end: boolean): void {
  stopLingering(handle);
  systemCalls().closeElsewhere(handle, end).catch(() => {});
}

/** Closes one connection of each process in turn, as long as there are threads. */
function useThreads(): void {
  for (const process of waitingForThread) {
    if (closing === CLOSING_THREADS) return;
    waitingForThread.delete(process);
    closing++;
    process.closeFirst().then(() => {
      closing--;
      if (process.waits) waitingForThread.add(process);
      useThreads();
    });
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
