/**
 * Local sockets of this library's own, by the path that {@linkcode encodeLocalAddress} takes.
 *
 * @module
 */
import { AF_UNIX, describeAddress } from "../addresses.ts";
import { SOCK } from "../../structs/constants.ts";
import { isErrno, lastUnixError, unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { encodeLocalAddress } from "./local_address.ts";
import { newSocket } from "./new_descriptors.ts";

const BACKLOG = 512;

/**
 * Listens on a local socket.
 *
 * @param path The file, or a NUL and the abstract name.
 * @returns The listening socket, non-blocking, closed on exec.
 * @throws {WinsockError} If the system refuses.
 */
export function listenLocal(path: string): bigint {
  return withSocket((fd, address) => {
    const bound = libc().bind(fd, address, address.byteLength);
    if (bound === -1) throw lastUnixError(`bind to ${describeAddress({ path })}`, "bind");
    const listening = libc().listen(fd, BACKLOG);
    if (listening === -1) throw lastUnixError(`listen on ${describeAddress({ path })}`, "listen");
    return fd;
  }, path);
}

/**
 * Connects to a local socket, without waiting.
 *
 * @param path The file, or a NUL and the abstract name.
 * @returns The connected socket, non-blocking, closed on exec; `undefined` while too many others wait there, where the
 * system tells that from nobody listening.
 * @throws {WinsockError} WSAECONNREFUSED if nobody listens there.
 */
export function connectLocal(path: string): bigint | undefined {
  return withSocket((fd, address) => {
    const connected = libc().connect(fd, address, address.byteLength);
    if (connected === 0) return fd;
    const code = errno();
    if (!isErrno(code, "EAGAIN")) throw unixError(code, `connect to ${describeAddress({ path })}`, "connect");
    libc().close(fd);
    return undefined;
  }, path);
}

function withSocket<T>(use: (fd: bigint, address: Uint8Array<ArrayBuffer>) => T, path: string): T {
  const address = encodeLocalAddress(path);
  const fd = newSocket(AF_UNIX, SOCK.SOCK_STREAM);
  try {
    return use(fd, address);
  } catch (error) {
    libc().close(fd);
    throw error;
  }
}
