/**
 * Blobs in a stream, one directly after the other, as Apache's mpm_winnt writes them to its child's stdin for its
 * listeners.
 *
 * @module
 */
import { checkOptions, integer, oneOf } from "../internal/options.ts";
import { WSAPROTOCOL_INFOA, WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { concat } from "@std/bytes/concat";
import { toAnsi, toWide } from "../spi/ansi.ts";
import { type AnySocket, duplicateSocket, openSocket } from "../sockets/duplicate_socket.ts";

/**
 * Opens a sequence of blobs. If one of them cannot be opened, the function opens and closes the others: a duplicate
 * that is never opened would keep its socket open.
 *
 * @param bytes The blobs, 628 bytes each.
 * @returns The descriptors. The caller must close them.
 * @throws {Deno.errors.UnexpectedEof} If the last blob is not complete.
 * @throws {RangeError} If one of them is not a WSAPROTOCOL_INFOW.
 * @throws {WinsockError} If the system rejects one of them.
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

/** Makes the error for bytes that end within a blob. */
function truncated(length: number, size: number): Error {
  return new Deno.errors.UnexpectedEof(`Cannot open a shared socket: only ${length} of its ${size} bytes arrived`);
}

/**
 * The structure in the stream: `W` is WSAPROTOCOL_INFOW, 628 bytes; `A` is WSAPROTOCOL_INFOA, 372 bytes. In a C program
 * `WSAPROTOCOL_INFO` is the W form if it was compiled with `UNICODE` defined, and otherwise the A form, as in Apache.
 */
export type BlobForm = "W" | "A";

const FORM = oneOf("W", "A");

/** The format of blobs in a stream. */
export interface BlobOptions {
  /** The structure in the stream. Defaults to `W`. */
  form?: BlobForm;
}

/** The options of {@linkcode readBlobs} and {@linkcode receiveBlobs}. */
export interface ReadBlobsOptions extends BlobOptions {
  /** The number of bytes before the first blob. Defaults to `0`. */
  skip?: number;
}

/**
 * Reads blobs from a stream and opens their sockets. Needs ffi access to the system's socket library.
 *
 * @example Listeners that a parent writes to stdin
 * ```ts ignore
 * import { receiveBlobs } from "@winsock/handoff/interop";
 *
 * for await (const socket of receiveBlobs(Deno.stdin.readable)) console.log(socket.handle);
 * ```
 *
 * @param stream The bytes.
 * @param options The format of the stream.
 * @returns The sockets as they arrive. The caller must close them.
 * @throws {Deno.errors.UnexpectedEof} If the stream ends within a blob, or before the skipped bytes end.
 * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFO.
 * @throws {WinsockError} If the system rejects a blob.
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
 * @param stream The bytes. The stream is cancelled when the caller leaves the loop.
 * @param options The format of the stream.
 * @returns Blobs of 628 bytes each, for `openSocket`, whichever structure is in the stream.
 * @throws {Deno.errors.UnexpectedEof} If the stream ends within a blob, or before the skipped bytes end.
 * @throws {RangeError} If bytes in the A form are not a WSAPROTOCOL_INFOA.
 */
export async function* readBlobs(
  stream: ReadableStream<Uint8Array>,
  options: ReadBlobsOptions = {},
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  checkOptions(options, { form: FORM, skip: integer(0) });
  const { form = "W", skip = 0 } = options;
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
 * Duplicates sockets for a process and writes the blobs to a stream, such as the stdin of the process. Needs ffi access
 * to the system's socket library.
 *
 * @param stream The stream to write to. It stays open.
 * @param sockets The sockets to send. They stay open and still belong to the caller.
 * @param processId The process that reads the stream.
 * @param options The format that the process expects.
 * @throws {WinsockError} WSAENOTSOCK if a socket was closed or released, WSAEINVAL if the process does not exist.
 * @throws The error of the stream, if it cannot be written. The duplicates are then withdrawn, if the system can do so.
 */
export async function sendBlobs(
  stream: WritableStream<Uint8Array>,
  sockets: readonly AnySocket[],
  processId: number,
  options: BlobOptions = {},
): Promise<void> {
  checkOptions(options, { form: FORM });
  const { form = "W" } = options;
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
