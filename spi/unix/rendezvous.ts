/**
 * The source's side of the unix provider: where target processes claim what was duplicated for them.
 *
 * @module
 */
import type net from "node:net";
import { listenAbstract } from "../../ffi/unix/abstract_socket.ts";
import { lastUnixError } from "../../ffi/unix/errno.ts";
import { nodeBuiltin } from "../../ffi/node_builtins.ts";
import { libc } from "../../ffi/unix/libc.ts";
import { ProcessReference } from "../../ffi/unix/process.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { newRendezvousName } from "./blob.ts";
import { refusedClaim } from "./claim_error.ts";
import { Claimant, type Claims } from "./claimant.ts";

const F_DUPFD_CLOEXEC = 1030;

interface OpenOffer {
  readonly descriptor: bigint;
  readonly target: ProcessReference;
  readonly expiry: ReturnType<typeof setTimeout>;
}

/**
 * Keeps duplicated descriptors until the process each was made for claims it, once, before it expires. To a process that
 * has claimed before they are sent at once.
 */
export class Rendezvous implements Claims {
  readonly name: string = newRendezvousName();
  readonly #timeToLive: number;
  readonly #offers = new Map<number, OpenOffer>();
  readonly #claimants = new Map<number, Claimant>();
  readonly #server: net.Server;
  #lastNumber = 0;

  /** Opens the rendezvous; it does not keep the process running. */
  constructor(timeToLive: number) {
    this.#timeToLive = timeToLive;
    this.#server = nodeBuiltin("node:net").createServer({ allowHalfOpen: true }, (connection) => {
      try {
        new Claimant(connection, this);
      } catch {
        // Its process sees the connection end, and refuses the blob.
        connection.destroy();
      }
    });
    this.#server.listen({ fd: Number(listenAbstract(this.name)) });
    this.#server.unref();
  }

  /** Duplicates `s` for one process; returns the offer's number. */
  offer(s: bigint, processId: number): number {
    const number = this.#lastNumber = (this.#lastNumber + 1 >>> 0) || 1;
    if (this.#claimants.get(processId)?.give(number, s) !== true) this.#keep(number, s, processId);
    return number;
  }

  /** Closes a duplicate nobody has claimed; after that, or after a claim, does nothing. */
  withdraw(number: number, processId: number): void {
    if (this.#offers.has(number)) this.#close(number);
    else this.#claimants.get(processId)?.takeBack(number);
  }

  mayClaim(number: number, processId: number): boolean {
    const target = this.#offers.get(number)?.target;
    return target !== undefined && target.pid === processId && target.alive;
  }

  descriptor(number: number): bigint | undefined {
    return this.#offers.get(number)?.descriptor;
  }

  sent(number: number): ProcessReference {
    const { descriptor, target, expiry } = this.#offers.get(number)!;
    this.#offers.delete(number);
    clearTimeout(expiry);
    libc().close(descriptor);
    return target;
  }

  joined(claimant: Claimant): void {
    this.#claimants.set(claimant.processId, claimant);
  }

  left(claimant: Claimant): void {
    if (this.#claimants.get(claimant.processId) === claimant) this.#claimants.delete(claimant.processId);
  }

  #keep(number: number, s: bigint, processId: number): void {
    const operation = `duplicate socket ${s} for process ${processId}`;
    const descriptor = BigInt(duplicateDescriptor(s, operation));
    try {
      const target = new ProcessReference(processId, operation);
      const expiry = setTimeout(() => this.#close(number), this.#timeToLive);
      Deno.unrefTimer(expiry);
      this.#offers.set(number, { descriptor, target, expiry });
    } catch (error) {
      libc().close(descriptor);
      throw error;
    }
  }

  #close(number: number): void {
    this.sent(number)[Symbol.dispose]();
  }

  /**
   * Claims an offer made to this process itself, at once.
   *
   * @throws {WinsockError} WSAEINVAL if it is for another process, was claimed before, or has expired.
   */
  take(number: number): bigint {
    const offer = this.#offers.get(number);
    if (offer === undefined || !this.mayClaim(number, Deno.pid)) throw refusedClaim(WSA_ERRORS.WSAEINVAL);
    const descriptor = BigInt(duplicateDescriptor(offer.descriptor, "open a shared socket"));
    this.#close(number);
    return descriptor;
  }
}

function duplicateDescriptor(s: bigint, operation: string): number {
  const descriptor = libc().fcntl(s, F_DUPFD_CLOEXEC, 0);
  if (descriptor === -1) throw lastUnixError(operation, "fcntl");
  return descriptor;
}
