/**
 * Reading and writing by plain native calls, none of which blocks the JavaScript thread: streams and datagrams.
 *
 * @module
 */
import type { Poller, PollWaiter, Readiness } from "./poller.ts";
import { YieldBudget } from "../internal/runtime.ts";
import { closeAtEnd } from "../internal/unload.ts";
import { ADDRESS_SIZE, type AddressCodec } from "./socket_address.ts";

/** A system's calls on connected sockets, none of which waits. */
export interface StreamCalls {
  /**
   * `recv`: how many bytes it wrote, 0 at the end, or `undefined` if nothing is there.
   *
   * @throws {WinsockError} Such as WSAECONNRESET.
   */
  receive(s: bigint, buffer: Uint8Array<ArrayBuffer>): number | undefined;
  /**
   * `send`: how many bytes it took, or `undefined` if there is no room.
   *
   * @throws {WinsockError} Such as WSAECONNRESET, or WSAESHUTDOWN once this side was ended.
   */
  send(s: bigint, bytes: Uint8Array<ArrayBuffer>): number | undefined;
  /** `shutdown` of the sending side: the peer reads the end after what is on its way. */
  endSending(s: bigint): void;
  /** Closes the descriptor. */
  close(s: bigint): void;
}

/** No call is given more; what is to be sent may be any amount. */
const MAX_CALL = 262_144;
/** What one call reads at most, in bytes. */
const CHUNK_SIZE = 65_536;
/** Bytes that are read and written before the event loop gets a turn; a call with few counts as one with more. */
const MAX_BYTES_IN_TURN = 1_048_576;
const CALL_COUNTS_AS = 8_192;

/** What is received into, for one call at a time: a connection that waits needs no memory. */
let streamScratch: Uint8Array<ArrayBuffer> | undefined;

/** One connected socket, and its owner. */
export class StreamIo {
  readonly #waiting = new Map<Readiness, PollWaiter>();
  readonly #turns = new YieldBudget(MAX_BYTES_IN_TURN);
  #referenced = true;
  #closed = false;
  readonly #leaveOpen: () => void;

  constructor(readonly s: bigint, readonly calls: StreamCalls, readonly poller: Poller) {
    this.#leaveOpen = closeAtEnd(s, () => calls.close(s));
  }

  /**
   * Receives what is there, or waits for something.
   *
   * @returns The bytes, the caller's own; none at the end, and once this is closed.
   * @throws {WinsockError} Such as WSAECONNRESET.
   */
  async receive(): Promise<Uint8Array<ArrayBuffer>> {
    while (!this.#closed) {
      const count = this.calls.receive(this.s, streamScratch ??= new Uint8Array(CHUNK_SIZE));
      if (count === undefined) {
        await this.#ready("read");
        continue;
      }
      const bytes = this.#own(streamScratch, count);
      await this.#did(count);
      return bytes;
    }
    return new Uint8Array(0);
  }

