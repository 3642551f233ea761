/**
 * Finds the server name that a TLS client asks for.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";

/** The maximum number of bytes to examine, including record headers. Input from clients must have a limit. */
export const MAX_BYTES = 16_384;
const TLS_HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
/** The length of kind, version (two bytes) and length (two bytes). */
const RECORD_HEADER = 5;
/** The length of kind and length (three bytes). */
const MESSAGE_HEADER = 4;
const VERSION_AND_RANDOM = 2 + 32;

/** A ClientHello, or the number of bytes from the beginning of the connection that are needed to continue. */
export type ClientHello = { readonly message: Uint8Array } | { readonly atLeast: number };

/**
 * Looks for a whole ClientHello, which may be split over several TLS records (RFC 8446, 5.1).
 *
 * @param bytes The available bytes from the beginning of the connection.
 * @returns The message without record headers, or the number of bytes that are needed.
 * @throws {RangeError} If the bytes are not a ClientHello, or it is too long.
 */
export function findClientHello(bytes: Uint8Array): ClientHello {
  const payloads: Uint8Array[] = [];
  let size = 0;
  let whole: number | undefined;
  for (let end = 0;;) {
    const header = new Reader(bytes.subarray(end, end += RECORD_HEADER));
    if (bytes.byteLength < end) return { atLeast: bounded(end) };
    const [type, major] = header.bytes(3);
    const length = header.number(2);
    if (type !== TLS_HANDSHAKE || major !== 3 || length === 0) throw new RangeError("This is not a ClientHello");
    const payload = bytes.subarray(end, end += length);
    if (bytes.byteLength < end) return { atLeast: bounded(end) };
    payloads.push(payload);
    size += length;
    if (payloads[0]![0] !== CLIENT_HELLO) throw new RangeError("This is not a ClientHello");
    if (size < MESSAGE_HEADER) continue;
    whole ??= MESSAGE_HEADER + new Reader(concat(payloads).subarray(1)).number(3);
    if (size >= whole) return { message: concat(payloads).subarray(0, whole) };
    bounded(end + whole - size);
  }
}

function bounded(length: number): number {
  if (length > MAX_BYTES) throw new RangeError(`The ClientHello is longer than ${MAX_BYTES} bytes`);
  return length;
}

/**
 * Returns the server name in a ClientHello (RFC 8446, 4.1.2 and RFC 6066, 3).
 *
 * @param message The whole message.
 * @returns The name, or `undefined` if the client does not send a name.
 * @throws {RangeError} If the message is not a whole ClientHello.
 */
export function serverNameOf(message: Uint8Array): string | undefined {
  const hello = new Reader(message);
  if (hello.number(1) !== CLIENT_HELLO) throw new RangeError("This is not a ClientHello");
  const body = hello.vector(3);
  body.bytes(VERSION_AND_RANDOM);
  body.vector(1); // session id
  body.vector(2); // cipher suites
  body.vector(1); // compression methods
  if (body.empty) return undefined;
  const extensions = body.vector(2);
  while (!extensions.empty) {
    const type = extensions.number(2);
    const extension = extensions.vector(2);
    if (type !== SERVER_NAME) continue;
    const names = extension.vector(2);
    const kind = names.number(1);
    const name = names.vector(2);
    return kind === HOST_NAME ? name.text().toLowerCase() : undefined;
  }
  return undefined;
}

/** Reads numbers, and vectors that begin with their length. Throws at the end of the bytes. */
class Reader {
  #rest: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#rest = bytes;
  }

  get empty(): boolean {
    return this.#rest.byteLength === 0;
  }

  bytes(length: number): Uint8Array {
    if (length > this.#rest.byteLength) throw new RangeError("The ClientHello is not whole");
    const bytes = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return bytes;
  }

  number(size: number): number {
    return this.bytes(size).reduce((number, byte) => number * 256 + byte, 0);
  }

  vector(lengthSize: number): Reader {
    return new Reader(this.bytes(this.number(lengthSize)));
  }

  text(): string {
    return new TextDecoder().decode(this.#rest);
  }
}
