/**
 * Receiving datagrams, as far as the systems do it alike: without waiting on the JavaScript thread, and on a pool thread
 * only when nothing is there.
 *
 * @module
 */
import { ADDRESS_SIZE, type AddressCodec } from "./addresses.ts";
import { nodeBuiltin } from "./node_builtins.ts";
import type { Datagram, DatagramReceiver } from "./socket_calls.ts";

const MOST_IN_TURN = 64;
/** No UDP datagram is longer. */
const LONGEST_DATAGRAM = 65_535;

/** What is received into where the caller gives no buffer: copied before anybody else can receive. */
let scratch: Uint8Array<ArrayBuffer> | undefined;

/** The sender's address and its length, of one call at a time. */
const name = new Uint8Array(ADDRESS_SIZE);
const nameLength = new Int32Array(1);

/** Base of both systems' receivers. */
export abstract class PollReceiver implements DatagramReceiver {
  #stopped = false;
  /** Datagrams received since the event loop had its last turn. */
  #inTurn = 0;
  #idle: Promise<void> = Promise.resolve();

  constructor(protected readonly s: bigint, readonly addresses: AddressCodec) {}

  /** `recvfrom`, without waiting: how many bytes it wrote, or `undefined` if nothing is there. */
  protected abstract receiveNow(
    buffer: Uint8Array<ArrayBuffer>,
    name: Uint8Array<ArrayBuffer>,
    nameLength: Int32Array<ArrayBuffer>,
  ): number | undefined;
  /** Waits on a pool thread until something is there, or {@linkcode PollReceiver.wake} is called; may return earlier. */
  protected abstract wait(): Promise<void>;
  /** Ends all waiting, now and from then on. */
  protected abstract wake(): void;
  /** Nobody waits any more. */
  protected abstract dispose(): void;

  async receive(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined> {
    // Whoever takes datagrams is to get a turn at answering them.
    if (this.#inTurn === MOST_IN_TURN) await this.#turn();
    while (!this.#stopped) {
      nameLength[0] = ADDRESS_SIZE;
      const into = buffer ?? (scratch ??= new Uint8Array(LONGEST_DATAGRAM));
      const length = this.receiveNow(into, name, nameLength);
      if (length !== undefined) {
        this.#inTurn++;
        const data = buffer === undefined ? into.slice(0, length) : into.subarray(0, length);
        return { data, sender: this.addresses.decodeInternet(name, "udp") };
      }
      // A turn of the event loop costs less than a pool thread, and where several came the next is not far.
      await (this.#inTurn > 1 ? this.#turn() : this.#wait());
    }
    return undefined;
  }

  async stop(): Promise<void> {
    if (this.#stopped) return await this.#idle;
    this.#stopped = true;
    this.wake();
    await this.#idle;
    this.dispose();
  }

  async #wait(): Promise<void> {
    this.#inTurn = 0;
    const waiting = this.wait();
    this.#idle = waiting.catch(() => {});
    try {
      await waiting;
    } catch (error) {
      // A socket that is closed before the thread looks at it is no failure.
      if (!this.#stopped) throw error;
    }
  }

  #turn(): Promise<void> {
    this.#inTurn = 0;
    return new Promise((resolve) => nodeBuiltin("node:timers").setImmediate(resolve));
  }
}
