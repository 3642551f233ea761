/**
 * Blobs one after the other in a stream, with nothing between them: what Apache's mpm_winnt writes to its child's stdin
 * for each listener.
 *
 * @module
 */
import { WSAPROTOCOL_INFOA, WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { concat } from "@std/bytes/concat";
import { toAnsi, toWide } from "../spi/ansi.ts";
import { type AnySocket, duplicateSocket, openSocket } from "../sockets/duplicate_socket.ts";

/**
 * Opens blobs that stand one after the other. If one cannot be opened the others are opened all the same and closed: a
 * duplicate nobody opens would keep its socket alive.
 *
 * @param bytes The blobs, 628 bytes each; what is left over behind the last whole one is an error.
 * @returns The descriptors, the caller's to close.
 * @throws {Deno.errors.UnexpectedEof} If the last one is not whole.
 * @throws {RangeError} If one is no WSAPROTOCOL_INFOW.
 * @throws {WinsockError} If the system refuses one.
 */
export async function openBlobs(bytes: Uint8Array): Promise<bigint[]> {
  const { size } = WSAPROTOCOL_INFOW;
  const handles: bigint[] = [];
  const errors: unknown[] = [];
  for (let end = size; end <= bytes.byteLength; end += size) {
    try {
      handles.push(await defaultProvider().socket(bytes.subarray(end - size, end)));
    } catch (error) {
      errors.push(error);
    }
  }
  const left = bytes.byteLength % size;
  if (left > 0) errors.push(truncated(left, size));
  if (errors.length === 0) return handles;
  for (const handle of handles) defaultProvider().closeSocket(handle);
  throw errors[0];
}

/** The error of bytes that end within a blob. */
function truncated(length: number, size: number): Error {
  return new Deno.errors.UnexpectedEof(`Cannot open a shared socket: only ${length} of its ${size} bytes came`);
}

/**
 * Which structure is in the stream: `W` is WSAPROTOCOL_INFOW, 628 bytes; `A` is WSAPROTOCOL_INFOA, 372 bytes. A C
 * program that says `WSAPROTOCOL_INFO` means W if it was compiled with `UNICODE` defined, and A if not, as Apache's is.
 */
export type BlobForm = "W" | "A";

/** How blobs are in a stream. */
export interface BlobOptions {
  /** Which structure. Default `W`. */
  form?: BlobForm;
}

/** How {@linkcode readBlobs} and {@linkcode receiveBlobs} read. */
export interface ReadBlobsOptions extends BlobOptions {
  /** Bytes of something else before the first blob. Default 0. */
  skip?: number;
}

/**
 * Reads blobs from a stream and opens their sockets. Needs ffi access to the system's socket library.
 *
 * @example Listeners a parent writes to stdin
 * ```ts ignore
 * import { receiveBlobs } from "@winsock/handoff/interop";
 *
 * for await (const socket of receiveBlobs(Deno.stdin.readable)) console.log(socket.handle);
 * ```
 *
 * @param stream The bytes.
 * @param options Which structure, and what is before it.
 * @returns The sockets as they come, the caller's to close.
 * @throws {Deno.errors.UnexpectedEof} If the stream ends within a blob, or before the first may begin.
 * @throws {RangeError} If the bytes are no WSAPROTOCOL_INFO.
 * @throws {WinsockError} If the system refuses one.
 */
export async function* receiveBlobs(
  stream: ReadableStream<Uint8Array>,
  options: ReadBlobsOptions = {},
): AsyncGenerator<AnySocket<Deno.NetAddr>, void, void> {
  for await (const blob of readBlobs(stream, options)) yield await openSocket(blob);
}

/**
 * Reads blobs from a stream. Needs no permission.
 *
 * @param stream The bytes. It is cancelled when the loop is left.
 * @param options Which structure, and what is before it.
 * @returns Blobs of 628 bytes each, for `openSocket`, whichever structure was in the stream.
 * @throws {Deno.errors.UnexpectedEof} If the stream ends within a blob, or before the first may begin.
 * @throws {RangeError} If bytes read as WSAPROTOCOL_INFOA are none.
 */
export async function* readBlobs(
  stream: ReadableStream<Uint8Array>,
  { form = "W", skip = 0 }: ReadBlobsOptions = {},
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  const size = form === "A" ? WSAPROTOCOL_INFOA.size : WSAPROTOCOL_INFOW.size;
  let toSkip = skip;
  let rest: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  for await (const chunk of stream) {
    rest = concat([rest, chunk.subarray(toSkip)]);
    toSkip = Math.max(0, toSkip - chunk.byteLength);
    for (; rest.byteLength >= size; rest = rest.slice(size)) {
      const blob = rest.slice(0, size);
      yield form === "A" ? toWide(blob) : blob;
    }
  }
  if (rest.byteLength > 0 || toSkip > 0) throw truncated(rest.byteLength, size);
}

/**
 * Duplicates sockets for a process and writes the blobs to a stream, such as the process's stdin. Needs ffi access to
 * the system's socket library.
 *
 * @param stream Where to; it stays open.
 * @param sockets What to send. They stay open and the caller's.
 * @param processId The process that reads the stream.
 * @param options Which structure it expects.
 * @throws {WinsockError} WSAENOTSOCK if a socket was closed or given up, WSAEINVAL if there is no such process.
 * @throws The stream's error, if it cannot be written; what was duplicated is then taken back where the system can.
 */
export async function sendBlobs(
  stream: WritableStream<Uint8Array>,
  sockets: readonly AnySocket[],
  processId: number,
  { form = "W" }: BlobOptions = {},
): Promise<void> {
  const blobs: Uint8Array<ArrayBuffer>[] = [];
  const writer = stream.getWriter();
  try {
    for (const socket of sockets) blobs.push(duplicateSocket(socket, processId));
    await writer.write(concat(form === "A" ? blobs.map(toAnsi) : blobs));
  } catch (error) {
    for (const blob of blobs) defaultProvider().withdraw(blob);
    throw error;
  } finally {
    writer.releaseLock();
  }
}
