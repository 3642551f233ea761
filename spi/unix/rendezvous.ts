/**
 * The source's side of the unix provider: where target processes claim what was duplicated for them.
 *
 * @module
 */
import type net from "node:net";
import { nodeBuiltin } from "../../ffi/node_builtins.ts";
import { duplicateFrom } from "../../ffi/unix/descriptor_flags.ts";
import { libc } from "../../ffi/unix/libc.ts";
import { type ProcessReference, referToProcess } from "../../ffi/unix/process.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { Admission } from "./admission.ts";
import { refusedClaim } from "./claim_error.ts";
import { Claimant, type Claims, type SentDuplicate } from "./claimant.ts";
import { handleDescriptor } from "./node_handle.ts";
import { openRendezvous } from "./rendezvous_socket.ts";

interface WaitingDuplicate {
  readonly descriptor: bigint;
  readonly target: ProcessReference;
  readonly expiry: ReturnType<typeof setTimeout>;
}

/**
 * Keeps duplicated descriptors until the process each was made for claims it, once, before it expires. To a process that
 * has claimed before they are sent at once.
 */
export class Rendezvous implements Claims {
  readonly name: string;
  readonly #timeToLive: number;
  readonly #waiting = new Map<number, WaitingDuplicate>();
  readonly #claimants = new Map<number, Claimant>();
  readonly #admission = new Admission();
  readonly #server: net.Server;
  #lastNumber = 0;

  /**
   * Opens the rendezvous; it does not keep the process running.
   *
   * @throws {WinsockError} If the system refuses.
   * @throws {Deno.errors.NotSupported} If this Deno does not tell the descriptors of its sockets.
   */
  constructor(timeToLive: number) {
    this.#timeToLive = timeToLive;
    this.#server = nodeBuiltin("node:net").createServer({ allowHalfOpen: true }, (connection) => {
      try {
        const { processId } = new Claimant(connection, this);
        this.#admission.admit(connection, processId, () => this.#isExpected(processId));
      } catch {
        // Its process sees the connection end, and refuses the blob.
        connection.destroy();
      }
    });
    const { name, fd } = openRendezvous();
    this.name = name;
    this.#server.listen({ fd: Number(fd) });
    this.#server.unref();
    try {
      // A Deno that does not tell this one's tells no connection's, and each would only end, without a word of why.
      handleDescriptor(this.#server);
    } catch (error) {
      this.#server.close();
      throw error;
    }
  }

  /** Duplicates `s` for one process; returns the duplicate's number. */
  duplicate(s: bigint, processId: number): number {
    const number = this.#lastNumber = (this.#lastNumber + 1 >>> 0) || 1;
    if (this.#claimants.get(processId)?.give(number, s) !== true) this.#keep(number, s, processId);
    return number;
  }

  /** Closes a duplicate nobody has claimed; after that, or after a claim, does nothing. */
  withdraw(number: number, processId: number): void {
    if (this.#waiting.has(number)) this.#close(number);
    else this.#claimants.get(processId)?.takeBack(number);
  }

  mayClaim(number: number, processId: number): boolean {
    const target = this.#waiting.get(number)?.target;
    return target !== undefined && target.pid === processId && target.alive;
  }

  descriptor(number: number): bigint | undefined {
    return this.#waiting.get(number)?.descriptor;
  }

  sent(number: number): SentDuplicate {
    const { descriptor, target, expiry } = this.#waiting.get(number)!;
    this.#waiting.delete(number);
    clearTimeout(expiry);
    return { descriptor, target };
  }

  joined(claimant: Claimant): void {
    this.#claimants.set(claimant.processId, claimant);
  }

  left(claimant: Claimant): void {
    if (this.#claimants.get(claimant.processId) === claimant) this.#claimants.delete(claimant.processId);
  }

  #isExpected(processId: number): boolean {
    return this.#claimants.has(processId) || this.#waiting.values().some(({ target }) => target.pid === processId);
  }

  #keep(number: number, s: bigint, processId: number): void {
    const operation = `duplicate socket ${s} for process ${processId}`;
    const descriptor = duplicateFrom(s, 0, operation);
    try {
      const target = referToProcess(processId, operation);
      const expiry = setTimeout(() => this.#close(number), this.#timeToLive);
      Deno.unrefTimer(expiry);
      this.#waiting.set(number, { descriptor, target, expiry });
    } catch (error) {
      libc().close(descriptor);
      throw error;
    }
  }

  #close(number: number): void {
    const { descriptor, target } = this.sent(number);
    libc().close(descriptor);
    target[Symbol.dispose]();
  }

  /**
   * Claims what was duplicated for this process itself, at once.
   *
   * @throws {WinsockError} WSAEINVAL if it is for another process, was claimed before, or has expired.
   */
  take(number: number): bigint {
    const waiting = this.#waiting.get(number);
    if (waiting === undefined || !this.mayClaim(number, Deno.pid)) throw refusedClaim(WSA_ERRORS.WSAEINVAL);
    const descriptor = duplicateFrom(waiting.descriptor, 0, "open a shared socket");
    this.#close(number);
    return descriptor;
  }
}
