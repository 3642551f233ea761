/**
 * The source's side of the unix provider: where target processes claim what was duplicated for them.
 *
 * @module
 */
import { concat } from "@std/bytes";
import net from "node:net";
import { listenAbstract } from "../../ffi/unix/abstract_socket.ts";
import { lastUnixError } from "../../ffi/unix/errno.ts";
import { libc } from "../../ffi/unix/libc.ts";
import { sendMessage } from "../../ffi/unix/message.ts";
import { peerProcessId, ProcessReference } from "../../ffi/unix/process.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { type Answer, CLAIM_SIZE, encodeAnswer, newRendezvousName } from "./blob.ts";
import { refusedClaim } from "./claim_now.ts";

const F_DUPFD_CLOEXEC = 1030;
const RESEND_DELAY_MS = 2;
/** Answers a connection may owe before it is dropped: its process does not read them. */
const MAX_UNSENT = 4096;

interface OpenOffer {
  readonly descriptor: bigint;
  readonly target: ProcessReference;
  readonly expiry: ReturnType<typeof setTimeout>;
}

/** Keeps duplicated descriptors until the process each was made for claims it, once, before it expires. */
export class Rendezvous {
  readonly name: string = newRendezvousName();
  readonly #offers = new Map<number, OpenOffer>();
  readonly #server: net.Server;
  #lastNumber = 0;

  /** Opens the rendezvous; it does not keep the process running. */
  constructor(readonly timeToLive: number) {
    this.#server = net.createServer((connection) => {
      try {
        this.#serve(connection);
      } catch {
        // Its process sees the connection end, and refuses the blob.
        connection.destroy();
      }
    });
    this.#server.listen({ fd: Number(listenAbstract(this.name)) });
    this.#server.unref();
  }

  /** Duplicates `s` and keeps the duplicate for one process. */
  offer(s: bigint, processId: number): number {
    const operation = `duplicate socket ${s} for process ${processId}`;
    const descriptor = BigInt(duplicateDescriptor(s, operation));
    try {
      const target = new ProcessReference(processId, operation);
      const number = this.#lastNumber = this.#lastNumber + 1 >>> 0;
      const expiry = setTimeout(() => this.withdraw(number), this.timeToLive);
      Deno.unrefTimer(expiry);
      this.#offers.set(number, { descriptor, target, expiry });
      return number;
    } catch (error) {
      libc().close(descriptor);
      throw error;
    }
  }

  /** Closes a duplicate nobody has claimed; after that, or after a claim, does nothing. */
  withdraw(number: number): void {
    const offer = this.#offers.get(number);
    if (offer === undefined) return;
    this.#offers.delete(number);
    clearTimeout(offer.expiry);
    offer.target[Symbol.dispose]();
    libc().close(offer.descriptor);
  }

  /**
   * Claims an offer made to this process itself, at once.
   *
   * @throws {WinsockError} WSAEINVAL if it is for another process, was claimed before, or has expired.
   */
  take(number: number): bigint {
    const offer = this.#offers.get(number);
    if (offer === undefined || !this.#mayClaim(number, Deno.pid)) throw refusedClaim(WSA_ERRORS.WSAEINVAL);
    const descriptor = BigInt(duplicateDescriptor(offer.descriptor, "open a shared socket"));
    this.withdraw(number);
    return descriptor;
  }

  #serve(connection: net.Socket): void {
    const fd = handleDescriptor(connection);
    const peer = peerProcessId(fd);
    const unsent: Answer[] = [];
    let rest = new Uint8Array(0);
    connection.unref();
    connection.on("error", () => connection.destroy());
    connection.on("data", (chunk: Uint8Array) => {
      rest = concat([rest, chunk]);
      const claims = rest.subarray(0, rest.byteLength - rest.byteLength % CLAIM_SIZE);
      const view = new DataView(claims.buffer, claims.byteOffset, claims.byteLength);
      rest = rest.slice(claims.byteLength);
      for (let offset = 0; offset < claims.byteLength; offset += CLAIM_SIZE) {
        const number = view.getUint32(offset, true);
        unsent.push({ number, code: this.#mayClaim(number, peer) ? 0 : WSA_ERRORS.WSAEINVAL });
      }
      this.#send(connection, fd, unsent);
    });
  }

  #mayClaim(number: number, peer: number): boolean {
    const target = this.#offers.get(number)?.target;
    return target !== undefined && target.pid === peer && target.alive;
  }

  #send(connection: net.Socket, fd: bigint, unsent: Answer[]): void {
    if (connection.destroyed) return;
    try {
      while (unsent.length > 0) {
        const answer = unsent[0]!;
        const descriptor = answer.code === 0 ? this.#offers.get(answer.number)?.descriptor : undefined;
        const code = answer.code === 0 && descriptor === undefined ? WSA_ERRORS.WSAEINVAL : answer.code;
        if (!sendMessage(fd, encodeAnswer({ number: answer.number, code }), descriptor)) break;
        if (code === 0) this.withdraw(answer.number);
        unsent.shift();
      }
      if (unsent.length > MAX_UNSENT) connection.destroy();
      else if (unsent.length > 0) {
        Deno.unrefTimer(setTimeout(() => this.#send(connection, fd, unsent), RESEND_DELAY_MS));
      }
    } catch {
      connection.destroy();
    }
  }
}

/** The descriptor under an accepted connection, for what only `sendmsg` and `getsockopt` can do. */
function handleDescriptor(connection: net.Socket): bigint {
  const fd = (connection as unknown as { _handle?: { fd?: number } })._handle?.fd;
  if (fd === undefined || fd < 0) throw new Deno.errors.NotSupported("This Deno does not tell a socket's descriptor");
  return BigInt(fd);
}

function duplicateDescriptor(s: bigint, operation: string): number {
  const descriptor = libc().fcntl(s, F_DUPFD_CLOEXEC, 0);
  if (descriptor === -1) throw lastUnixError(operation, "fcntl");
  return descriptor;
}
