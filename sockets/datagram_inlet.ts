/**
 * Taking datagrams off one socket, in turn, with pauses.
 *
 * @module
 */
import type { Datagram, DatagramReceiver } from "../ffi/socket_calls.ts";
import { systemCalls } from "../ffi/system.ts";
import type { Descriptor } from "./descriptor.ts";

/** What receives for a socket, as long as it is open and nobody has paused or finished it. */
export class DatagramInlet {
  readonly #descriptor: Descriptor;
  #receiver: DatagramReceiver | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** While receiving is paused: resolves when that ends. */
  #paused: PromiseWithResolvers<void> | undefined;
  #finished = false;

  constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
  }

  /** The next datagram, after those asked for before; `undefined` when no more will be received. */
  next(buffer?: Uint8Array<ArrayBuffer>): Promise<Datagram | undefined> {
    const next = this.#last.then(() => this.#receive(buffer));
    this.#last = next.catch(() => {});
    return next;
  }

  /** Resolves when nothing is being received any more. */
  async pause(): Promise<void> {
    this.#paused ??= Promise.withResolvers();
    await this.#stop();
  }

  resume(): void {
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  /** For good. Resolves when nothing is being received any more. */
  async finish(): Promise<void> {
    this.#finished = true;
    this.resume();
    await this.#stop();
  }

  async #receive(buffer: Uint8Array<ArrayBuffer> | undefined): Promise<Datagram | undefined> {
    while (this.#descriptor.open && !this.#finished) {
      if (this.#paused !== undefined) {
        await this.#paused.promise;
        continue;
      }
      this.#receiver ??= systemCalls().receiver(this.#descriptor.handle);
      const datagram = await this.#receiver.receive(buffer);
      if (datagram !== undefined) return datagram;
    }
    return undefined;
  }

  async #stop(): Promise<void> {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    await receiver?.stop();
  }
}
