/**
 * The target's side of the unix provider: claiming what a source has duplicated for this process.
 *
 * @module
 */
import { duplicateFrom } from "../../ffi/unix/descriptor_flags.ts";
import { closeElsewhere, libc } from "../../ffi/unix/libc.ts";
import { closeLocal } from "../../ffi/unix/local_socket.ts";
import { NativeMessage } from "../../ffi/unix/native_message.ts";
import { Look, POLLIN, pollNow } from "../../ffi/unix/poll.ts";
import { readableWithin } from "../../ffi/unix/poll_system.ts";
import { unixSystem } from "../../ffi/unix/system.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import {
  ANSWER_SIZE,
  BUSY,
  type Claim,
  CLAIM_SIZE,
  claimError,
  connectRendezvous,
  encodeClaim,
} from "./claim_protocol.ts";

const TIMEOUT_MS = 30_000;
const TIMEOUT_NOW_MS = 5_000;
const CONNECT_DELAY_MS = 2;
const BUSY_DELAY_MS = 20;

/**
 * Claims a duplicate.
 *
 * @param rendezvous The source's rendezvous.
 * @param claim Which of its duplicates.
 * @returns The descriptor, closed on exec; the caller's to close.
 * @throws {WinsockError} If the source refuses, is gone, or does not answer in 30 seconds.
 */
export async function claim(rendezvous: string, claim: Claim): Promise<bigint> {
  const deadline = performance.now() + TIMEOUT_MS;
  for (;;) {
    using connection = ClaimConnection.open(rendezvous, claim);
    while (connection?.busy === false) {
      await readableWithin(connection.fd, left(deadline));
      const descriptor = connection.receive();
      if (descriptor !== undefined) return descriptor;
      if (left(deadline) === 0) throw unanswered();
    }
    if (left(deadline) === 0) throw unaccepted();
    // Nothing tells when there is room again.
    await new Promise((resolve) => setTimeout(resolve, connection === undefined ? CONNECT_DELAY_MS : BUSY_DELAY_MS));
  }
}

/**
 * The same for callers that cannot wait: blocks this thread until the source answers.
 *
 * @param rendezvous The source's rendezvous.
 * @param claim Which of its duplicates.
 * @returns The descriptor, closed on exec; the caller's to close.
 * @throws {WinsockError} If the source refuses, is gone, or does not answer in 5 seconds.
 */
export function claimNow(rendezvous: string, claim: Claim): bigint {
  const deadline = performance.now() + TIMEOUT_NOW_MS;
  for (;;) {
    using connection = ClaimConnection.open(rendezvous, claim);
    while (connection?.busy === false) {
      // A signal may end the poll early: only the answer itself says that it has come.
      pollNow(left(deadline), [connection.fd, POLLIN]);
      const descriptor = connection.receive();
      if (descriptor !== undefined) return descriptor;
      if (left(deadline) === 0) throw unanswered();
    }
    if (left(deadline) === 0) throw unaccepted();
    pollNow(connection === undefined ? CONNECT_DELAY_MS : BUSY_DELAY_MS);
  }
}

/** Milliseconds until a deadline, 0 from then on. */
function left(deadline: number): number {
  return Math.max(0, Math.ceil(deadline - performance.now()));
}

/** A claim that was sent, and its answer. */
class ClaimConnection implements Disposable {
  readonly fd: bigint;
  readonly #rendezvous: string;
  readonly #look: Look;
  /** Whether the source asks to be asked again, on another connection. */
  busy = false;
  /** Keeps room for the descriptor: an answer that finds none is lost, and so is the duplicate. */
  #room: bigint | undefined;

  private constructor(fd: bigint, rendezvous: string) {
    this.fd = fd;
    this.#rendezvous = rendezvous;
    this.#look = new Look(fd, POLLIN);
  }

  /** Connects, without waiting, and sends the claim; `undefined` while too many others wait there. */
  static open(rendezvous: string, claim: Claim): ClaimConnection | undefined {
    const fd = connectRendezvous(rendezvous);
    if (fd === undefined) return undefined;
    const connection = new ClaimConnection(fd, rendezvous);
    try {
      connection.#room = duplicateFrom(fd, 0, "open a shared socket");
      connection.#send(encodeClaim(claim));
      return connection;
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    }
  }

  #send(bytes: Uint8Array): void {
    let sent = true;
    try {
      sent = outgoing().send(this.fd, bytes, []);
    } catch {
      // It was accepted and closed already: what was answered may say why.
    }
    if (!sent) throw claimError(WSA_ERRORS.WSAENOBUFS, "the system has no room for the claim");
  }

  /** The descriptor; `undefined` if nothing has come. */
  receive(): bigint | undefined {
    if (!this.#look.ready()) return undefined;
    this.#freeRoom();
    let message;
    try {
      message = incoming().receive(this.fd);
    } catch (error) {
      // A source that closes what it has not read, as it does, resets the connection.
      if (error instanceof WinsockError && error.code === WSA_ERRORS.WSAECONNRESET) throw this.#refused();
      throw error;
    }
    if (message === undefined) return undefined;
    const { bytes, descriptors: [descriptor, ...surplus] } = message;
    // Such as come where the system does not close them; not on this thread, for the last close of one may wait.
    for (const other of surplus) closeElsewhere(other);
    if (descriptor !== undefined) return descriptor;
    if (bytes.byteLength === 0) throw this.#refused();
    this.busy = bytes[0] === BUSY[0];
    if (this.busy) return undefined;
    throw claimError(WSA_ERRORS.WSAEMFILE, "this process has no room for another descriptor");
  }

  #freeRoom(): void {
    if (this.#room !== undefined) libc().close(this.#room);
    this.#room = undefined;
  }

  /** A refusal is the end of the connection, and so is that of the source: then nobody listens any more. */
  #refused(): WinsockError {
    try {
      const fd = connectRendezvous(this.#rendezvous);
      if (fd !== undefined) closeLocal(fd);
    } catch (error) {
      if (error instanceof WinsockError && error.code === WSA_ERRORS.WSAECONNREFUSED) {
        return claimError(WSA_ERRORS.WSAECONNRESET, "the source closed its rendezvous");
      }
    }
    return claimError(WSA_ERRORS.WSAEINVAL);
  }

  [Symbol.dispose](): void {
    this.#freeRoom();
    closeLocal(this.fd);
  }
}

function unanswered(): WinsockError {
  return claimError(WSA_ERRORS.WSAETIMEDOUT, "the source does not answer");
}

function unaccepted(): WinsockError {
  return claimError(WSA_ERRORS.WSAETIMEDOUT, "the source does not accept claims");
}

let claimMessage: NativeMessage | undefined;
let answerMessage: NativeMessage | undefined;

/** The memory of a claim, for one call at a time. */
function outgoing(): NativeMessage {
  return claimMessage ??= new NativeMessage(0, CLAIM_SIZE);
}

/** The memory of an answer: with room for one descriptor where the system closes the others. */
function incoming(): NativeMessage {
  const { closesUntaken, mostDescriptors } = unixSystem();
  return answerMessage ??= new NativeMessage(closesUntaken ? 1 : mostDescriptors, ANSWER_SIZE);
}
