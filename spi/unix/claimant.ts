/**
 * One target process at a source's rendezvous.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import type net from "node:net";
import { sendMessage } from "../../ffi/unix/message.ts";
import { peerProcessId, type ProcessReference } from "../../ffi/unix/process.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { type Answer, CLAIM_AHEAD, CLAIM_RECEIVED, CLAIM_SIZE, encodeAnswer } from "./claim_messages.ts";
import { InFlightCopies } from "./in_flight.ts";
import { handleDescriptor } from "./node_handle.ts";

const RESEND_DELAY_MS = 2;
/** Answers a process may leave unread before its connection is dropped. */
const MAX_UNSENT = 4096;

/** What was sent: the rendezvous' descriptor, and the process it was for; both the claimant's from now on. */
export interface SentDuplicate {
  readonly descriptor: bigint;
  readonly target: ProcessReference;
}

/** What a rendezvous decides for its claimants. */
export interface Claims {
  /** Whether the process may have what it asks for. */
  mayClaim(number: number, processId: number): boolean;
  /** The descriptor to send; `undefined` if it was withdrawn meanwhile. */
  descriptor(number: number): bigint | undefined;
  /** It was sent. */
  sent(number: number): SentDuplicate;
  /** The claimant takes duplicates ahead of their claims from now on. */
  joined(claimant: Claimant): void;
  /** The claimant takes no more. */
  left(claimant: Claimant): void;
}

/** Answers the claims of one connection; sends descriptors ahead of their claims to one that has joined. */
export class Claimant {
  readonly processId: number;
  readonly #connection: net.Socket;
  readonly #fd: bigint;
  readonly #claims: Claims;
  readonly #unsent: Answer[] = [];
  readonly #inFlight = new InFlightCopies();
  #process: ProcessReference | undefined;
  /** The process takes duplicates ahead of their claims. Whoever says so may be anybody, until one was for it. */
  #ahead = false;
  #resend: ReturnType<typeof setTimeout> | undefined;
  #rest = new Uint8Array(0);

  constructor(connection: net.Socket, claims: Claims) {
    this.#connection = connection;
    this.#claims = claims;
    this.#fd = handleDescriptor(connection);
    this.processId = peerProcessId(this.#fd);
    connection.unref();
    connection.on("error", () => connection.destroy());
    connection.on("data", (chunk: Uint8Array) => this.#takeClaims(chunk));
    connection.on("end", () => this.#dismiss());
    connection.on("close", () => {
      this.#claims.left(this);
      this.#inFlight.releaseAll();
      this.#process?.[Symbol.dispose]();
      this.#process = undefined;
    });
  }

  /**
   * Sends a descriptor ahead of its claim, without waiting.
   *
   * @returns Whether it was sent: not to a process that has claimed nothing yet, reads nothing, or has ended.
   */
  give(number: number, descriptor: bigint): boolean {
    // The number of a descriptor that was closed may be another socket's by now.
    if (this.#connection.destroyed || this.#unsent.length > 0 || this.#process?.alive !== true) return false;
    const copy = this.#inFlight.copyOf(descriptor, `duplicate socket ${descriptor} for process ${this.processId}`);
    const sent = this.#sendAhead(number, copy);
    this.#inFlight.settle(number, copy, sent);
    return sent;
  }

  #sendAhead(number: number, descriptor: bigint): boolean {
    try {
      return sendMessage(this.#fd, encodeAnswer({ number, code: 0 }), descriptor);
    } catch {
      this.#connection.destroy();
      return false;
    }
  }

  /** Takes back what was given, if it has not been claimed. */
  takeBack(number: number): void {
    this.#answer({ number, code: WSA_ERRORS.WSAECANCELLED });
  }

  #takeClaims(chunk: Uint8Array): void {
    const bytes = concat([this.#rest, chunk]);
    const end = bytes.byteLength - bytes.byteLength % CLAIM_SIZE;
    const view = new DataView(bytes.buffer);
    this.#rest = bytes.slice(end);
    for (let offset = 0; offset < end; offset += CLAIM_SIZE) {
      const number = view.getUint32(offset, true);
      const flag = view.getUint32(offset + 4, true);
      if (flag === CLAIM_RECEIVED) {
        this.#inFlight.release(number);
        continue;
      }
      if (flag === CLAIM_AHEAD) this.#ahead = true;
      const code = this.#claims.mayClaim(number, this.processId) ? 0 : WSA_ERRORS.WSAEINVAL;
      this.#unsent.push({ number, code });
    }
    this.#send();
  }

  /** The process asks to be sent no more. */
  #dismiss(): void {
    this.#ahead = false;
    this.#claims.left(this);
    this.#answer({ number: 0, code: WSA_ERRORS.WSAEDISCON });
  }

  #answer(answer: Answer): void {
    this.#unsent.push(answer);
    this.#send();
  }

  #send(): void {
    if (this.#connection.destroyed) return;
    try {
      while (this.#unsent.length > 0 && this.#sendOne(this.#unsent[0]!)) this.#unsent.shift();
    } catch {
      this.#connection.destroy();
    }
    if (this.#unsent.length > MAX_UNSENT) this.#connection.destroy();
    else if (this.#unsent.length > 0) this.#resend ??= this.#sendLater();
  }

  #sendLater(): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => {
      this.#resend = undefined;
      this.#send();
    }, RESEND_DELAY_MS);
    Deno.unrefTimer(timer);
    return timer;
  }

  #sendOne({ number, code }: Answer): boolean {
    if (code !== 0) {
      if (!sendMessage(this.#fd, encodeAnswer({ number, code }))) return false;
      if (code === WSA_ERRORS.WSAEDISCON) this.#connection.end();
      return true;
    }
    const descriptor = this.#claims.descriptor(number);
    if (descriptor === undefined) return sendMessage(this.#fd, encodeAnswer({ number, code: WSA_ERRORS.WSAEINVAL }));
    if (!sendMessage(this.#fd, encodeAnswer({ number, code }), descriptor)) return false;
    const sent = this.#claims.sent(number);
    this.#inFlight.take(number, sent.descriptor);
    if (this.#process === undefined) this.#process = sent.target;
    else sent.target[Symbol.dispose]();
    if (this.#ahead) this.#claims.joined(this);
    return true;
  }
}
