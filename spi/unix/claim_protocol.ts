/**
 * What source and target of the unix provider have agreed on: where a rendezvous is, and what is said there.
 *
 * One claim is one connection: the target connects and sends a claim, in one message; the source answers with one byte that
 * carries the descriptor, and closes the connection. A claim that is wrong gets no answer.
 *
 * @module
 */
import { connectLocal, listenLocal } from "../../ffi/unix/local_socket.ts";
import { isPrivatePath, makePrivateDirectory, type PrivateDirectory } from "../../ffi/unix/private_directory.ts";
import { unixSystem } from "../../ffi/unix/system.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";

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
export interface RendezvousSocket {
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
export function connectRendezvous(name: string): bigint | undefined {
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
