/**
 * Receiving datagrams, as far as the systems do it alike: without waiting on the JavaScript thread, and by the poller only
 * when nothing is there.
 *
 * @module
 */
import { ADDRESS_SIZE, type AddressCodec } from "./addresses.ts";
import type { Poller } from "./poller.ts";
import type { Datagram, DatagramReceiver } from "./socket_calls.ts";
import { Turns } from "./turns.ts";
import type { Waiting } from "./waiting.ts";

const MOST_IN_TURN = 64;
/** No UDP datagram is longer. */
const LONGEST_DATAGRAM = 65_535;

/** What is received into where the caller gives no buffer: copied before anybody else can receive. */
let scratch: Uint8Array<ArrayBuffer> | undefined;

/** The sender's address and its length, of one call at a time. */
const name = new Uint8Array(ADDRESS_SIZE);
const nameLength = new Int32Array(1);

/**
 * `recvfrom` on a system, without waiting: how many bytes it wrote, or `undefined` if nothing is there.
 *
 * @throws {WinsockError} If receiving fails for good.
 */
export type ReceiveNow = (
  s: bigint,
  buffer: Uint8Array<ArrayBuffer>,
  name: Uint8Array<ArrayBuffer>,
  nameLength: Int32Array<ArrayBuffer>,
) => number | undefined;

/** Receives when something is there, and waits with the poller when nothing is. */
export class PolledReceiver implements DatagramReceiver {
  readonly #turns = new Turns(MOST_IN_TURN);
  #stopped = false;
  #waiting: Waiting | undefined;

  constructor(
    readonly s: bigint,
    readonly addresses: AddressCodec,
    readonly receiveNow: ReceiveNow,
    readonly poller: Poller,
  ) {}

  async receive(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined> {
    // Whoever takes datagrams is to get a turn at answering them.
    if (this.#turns.over) await this.#turns.next();
    while (!this.#stopped) {
      nameLength[0] = ADDRESS_SIZE;
      const into = buffer ?? (scratch ??= new Uint8Array(LONGEST_DATAGRAM));
      const length = this.receiveNow(this.s, into, name, nameLength);
      if (length !== undefined) {
        this.#turns.add();
        const data = buffer === undefined ? into.slice(0, length) : into.subarray(0, length);
        return { data, sender: this.addresses.decodeInternet(name, "udp") };
      }
      // A turn of the event loop costs less than waiting, and where several came the next is not far.
      await (this.#turns.done > 1 ? this.#turns.next() : this.#wait());
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

  async #wait(): Promise<void> {
    this.#turns.rest();
    this.#waiting = this.poller.wait(this.s, "read", { outlives: true, repeated: true });
    try {
      await this.#waiting.over;
    } finally {
      this.#waiting = undefined;
    }
  }
}