  /**
   * Sends all of it.
   *
   * @returns Whether all was; not if it was closed meanwhile.
   * @throws {WinsockError} Such as WSAECONNRESET.
   */
  async send(bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
    for (let begin = 0; begin < bytes.byteLength;) {
      if (this.#closed) return false;
      const count = this.calls.send(this.s, bytes.subarray(begin, begin + MAX_CALL));
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
   * Sends what there is room for at the moment.
   *
   * @returns How many bytes were sent.
   * @throws {WinsockError} Such as WSAECONNRESET.
   */
  trySend(bytes: Uint8Array<ArrayBuffer>): number {
    return this.#closed ? 0 : this.calls.send(this.s, bytes) ?? 0;
  }

  /**
   * Receives into a buffer, or waits for something.
   *
   * @returns How many bytes; 0 at the end, `undefined` once this is closed.
   * @throws {WinsockError} Such as WSAECONNRESET.
   */
  receiveInto(buffer: Uint8Array<ArrayBuffer>): Promise<number | undefined> {
    return this.#once("read", () => this.calls.receive(this.s, buffer.subarray(0, MAX_CALL)));
  }

  /**
   * Sends as much as there is room for, or waits for room.
   *
   * @returns How many bytes; `undefined` once this is closed.
   * @throws {WinsockError} Such as WSAECONNRESET.
   */
  sendSome(bytes: Uint8Array<ArrayBuffer>): Promise<number | undefined> {
    return this.#once("write", () => this.calls.send(this.s, bytes.subarray(0, MAX_CALL)));
  }

  /** Ends this side: the peer reads the end. */
  endSending(): void {
    if (this.#closed) return;
    this.calls.endSending(this.s);
  }

  /** Whether waiting keeps the process running; at first it does. */
  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    for (const waiting of this.#waiting.values()) this.poller.reference(waiting, referenced);
  }

  /** Whether it is closed, or is about to be. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Closes the socket once no thread looks at it any more; who waits goes on then. */
  async close(): Promise<void> {
    if (this.#closed) return;
    await this.leave();
    this.calls.close(this.s);
  }

  /** Leaves the socket open, to its owner, once no thread looks at it any more; who waits goes on then. */
  async leave(): Promise<void> {
    // Once it was closed or left, the number may be another's.
    if (!this.#closed) this.poller.release(this.s);
    this.#closed = true;
    await Promise.all(this.#waiting.values().map((waiting) => this.poller.cancel(waiting)));
    this.#leaveOpen();
  }

  /** Calls until the call has a result, waiting in between. */
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

  /** A short message is copied, so that it does not hold the room of a long one. */
  #own(buffer: Uint8Array<ArrayBuffer>, count: number): Uint8Array<ArrayBuffer> {
    if (count < CHUNK_SIZE / 2) return buffer.slice(0, count);
    streamScratch = undefined;
    return buffer.subarray(0, count);
  }

  /** Lets others have a turn when it is time. */
  async #did(count: number): Promise<void> {
    this.#turns.spend(Math.max(count, CALL_COUNTS_AS));
    if (this.#turns.exhausted) await this.#turns.yield();
  }
}

/** One datagram that came. */
export interface Datagram {
  /** Its bytes, the beginning of the buffer that was given or a copy; what did not fit is lost. */
  readonly data: Uint8Array<ArrayBuffer>;
  readonly sender: Deno.NetAddr;
}

/** Waits for datagrams on one socket, without blocking the event loop. */
export interface DatagramReceiver {
  /**
   * The next datagram; `undefined` once the receiver is stopped. One call at a time.
   *
   * @param buffer What to receive into; by default there is room for any.
   * @throws {WinsockError} If receiving fails for good.
   */
  receive(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined>;
  /** Wakes a pending {@linkcode DatagramReceiver.receive} at once; the socket stays open. */
  stop(): Promise<void>;
  /** Whether a pending {@linkcode DatagramReceiver.receive} keeps the process running; at first it does. */
  set referenced(referenced: boolean);
}

const MAX_DATAGRAMS_IN_TURN = 64;
/** No UDP datagram is longer. */
const MAX_DATAGRAM = 65_535;

/** What is received into where the caller gives no buffer: copied before anybody else can receive. */
let datagramScratch: Uint8Array<ArrayBuffer> | undefined;

/** The sender's address and its length, of one call at a time. */
const name = new Uint8Array(ADDRESS_SIZE);
const nameLength = new Int32Array(1);

/**
 * `recvfrom` on a system, without waiting: how many bytes it wrote, or `undefined` if nothing is there.
 *
 * @throws {WinsockError} If receiving fails for good.
 */
export type TryReceive = (
  s: bigint,
  buffer: Uint8Array<ArrayBuffer>,
  name: Uint8Array<ArrayBuffer>,
  nameLength: Int32Array<ArrayBuffer>,
) => number | undefined;

/** Receives when something is there, and waits with the poller when nothing is. */
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
  ) {}

  async receive(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined> {
    // Whoever takes datagrams is to get a turn at answering them.
    if (this.#turns.exhausted) await this.#turns.yield();
    while (!this.#stopped) {
      nameLength[0] = ADDRESS_SIZE;
      const into = buffer ?? (datagramScratch ??= new Uint8Array(MAX_DATAGRAM));
      const length = this.receiveNow(this.s, into, name, nameLength);
      if (length !== undefined) {
        this.#turns.spend();
        const data = buffer === undefined ? into.slice(0, length) : into.subarray(0, length);
        return { data, sender: this.addresses.decodeInternet(name, "udp") };
      }
      // A turn of the event loop costs less than waiting, and where several came the next is not far.
      await (this.#turns.spent > 1 ? this.#turns.yield() : this.#wait());
    }
    return undefined;
  }

  async stop(): Promise<void> {
    // Once it was stopped, the number may be another's.
    if (!this.#stopped) this.poller.release(this.s);
    this.#stopped = true;
    // What waits is told when the thread has let go of the socket, and not before: it may want the port.
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
