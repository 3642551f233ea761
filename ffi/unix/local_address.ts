/**
 * Addresses of local sockets (unix(7)).
 *
 * @module
 */
import { AF_UNIX, writeFamily } from "../addresses.ts";
import { unixSystem } from "./system.ts";
import type { UnixSystem } from "./systems/unix_system.ts";

/**
 * `struct sockaddr_un`. An abstract name begins with a NUL and ends with the address; a file's ends with a NUL.
 *
 * @param path The file, or a NUL and the abstract name.
 * @param system Whose. Default: this one.
 * @returns The structure, as long as it is filled.
 * @throws {TypeError} If it is empty, or a file's with a NUL in it.
 * @throws {RangeError} If it is too long for the system.
 * @throws {Deno.errors.NotSupported} If it is an abstract name, and the system has none.
 */
export function encodeLocalAddress(path: string, system: UnixSystem = unixSystem()): Uint8Array<ArrayBuffer> {
  const abstract = path.startsWith("\0");
  if (path === "" || !abstract && path.includes("\0")) throw new TypeError(`"${path}" is no path of a local socket`);
  if (abstract && !system.abstractNames) {
    throw new Deno.errors.NotSupported(
      `Cannot use the local socket "@${path.slice(1)}": ${system.name} has no abstract names`,
    );
  }
  const bytes = new TextEncoder().encode(abstract ? path : `${path}\0`);
  if (bytes.byteLength > system.pathSize) {
    throw new RangeError(`A local socket's address cannot be as long as "${path}"`);
  }
  const name = new Uint8Array(2 + bytes.byteLength);
  name.set(bytes, 2);
  writeFamily(name, AF_UNIX, system.lengthPrefixed);
  return name;
}
