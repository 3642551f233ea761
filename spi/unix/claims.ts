/**
 * Claims of the unix provider: the format that source and target share, and the target's side.
 *
 * Each claim uses one connection. The target connects and sends the claim in one message. The source answers with one
 * byte that carries the descriptor, and closes the connection. A claim that is not valid gets no answer.
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

/** The version of blobs and claims. Blobs of version 1 had no secret and no version number. */
export const CLAIM_VERSION = 2;
/** The size of a secret in bytes. */
export const SECRET_SIZE = 16;
/** The size of a claim in bytes. */
export const CLAIM_SIZE = 8 + SECRET_SIZE;
/** The size of an answer in bytes. */
export const ANSWER_SIZE = 1;
/** The answer that carries the descriptor. */
export const GIVEN: Uint8Array<ArrayBuffer> = Uint8Array.of(0);
/** The answer to a process that has a waiting duplicate but must claim it again. */
export const BUSY: Uint8Array<ArrayBuffer> = Uint8Array.of(1);

/** The beginning of an abstract name. In the text of a blob, which cannot contain a NUL, it begins with `@`. */
const ABSTRACT = "@winsock-handoff/";
const ABSTRACT_NAME = /^@winsock-handoff\/[\w-]{36}$/;

/** Identifies a duplicate, with the secret that only its blob contains. */
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

/** Decodes a claim. Returns `undefined` if the bytes are not a claim, or are a claim of another version. */
export function decodeClaim(bytes: Uint8Array): Claim | undefined {
  if (bytes.byteLength !== CLAIM_SIZE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== CLAIM_VERSION) return undefined;
  return { number: view.getUint32(4, true), secret: bytes.slice(8) };
}

/** Makes the error of a claim that failed. */
export function claimError(
  code: number,
  detail = "it was made for another process, opened before, or has expired",
): WinsockError {
  return new WinsockError(code, { operation: "open a shared socket", functionName: "WSPSocket", detail });
}

/** An address of a source, at which targets claim their duplicates. */
export interface RendezvousAddress {
  /** The path of a file, or `@` and an abstract name. */
  readonly name: string;
  /** The listening socket. */
  readonly fd: bigint;
  /** Removes the file, if there is one. The caller closes the socket. */
  remove(): void;
}

/**
 * Prepares the addresses of a rendezvous. They are files that only processes of this user can connect to, or those of
 * another user if this process is root. If a directory for them cannot be made, they are abstract names, to which all
 * processes can connect. The files are removed when the process exits normally; a process that is killed leaves them
 * behind.
 *
 * @param user The user whose processes may connect, if this process is root; `undefined` if the user is not known, and
 * processes of all users may connect.
 * @returns A function that opens a new address, which cannot be derived from the others, and listens on it. It throws a
 * `WinsockError` if the system refuses.
 * @throws {WinsockError} If the system refuses.
 */
export function prepareAddresses(user?: number): () => RendezvousAddress {
  let directory: PrivateDirectory;
  try {
    directory = makePrivateDirectory();
  } catch (error) {
    if (!unixSystem().abstractNames) throw error;
    return () => {
      const name = `${ABSTRACT}${crypto.randomUUID()}`;
      return { name, fd: listenLocal(pathOf(name)), remove: () => {} };
    };
  }
  const names = new Set<string>();
  let removing = false;
  const remove = (name?: string) => {
    if (name !== undefined) names.delete(name);
    directory.remove(name);
  };
  return () => {
    let name: string | undefined;
    try {
      const { file, fd } = directory.listen();
      names.add(name = file);
      try {
        directory.admit(file, user);
      } catch (error) {
        libc().close(fd);
        throw error;
      }
      if (!removing) addEventListener("unload", () => names.forEach(remove));
      removing = true;
      return { name: file, fd, remove: () => remove(file) };
    } catch (error) {
      // The directory stays if there is another address in it.
      remove(name);
      throw error;
    }
  };
}

/**
 * Connects to a rendezvous, without waiting.
 *
 * @returns The connected socket; `undefined` while the backlog of the rendezvous is full.
 * @throws {WinsockError} WSAECONNREFUSED if the source no longer listens there.
 */
