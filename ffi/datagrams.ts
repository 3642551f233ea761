/**
 * Receiving datagrams, as far as the systems do it alike: without waiting on the JavaScript thread, and on a pool thread
 * only when nothing is there.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { ADDRESS_SIZE, type AddressCodec } from "./addresses.ts";
import type { Poller, Waiting } from "./poller.ts";
import type { Datagram, DatagramReceiver } from "./socket_calls.ts";

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

/** Receives when something is there, and waits on the poller's thread when nothing is. */
export class PolledReceiver implements DatagramReceiver {
  #stopped = false;
  /** Datagrams received since the event loop had its last turn. */
  #inTurn = 0;
  #waiting: Waiting | undefined;

  constructor(
    readonly s: bigint,
    readonly addresses: AddressCodec,
    readonly receiveNow: ReceiveNow,
    readonly poller: Poller,
  ) {}

  async receive(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined> {
    // Whoever takes datagrams is to get a turn at answering them.
    if (this.#inTurn === MOST_IN_TURN) await this.#turn();
    while (!this.#stopped) {
      nameLength[0] = ADDRESS_SIZE;
      const into = buffer ?? (scratch ??= new Uint8Array(LONGEST_DATAGRAM));
      const length = this.receiveNow(this.s, into, name, nameLength);
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
    this.#stopped = true;
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    // Not before the thread has let go of the socket: whoever is told may want its port.
    await this.poller.delete(waiting);
    waiting.done();
  }

  #wait(): Promise<void> {
    this.#inTurn = 0;
    return new Promise((resolve, reject) => {
      this.#waiting = {
        s: this.s,
        readiness: "read",
        referenced: true,
        done: (error) => {
          this.#waiting = undefined;
          if (error === undefined) resolve();
          else reject(error);
        },
      };
      this.poller.add(this.#waiting);
    });
  }

  #turn(): Promise<void> {
    this.#inTurn = 0;
    return new Promise((resolve) => setImmediate(resolve));
  }
}
