/**
 * Messages of Python's multiprocessing connections, in which a Windows program sends what `socket.share` returned.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";

/** The most bytes a message may have here; a blob has 628. */
const MAX_MESSAGE = 65_536;
const HEADER_SIZE = 4;

/**
 * A message as `multiprocessing.connection.Connection.send_bytes` writes it to a socket, and to a pipe elsewhere than on
 * Windows: its length in 4 bytes, big-endian, and its bytes. Needs no permission.
 *
 * @example
 * ```ts
 * import { encodePythonMessage } from "@winsock/handoff/interop";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(encodePythonMessage(new Uint8Array([7, 8])), new Uint8Array([0, 0, 0, 2, 7, 8]));
 * ```
 *
 * @param bytes The message, such as `duplicateSocket(socket, pid)` for `socket.fromshare(connection.recv_bytes())`.
 * @returns What to write.
 * @throws {RangeError} If it has more than 65 536 bytes.
 */
export function encodePythonMessage(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (bytes.byteLength > MAX_MESSAGE) throw new RangeError(tooLong(bytes.byteLength));
  const header = new Uint8Array(HEADER_SIZE);
  new DataView(header.buffer).setInt32(0, bytes.byteLength);
  return concat([header, bytes]);
}

/**
 * The messages that `Connection.send_bytes` wrote to a stream. Needs no permission.
 *
 * @param stream The bytes. It is cancelled when the loop is left.
 * @returns The messages as they come, such as what `sock.share(pid)` returned, for `openSocket`.
 * @throws {Deno.errors.UnexpectedEof} If the stream ends within a message.
 * @throws {RangeError} If one has more than 65 536 bytes, or is no message.
 */
export async function* readPythonMessages(
  stream: ReadableStream<Uint8Array>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  let rest: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  for await (const chunk of stream) {
    rest = concat([rest, chunk]);
    for (let size = messageSize(rest); rest.byteLength >= size; size = messageSize(rest)) {
      yield rest.slice(HEADER_SIZE, size);
      rest = rest.slice(size);
    }
  }
  if (rest.byteLength > 0) {
    throw new Deno.errors.UnexpectedEof(`A message of Python's ended after ${rest.byteLength} bytes`);
  }
}

/** Bytes of the first message with its header, once the header is there. */
function messageSize(bytes: Uint8Array): number {
  if (bytes.byteLength < HEADER_SIZE) return HEADER_SIZE;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0);
  // Python announces messages of more than 2 GiB by a length of -1.
  if (length < 0 || length > MAX_MESSAGE) throw new RangeError(tooLong(length));
  return HEADER_SIZE + length;
}

function tooLong(length: number): string {
  return `A message of Python's has ${length} bytes, and at most ${MAX_MESSAGE} are taken`;
}
