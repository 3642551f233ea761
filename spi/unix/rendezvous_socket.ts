/**
 * The local socket of a rendezvous: with an abstract name, or in a directory of its own where there are no such names.
 *
 * @module
 */
import { connectLocal, listenLocal } from "../../ffi/unix/local_socket.ts";
import { makePrivateDirectory } from "../../ffi/unix/private_directory.ts";
import { unixSystem } from "../../ffi/unix/system.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";

const NAME_PREFIX = "winsock-handoff/";
/** Not the user's own directory for such files, whose path may leave no room for a name, and may be in the environment. */
const DIRECTORY_PREFIX = "/tmp/winsock-handoff-";
const FILE_NAME = /^\/tmp\/winsock-handoff-\w+\/[\w-]+$/;

/** A rendezvous that has been opened. */
export interface RendezvousSocket {
  /** What targets connect to: a file, or an abstract name without the leading NUL. Nobody can guess it. */
  readonly name: string;
  /** The listening socket. */
  readonly fd: bigint;
}

/**
 * Listens at a new rendezvous. A file is removed when the process ends by itself; one that is killed leaves it.
 *
 * @throws {WinsockError} If the system refuses.
 */
export function openRendezvous(): RendezvousSocket {
  if (unixSystem().abstractNames) {
    const name = `${NAME_PREFIX}${Deno.pid}/${crypto.randomUUID()}`;
    return { name, fd: listenLocal(pathOf(name)) };
  }
  const directory = makePrivateDirectory(DIRECTORY_PREFIX);
  const name = `${directory.path}/${crypto.randomUUID()}`;
  try {
    const fd = listenLocal(name);
    directory.admit(name);
    addEventListener("unload", () => directory.remove(name));
    return { name, fd };
  } catch (error) {
    directory.remove(name);
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

/** Whether a blob's text can be the name of a rendezvous on this system: it tells a process where to connect to. */
export function isRendezvousName(name: string): boolean {
  return unixSystem().abstractNames ? name.startsWith(NAME_PREFIX) : FILE_NAME.test(name);
}

function pathOf(name: string): string {
  return unixSystem().abstractNames ? `\0${name}` : name;
}