function connectRendezvous(name: string): bigint | undefined {
  try {
    return connectLocal(pathOf(name));
  } catch (error) {
    // The file was removed when the source ended.
    if (!(error instanceof WinsockError) || error.code !== WSA_ERRORS.WSAEADDRNOTAVAIL) throw error;
    const { operation, functionName } = error;
    throw new WinsockError(WSA_ERRORS.WSAECONNREFUSED, { operation, functionName, cause: error });
  }
}

/**
 * Returns whether a text can be the name of a rendezvous on this system. The check is needed because a process connects
 * to this address.
 */
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
 * @param rendezvous The rendezvous of the source.
 * @param claim The claim for the duplicate.
 * @returns The descriptor, closed on exec. The caller must close it.
 * @throws {WinsockError} If the source rejects the claim, is gone, or does not answer within 30 seconds.
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
    // There is no event for when there is room again.
    await new Promise((resolve) => setTimeout(resolve, connection === undefined ? CONNECT_DELAY_MS : BUSY_DELAY_MS));
  }
}

/**
 * Claims a duplicate for callers that cannot wait: blocks this thread until the source answers.
 *
 * @param rendezvous The rendezvous of the source.
 * @param claim The claim for the duplicate.
 * @returns The descriptor, closed on exec. The caller must close it.
 * @throws {WinsockError} If the source rejects the claim, is gone, or does not answer within 5 seconds.
 */
export function claimSync(rendezvous: string, claim: Claim): bigint {
  const deadline = performance.now() + TIMEOUT_NOW_MS;
  for (;;) {
    using connection = ClaimConnection.open(rendezvous, claim);
    while (connection?.busy === false) {
      // A signal may end the poll early, so only the answer itself shows that it has arrived.
      pollSync(left(deadline), [connection.fd, POLLIN]);
      const descriptor = connection.receive();
      if (descriptor !== undefined) return descriptor;
      if (left(deadline) === 0) throw unanswered();
    }
    if (left(deadline) === 0) throw unaccepted();
    pollSync(connection === undefined ? CONNECT_DELAY_MS : BUSY_DELAY_MS);
  }
}

/** Returns the milliseconds until a deadline, and 0 after it. */
function left(deadline: number): number {
  return Math.max(0, Math.ceil(deadline - performance.now()));
}

/** The connection of a claim that was sent. */
class ClaimConnection implements Disposable {
  readonly fd: bigint;
  readonly #rendezvous: string;
  readonly #look: PollProbe;
  /** Whether the source asked for another claim, on another connection. */
  busy = false;
  /**
   * A descriptor that reserves room for the answer. If an answer finds no room, it is lost, and so is the duplicate.
   */
  #room: bigint | undefined;

  private constructor(fd: bigint, rendezvous: string) {
    this.fd = fd;
    this.#rendezvous = rendezvous;
    this.#look = new PollProbe(fd, POLLIN);
  }

  /** Connects without waiting and sends the claim. Returns `undefined` while the backlog of the rendezvous is full. */
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
      // The source has already accepted and closed the connection. Its answer may have the reason.
    }
    if (!sent) throw claimError(WSA_ERRORS.WSAENOBUFS, "the system has no room for the claim");
  }

  /** Returns the descriptor; `undefined` if no answer has arrived. */
  receive(): bigint | undefined {
    if (!this.#look.ready()) return undefined;
    this.#freeRoom();
    let message;
    try {
      message = incoming().receive(this.fd);
    } catch (error) {
      // The source closes connections without reading all data, which resets them.
      if (error instanceof WinsockError && error.code === WSA_ERRORS.WSAECONNRESET) throw this.#refused();
      throw error;
    }
    if (message === undefined) return undefined;
    const { bytes, descriptors: [descriptor, ...surplus] } = message;
    // On some systems the kernel does not close descriptors beyond the limit. Close them on another thread, because the
    // last close of a descriptor may wait.
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

  /**
   * Returns the error for a connection that ended without an answer. Either the source rejected the claim, or the
   * source has ended; in that case it no longer listens.
   */
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

/** Returns the memory for a claim. Only one call may use it at a time. */
function outgoing(): NativeMessage {
  return claimMessage ??= new NativeMessage(0, CLAIM_SIZE);
}

/** Returns the memory for an answer. It has room for one descriptor if the kernel closes the others. */
function incoming(): NativeMessage {
  const { closesTruncatedDescriptors: closesUntaken, mostDescriptors } = unixSystem();
  return answerMessage ??= new NativeMessage(closesUntaken ? 1 : mostDescriptors, ANSWER_SIZE);
}
