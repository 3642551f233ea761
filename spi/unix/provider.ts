/**
 * "A customized service provider that supports shared sockets", for a system that has none of its own.
 *
 * @module
 */
import { checkedMilliseconds } from "../../ffi/milliseconds.ts";
import { systemCalls } from "../../ffi/system.ts";
import type { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import type { ServiceProvider } from "../service_provider.ts";
import { isEntry } from "../chain.ts";
import { decodeBlob, encodeBlob, familyOf, UNIX_PROTOCOL_INFO } from "./blob.ts";
import { claimNow } from "./claim_now.ts";
import { ClaimConnection } from "./claim_connection.ts";
import { EarlyDescriptors } from "./early_descriptors.ts";
import { Rendezvous } from "./rendezvous.ts";

/** How a {@linkcode UnixProvider} shares sockets. */
export interface UnixProviderOptions {
  /** How long a duplicate waits to be opened, in milliseconds, at most 2 147 483 647. Default 30 000. */
  timeToLive?: number;
}

/** A connection to a source's rendezvous, or one that is being made. */
interface Connection {
  readonly connecting: Promise<ClaimConnection>;
  open: ClaimConnection | undefined;
}

/**
 * Shares sockets through `SCM_RIGHTS` (unix(7)), on Linux and macOS.
 *
 * A duplicate waits in the source process until the target claims it: the blob names the source's rendezvous, a local
 * socket, and the kernel says (`SO_PEERCRED`, `LOCAL_PEERPID`) which process is claiming. To a target that has claimed
 * before, and is still connected, the descriptor is sent at once. The source must keep running, and return to its event
 * loop, until the claim.
 *
 * On Linux the rendezvous has an abstract name, and source and target must be in the same network namespace. On macOS it
 * is a file in a directory of its own in `/tmp`, which only this user may enter (other users too if this is root). The
 * directory is removed when the process ends by itself or by `Deno.exit`; one that is killed leaves it behind.
 *
 * Needs `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or where the distribution keeps it;
 * `--allow-ffi=/usr/lib/libSystem.B.dylib` on macOS.
 */
export class UnixProvider implements ServiceProvider {
  readonly protocolInfo: WSAPROTOCOL_INFOW = UNIX_PROTOCOL_INFO;
  readonly #timeToLive: number;
  readonly #connections = new Map<string, Connection>();
  readonly #early: EarlyDescriptors;
  #rendezvous: Rendezvous | undefined;

  /**
   * Makes the provider; nothing is opened before it is used.
   *
   * @param options How it shares sockets.
   * @throws {RangeError} If `timeToLive` is not from 0 to 2 147 483 647.
   */
  constructor({ timeToLive = 30_000 }: UnixProviderOptions = {}) {
    this.#timeToLive = checkedMilliseconds("timeToLive", timeToLive);
    this.#early = new EarlyDescriptors(this.#timeToLive);
  }

  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer> {
    const datagram = systemCalls().isDatagram(s, `duplicate socket ${s} for process ${processId}`);
    const rendezvous = this.#rendezvous ??= new Rendezvous(this.#timeToLive);
    const number = rendezvous.duplicate(s, processId);
    const family = familyOf(systemCalls().localAddress(s));
    return encodeBlob({ rendezvous: rendezvous.name, number, processId, datagram }, family);
  }

  async socket(info: Uint8Array): Promise<bigint> {
    if (isEntry(info, this.protocolInfo)) return systemCalls().open("0.0.0.0");
    const { rendezvous, number } = decodeBlob(info);
    for (;;) {
      const early = this.#takeEarly(rendezvous, number);
      if (early !== undefined) return early;
      const connection = await this.#connect(rendezvous);
      if (connection.retired === undefined) return await connection.claim(number);
      await connection.retired;
    }
  }

  /** Blocks this thread until the source answers, 5 seconds at most; at once where the source is this process. */
  socketNow(info: Uint8Array): bigint {
    if (isEntry(info, this.protocolInfo)) return systemCalls().open("0.0.0.0");
    const { rendezvous, number } = decodeBlob(info);
    const early = this.#takeEarly(rendezvous, number);
    if (early !== undefined) return early;
    return this.#rendezvous?.name === rendezvous ? this.#rendezvous.take(number) : claimNow(rendezvous, number);
  }

  withdraw(info: Uint8Array): void {
    const { rendezvous, number, processId } = decodeBlob(info);
    if (this.#rendezvous?.name === rendezvous) this.#rendezvous.withdraw(number, processId);
  }

  closeSocket(s: bigint): void {
    systemCalls().close(s);
  }

  /** What the source has sent ahead of its claim. */
  #takeEarly(rendezvous: string, number: number): bigint | undefined {
    this.#connections.get(rendezvous)?.open?.receiveEarly();
    return this.#early.take(rendezvous, number);
  }

  #connect(rendezvous: string): Promise<ClaimConnection> {
    const known = this.#connections.get(rendezvous);
    if (known !== undefined) return known.connecting;
    const forget = () => this.#connections.delete(rendezvous);
    const connecting = ClaimConnection.connect(rendezvous, this.#early, forget);
    const connection: Connection = { connecting, open: undefined };
    this.#connections.set(rendezvous, connection);
    connecting.then((open) => connection.open = open, forget);
    return connecting;
  }
}
