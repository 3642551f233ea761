/**
 * Which server a TLS client asks for.
 *
 * @module
 */

const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
const RECORD_HEADER = 5;
const VERSION_AND_RANDOM = 2 + 32;

/**
 * The server name in a ClientHello (RFC 8446, 4.1.2 and RFC 6066, 3) that is in one TLS record.
 *
 * @param record The whole record.
 * @returns `undefined` if the client names none.
 * @throws {RangeError} If it is no whole ClientHello.
 */
export function serverNameOf(record: Uint8Array): string | undefined {
  const hello = new Reader(record.subarray(RECORD_HEADER));
  if (hello.number(1) !== CLIENT_HELLO) throw new RangeError("This is no ClientHello");
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

/** Reads numbers, and vectors with their length in front; throws at the end. */
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
