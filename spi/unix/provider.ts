/**
 * "A customized service provider that supports shared sockets", for a system that has none of its own.
 *
 * @module
 */
import { systemCalls } from "../../ffi/system.ts";
import type { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import type { ServiceProvider } from "../service_provider.ts";
import { isEntry } from "../chain.ts";
import { decodeOffer, encodeOffer, UNIX_PROTOCOL_INFO } from "./blob.ts";
import { claimNow } from "./claim_now.ts";
import { ClaimConnection } from "./claims.ts";
import { Rendezvous } from "./rendezvous.ts";

/** How a {@linkcode UnixProvider} shares sockets. */
export interface UnixProviderOptions {
  /** How long a duplicate waits to be opened, in milliseconds. Default 30 000. */
  timeToLive?: number;
}

/**
 * Shares sockets through `SCM_RIGHTS` (unix(7)).
 *
 * A duplicate waits in the source process until the target claims it: the blob names the source's rendezvous, an
 * abstract local socket, and the kernel says (`SO_PEERCRED`) which process is claiming. Source and target must be in the
 * same network namespace, and the source must keep running, and return to its event loop, until the claim.
 *
 * Needs `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or where the distribution keeps it.
 */
export class UnixProvider implements ServiceProvider {
  readonly protocolInfo: WSAPROTOCOL_INFOW = UNIX_PROTOCOL_INFO;
  readonly #timeToLive: number;
  readonly #connections = new Map<string, Promise<ClaimConnection>>();
  #rendezvous: Rendezvous | undefined;

  /**
   * Makes the provider; nothing is opened before it is used.
   *
   * @param options How it shares sockets.
   */
  constructor(options: UnixProviderOptions = {}) {
    this.#timeToLive = options.timeToLive ?? 30_000;
  }

  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer> {
    systemCalls().kind(s, `duplicate socket ${s} for process ${processId}`);
    const rendezvous = this.#rendezvous ??= new Rendezvous(this.#timeToLive);
    return encodeOffer({ rendezvous: rendezvous.name, number: rendezvous.offer(s, processId) });
  }

  async socket(info: Uint8Array): Promise<bigint> {
    if (isEntry(info, this.protocolInfo)) return systemCalls().open("0.0.0.0");
    const { rendezvous, number } = decodeOffer(info);
    const connection = await this.#connect(rendezvous);
    return await connection.claim(number);
  }

  /** Blocks this thread until the source answers, 5 seconds at most; at once where the source is this process. */
  socketNow(info: Uint8Array): bigint {
    if (isEntry(info, this.protocolInfo)) return systemCalls().open("0.0.0.0");
    const { rendezvous, number } = decodeOffer(info);
    return this.#rendezvous?.name === rendezvous ? this.#rendezvous.take(number) : claimNow(rendezvous, number);
  }

  withdraw(info: Uint8Array): void {
    const { rendezvous, number } = decodeOffer(info);
    if (this.#rendezvous?.name === rendezvous) this.#rendezvous.withdraw(number);
  }

  closeSocket(s: bigint): void {
    systemCalls().close(s);
  }

  #connect(rendezvous: string): Promise<ClaimConnection> {
    const known = this.#connections.get(rendezvous);
    if (known !== undefined) return known;
    const forget = () => this.#connections.delete(rendezvous);
    const connecting = ClaimConnection.connect(rendezvous, forget);
    this.#connections.set(rendezvous, connecting);
    connecting.catch(forget);
    return connecting;
  }
}
