/**
 * Opening several blobs that belong together: all of them or none.
 *
 * @module
 */
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { defaultProvider } from "../spi/default_provider.ts";

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
export function truncated(length: number, size: number): Error {
  return new Deno.errors.UnexpectedEof(`Cannot open a shared socket: only ${length} of its ${size} bytes came`);
}
