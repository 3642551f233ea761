/**
 * Reads and writes streams and datagrams by native calls that do not block the JavaScript thread.
 *
 * @module
 */
import type { Poller, PollWaiter, Readiness } from "./poller.ts";
import { closeAtEnd, YieldBudget } from "../internal/runtime.ts";
import { ADDRESS_SIZE, type AddressCodec } from "./socket_address.ts";

/** The calls of a system on connected sockets. None of them waits. */
export interface StreamCalls {
  /**
   * Calls `recv`. Returns the number of bytes received, 0 at the end, or `undefined` if no data is available.
   *
   * @throws {WinsockError} If the connection has failed, such as WSAECONNRESET.
   */
  receive(s: bigint, buffer: Uint8Array<ArrayBuffer>): number | undefined;
  /**
   * Calls `send`. Returns the number of bytes sent, or `undefined` if there is no room.
   *
   * @throws {WinsockError} If the connection has failed, such as WSAECONNRESET; WSAESHUTDOWN if this side was ended.
   */
  send(s: bigint, bytes: Uint8Array<ArrayBuffer>): number | undefined;
  /** Calls `shutdown` for the sending side: the peer reads the end after the data in flight. */
  endSending(s: bigint): void;
  /** Closes the descriptor, or begins to if it lingers. */
  close(s: bigint): void | Promise<void>;
}

/** The most bytes passed to one call. The caller may send any amount. */
const MAX_CALL = 262_144;
/** The most bytes that one call reads. */
const CHUNK_SIZE = 65_536;
/** Bytes read and written before the event loop gets a turn. A call with few bytes is counted as if it had more. */
const MAX_BYTES_IN_TURN = 1_048_576;
const CALL_COUNTS_AS = 8_192;

/**
 * The buffer for receiving, shared by all sockets: only one call uses it at a time, so a waiting connection needs no
 * memory.
 */
let streamScratch: Uint8Array<ArrayBuffer> | undefined;

/** Reads and writes one connected socket, and owns it. */
export class StreamIo {
  readonly #waiting = new Map<Readiness, PollWaiter>();
  readonly #turns = new YieldBudget(MAX_BYTES_IN_TURN);
  #referenced = true;
  #closed = false;
  readonly #leaveOpen: () => void;

  /**
   * @param nextLength Returns the length of the next message, for a socket that keeps the limits of messages. They are
   * then received and sent whole.
   */
  constructor(
    readonly s: bigint,
    readonly calls: StreamCalls,
    readonly poller: Poller,
    readonly nextLength?: (s: bigint) => number,
  ) {
    this.#leaveOpen = closeAtEnd(s, () => calls.close(s));
  }

  /**
   * Receives the available data, or waits until there is some.
   *
   * @returns The bytes, which belong to the caller; empty at the end, and after this was closed.
   * @throws {WinsockError} If the connection has failed, such as WSAECONNRESET.
   */
  async receive(): Promise<Uint8Array<ArrayBuffer>> {
    while (!this.#closed) {
      const length = this.nextLength?.(this.s) ?? 0;
      const long = length > CHUNK_SIZE ? new Uint8Array(length) : undefined;
      const count = this.calls.receive(this.s, long ?? (streamScratch ??= new Uint8Array(CHUNK_SIZE)));
      if (count === undefined) {
        await this.#ready("read");
        continue;
      }
      const bytes = long?.subarray(0, count) ?? this.#own(streamScratch!, count);
      await this.#did(count);
      return bytes;
    }
    return new Uint8Array(0);
  }

