/**
 * Claims of the unix provider: what source and target have agreed on, and the target's side.
 *
 * One claim is one connection: the target connects and sends a claim, in one message; the source answers with one byte that
 * carries the descriptor, and closes the connection. A claim that is wrong gets no answer.
 *
 * @module
 */
import {
  closeLocal,
  connectLocal,
  isPrivatePath,
  listenLocal,
  makePrivateDirectory,
  type PrivateDirectory,
} from "../../ffi/unix/local_sockets.ts";
import { closeElsewhere, libc, unixSystem } from "../../ffi/unix/libc.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { duplicateFrom } from "../../ffi/unix/descriptors.ts";
import { NativeMessage } from "../../ffi/unix/scm_rights.ts";
import { POLLIN, PollProbe, pollSync } from "../../ffi/unix/io.ts";
import { readableWithin } from "../../ffi/unix/poller.ts";

/** The version of blobs and of claims. Blobs of version 1 had no secret, and did not say their version. */
export const CLAIM_VERSION = 2;
/** Bytes of a secret. */
export const SECRET_SIZE = 16;
/** Bytes of a claim. */
export const CLAIM_SIZE = 8 + SECRET_SIZE;
/** Bytes of an answer. */
export const ANSWER_SIZE = 1;
/** The answer that carries the descriptor. */
export const GIVEN: Uint8Array<ArrayBuffer> = Uint8Array.of(0);
/** The answer to a process that something waits for, where it has to claim that again. */
export const BUSY: Uint8Array<ArrayBuffer> = Uint8Array.of(1);

/** What an abstract name begins with; a blob, whose text cannot hold a NUL, has an `@` instead. */
const ABSTRACT = "@winsock-handoff/";
const ABSTRACT_NAME = /^@winsock-handoff\/[\w-]{36}$/;

/** Which duplicate is claimed, and what only its blob knows. */
export interface Claim {
  readonly number: number;
  readonly secret: Uint8Array;
}

/** Encodes a claim: version, number, secret. */
export function encodeClaim({ number, secret }: Claim): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(CLAIM_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, CLAIM_VERSION, true);
  view.setUint32(4, number, true);
  bytes.set(secret, 8);
  return bytes;
}

/** Decodes a claim; `undefined` if the bytes are no claim, or one of another version. */
export function decodeClaim(bytes: Uint8Array): Claim | undefined {
  if (bytes.byteLength !== CLAIM_SIZE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== CLAIM_VERSION) return undefined;
  return { number: view.getUint32(4, true), secret: bytes.slice(8) };
}

/** The error of a claim that failed. */
export function claimError(
  code: number,
  detail = "it was made for another process, opened before, or has expired",
): WinsockError {
  return new WinsockError(code, { operation: "open a shared socket", functionName: "WSPSocket", detail });
}

/** A rendezvous that was opened. */
interface RendezvousSocket {
  /** What targets connect to: a file, or `@` and an abstract name. */
  readonly name: string;
  /** The listening socket. */
  readonly fd: bigint;
}

/**
 * Listens at a new rendezvous: a file that only processes of this user can connect to, or if this is root those of another.
 * Where no directory can be made for it, it has an abstract name, which everybody can connect to. A file is removed when
 * the process ends by itself; a process that is killed leaves it.
 *
 * @param user Who may connect, if this is root; `undefined` if that is not known, and everybody may.
 * @throws {WinsockError} If the system refuses.
 */
export function openRendezvous(user?: number): RendezvousSocket {
  let directory: PrivateDirectory;
  try {
    directory = makePrivateDirectory();
  } catch (error) {
    if (!unixSystem().abstractNames) throw error;
    const name = `${ABSTRACT}${crypto.randomUUID()}`;
    return { name, fd: listenLocal(pathOf(name)) };
  }
  const name = `${directory.path}/${crypto.randomUUID()}`;
  const remove = () => directory.remove(name);
  try {
    const fd = listenLocal(name);
    directory.admit(name, user);
    addEventListener("unload", remove);
    return { name, fd };
  } catch (error) {
    remove();
    throw error;
  }
}

/**
 * Connects to a rendezvous, without waiting.
 *
 * @returns The connected socket; `undefined` while too many others wait there.
 * @throws {WinsockError} WSAECONNREFUSED if nobody listens there.
 */
function connectRendezvous(name: string): bigint | undefined {
  try {
    return connectLocal(pathOf(name));
  } catch (error) {
    // The file went with the source.
    if (!(error instanceof WinsockError) || error.code !== WSA_ERRORS.WSAEADDRNOTAVAIL) throw error;
    const { operation, functionName } = error;
    throw new WinsockError(WSA_ERRORS.WSAECONNREFUSED, { operation, functionName, cause: error });
  }
}

/** Whether a text can be the name of a rendezvous on this system: it tells a process where to connect to. */
export function isRendezvousName(name: string): boolean {
  return isPrivatePath(name) || unixSystem().abstractNames && ABSTRACT_NAME.test(name);
}

function pathOf(name: string): string {
  return name.startsWith("@") ? `\0${name.slice(1)}` : name;
}

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
export function claimSync(rendezvous: string, claim: Claim): bigint {
  const deadline = performance.now() + TIMEOUT_NOW_MS;
  for (;;) {
    using connection = ClaimConnection.open(rendezvous, claim);
    while (connection?.busy === false) {
      // A signal may end the poll early: only the answer itself says that it has come.
      pollSync(left(deadline), [connection.fd, POLLIN]);
      const descriptor = connection.receive();
      if (descriptor !== undefined) return descriptor;
      if (left(deadline) === 0) throw unanswered();
    }
    if (left(deadline) === 0) throw unaccepted();
    pollSync(connection === undefined ? CONNECT_DELAY_MS : BUSY_DELAY_MS);
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
  readonly #look: PollProbe;
  /** Whether the source asks to be asked again, on another connection. */
  busy = false;
  /** Keeps room for the descriptor: an answer that finds none is lost, and so is the duplicate. */
  #room: bigint | undefined;

  private constructor(fd: bigint, rendezvous: string) {
    this.fd = fd;
    this.#rendezvous = rendezvous;
    this.#look = new PollProbe(fd, POLLIN);
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
  const { closesTruncatedDescriptors: closesUntaken, mostDescriptors } = unixSystem();
  return answerMessage ??= new NativeMessage(closesUntaken ? 1 : mostDescriptors, ANSWER_SIZE);
}
