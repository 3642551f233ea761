/**
 * Addresses of local sockets (unix(7)).
 *
 * @module
 */
import { AF_UNIX } from "./socket_flags.ts";

/** Bytes of `sun_path`; a file's name must leave room for the NUL behind it. */
const PATH_SIZE = 108;

/**
 * `struct sockaddr_un`. An abstract name begins with a NUL and ends with the address; a file's ends with a NUL.
 *
 * @param path The file, or a NUL and the abstract name.
 * @returns The structure, as long as it is filled.
 * @throws {TypeError} If it is empty, or a file's with a NUL in it.
 * @throws {RangeError} If it is too long for the system.
 */
export function encodeLocalAddress(path: string): Uint8Array<ArrayBuffer> {
  const abstract = path.startsWith("\0");
  if (path === "" || !abstract && path.includes("\0")) throw new TypeError(`"${path}" is no path of a local socket`);
  const bytes = new TextEncoder().encode(abstract ? path : `${path}\0`);
  if (bytes.byteLength > PATH_SIZE) throw new RangeError(`A local socket's address cannot be as long as "${path}"`);
  const name = new Uint8Array(2 + bytes.byteLength);
  name[0] = AF_UNIX;
  name.set(bytes, 2);
  return name;
}