  /**
   * Sends all bytes.
   *
   * @returns Whether all bytes were sent; `false` if this was closed meanwhile.
   * @throws {WinsockError} If the connection has failed, such as WSAECONNRESET.
   */
  async send(bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
    for (let begin = 0; begin < bytes.byteLength;) {
      if (this.#closed) return false;
      const count = this.calls.send(this.s, bytes.subarray(begin, begin + this.#most));
      if (count === undefined) {
        await this.#ready("write");
        continue;
      }
      begin += count;
      await this.#did(count);
    }
    return true;
  }

  /**
   * Sends as many bytes as there is room for at the moment.
   *
   * @returns The number of bytes sent.
   * @throws {WinsockError} If the connection has failed, such as WSAECONNRESET.
   */
  trySend(bytes: Uint8Array<ArrayBuffer>): number {
    return this.#closed ? 0 : this.calls.send(this.s, bytes) ?? 0;
  }

  /**
   * Receives into a buffer, or waits until data is available.
   *
   * @returns The number of bytes; 0 at the end, `undefined` after this was closed.
   * @throws {WinsockError} If the connection has failed, such as WSAECONNRESET.
   */
  receiveInto(buffer: Uint8Array<ArrayBuffer>): Promise<number | undefined> {
    return this.#once("read", () => this.calls.receive(this.s, buffer.subarray(0, this.#most)));
  }

  /**
   * Sends as many bytes as there is room for, or waits for room.
   *
   * @returns The number of bytes; `undefined` after this was closed.
   * @throws {WinsockError} If the connection has failed, such as WSAECONNRESET.
   */
  sendSome(bytes: Uint8Array<ArrayBuffer>): Promise<number | undefined> {
    return this.#once("write", () => this.calls.send(this.s, bytes.subarray(0, this.#most)));
  }

  /** The most bytes of one call. */
  get #most(): number {
    return this.nextLength === undefined ? MAX_CALL : Infinity;
  }

  /** Ends the sending side: the peer reads the end. */
  endSending(): void {
    if (this.#closed) return;
    this.calls.endSending(this.s);
  }

  /** Whether a pending wait keeps the process running. Defaults to `true`. */
  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    for (const waiting of this.#waiting.values()) this.poller.reference(waiting, referenced);
  }

  /** Whether this is closed, or about to be. */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Closes the socket once no thread polls it. Pending waits then end.
   *
   * @param close Closes the descriptor. Defaults to the call of the system, on this thread.
   */
  async close(close: (s: bigint) => void | Promise<void> = this.calls.close): Promise<void> {
    if (this.#closed) return;
    await this.leave();
    await close(this.s);
  }

  /** Releases the socket to its owner, without closing it, once no thread polls it. Pending waits then end. */
  async leave(): Promise<void> {
    // After it was closed or released, the number may belong to another socket.
    if (!this.#closed) this.poller.release(this.s);
    this.#closed = true;
    await Promise.all(this.#waiting.values().map((waiting) => this.poller.cancel(waiting)));
    this.#leaveOpen();
  }

  /** Repeats the call until it has a result, and waits between attempts. */
  async #once(readiness: Readiness, call: () => number | undefined): Promise<number | undefined> {
    while (!this.#closed) {
      const count = call();
      if (count === undefined) {
        await this.#ready(readiness);
        continue;
      }
      await this.#did(count);
      return count;
    }
    return undefined;
  }

  async #ready(readiness: Readiness): Promise<void> {
    this.#turns.reset();
    const options = { referenced: this.#referenced, outlives: true, repeated: readiness === "read" };
    const waiting = this.poller.wait(this.s, readiness, options);
    this.#waiting.set(readiness, waiting);
    try {
      await waiting.over;
    } finally {
      this.#waiting.delete(readiness);
    }
  }

  /**
   * Returns bytes that the caller may keep. A short message is copied, so that it does not hold the memory of a long
   * one.
   */
  #own(buffer: Uint8Array<ArrayBuffer>, count: number): Uint8Array<ArrayBuffer> {
    if (count < CHUNK_SIZE / 2) return buffer.slice(0, count);
    streamScratch = undefined;
    return buffer.subarray(0, count);
  }

  /** Counts the work done, and yields to the event loop if it was enough for one turn. */
  async #did(count: number): Promise<void> {
    this.#turns.spend(Math.max(count, CALL_COUNTS_AS));
    if (this.#turns.exhausted) await this.#turns.yield();
  }
}

/** A received datagram. */
export interface Datagram {
  /** The bytes of the datagram: the beginning of the given buffer, or a copy. Bytes that did not fit are lost. */
  readonly data: Uint8Array<ArrayBuffer>;
  readonly sender: Deno.NetAddr | Deno.UnixAddr;
}

/** Receives datagrams on one socket, without blocking the event loop. */
export interface DatagramReceiver {
  /**
   * Waits for the next datagram. Returns `undefined` once the receiver is stopped. Only one call may be pending.
   *
   * @param buffer The buffer to receive into. Defaults to an internal buffer with room for any datagram.
   * @throws {WinsockError} If receiving fails permanently.
   */
  receive(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined>;
  /** Ends a pending {@linkcode DatagramReceiver.receive} at once. The socket stays open. */
  stop(): Promise<void>;
  /** Whether a pending {@linkcode DatagramReceiver.receive} keeps the process running; at first it does. */
  set referenced(referenced: boolean);
}

const MAX_DATAGRAMS_IN_TURN = 64;
/** The longest possible UDP datagram. */
const MAX_DATAGRAM = 65_535;

/** The buffer used if the caller passes none. Its content is copied before the next receive. */
let datagramScratch: Uint8Array<ArrayBuffer> | undefined;

/** The address of the sender and its length, shared by all calls: only one call uses them at a time. */
const name = new Uint8Array(ADDRESS_SIZE);
const nameLength = new Int32Array(1);

/**
 * Calls `recvfrom` without waiting. Returns the number of bytes received, or `undefined` if no datagram is available.
 *
 * @throws {WinsockError} If receiving fails permanently.
 */
export type TryReceive = (
  s: bigint,
  buffer: Uint8Array<ArrayBuffer>,
  name: Uint8Array<ArrayBuffer>,
  nameLength: Int32Array<ArrayBuffer>,
) => number | undefined;

/** Receives available datagrams at once; otherwise waits through the poller. */
export class PolledReceiver implements DatagramReceiver {
  readonly #turns = new YieldBudget(MAX_DATAGRAMS_IN_TURN);
  #stopped = false;
  #waiting: PollWaiter | undefined;
  #referenced = true;

  constructor(
    readonly s: bigint,
    readonly addresses: AddressCodec,
    readonly receiveNow: TryReceive,
    readonly poller: Poller,
    /** Returns the length of the next datagram, for a socket whose datagrams may be longer than those of UDP. */
    readonly nextLength?: (s: bigint) => number,
  ) {}

  async receive(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined> {
    // Yield, so that the caller can answer the datagrams it has received.
    if (this.#turns.exhausted) await this.#turns.yield();
    while (!this.#stopped) {
      nameLength[0] = ADDRESS_SIZE;
      const into = buffer ?? this.#roomForNext();
      const length = this.receiveNow(this.s, into, name, nameLength);
      if (length !== undefined) {
        this.#turns.spend();
        const data = buffer === undefined ? into.slice(0, length) : into.subarray(0, length);
        return { data, sender: this.addresses.decodeSender(name, nameLength[0]!) };
      }
      // Yielding costs less than waiting through the poller, and after several datagrams the next one is likely to
      // arrive soon.
      await (this.#turns.spent > 1 ? this.#turns.yield() : this.#wait());
    }
    return undefined;
  }

  #roomForNext(): Uint8Array<ArrayBuffer> {
    const length = this.nextLength?.(this.s) ?? 0;
    return length > MAX_DATAGRAM ? new Uint8Array(length) : datagramScratch ??= new Uint8Array(MAX_DATAGRAM);
  }

  async stop(): Promise<void> {
    // After the receiver was stopped, the number may belong to another socket.
    if (!this.#stopped) this.poller.release(this.s);
    this.#stopped = true;
    // Report the end only when the thread no longer uses the socket: the caller may want to bind the port again.
    if (this.#waiting !== undefined) await this.poller.cancel(this.#waiting);
  }

  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    if (this.#waiting !== undefined) this.poller.reference(this.#waiting, referenced);
  }

  async #wait(): Promise<void> {
    this.#turns.reset();
    const options = { referenced: this.#referenced, outlives: true, repeated: true };
    this.#waiting = this.poller.wait(this.s, "read", options);
    try {
      await this.#waiting.over;
    } finally {
      this.#waiting = undefined;
    }
  }
}
