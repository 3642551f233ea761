/**
 * Local sockets of this library's own, by the path that {@linkcode encodeLocalAddress} takes.
 *
 * @module
 */
import { AF_UNIX, describeAddress } from "../addresses.ts";
import { SOCK } from "../../structs/constants.ts";
import { isErrno, lastUnixError, unixError } from "./errno.ts";
import { closeElsewhere, errno, libc } from "./libc.ts";
import { encodeLocalAddress } from "./local_address.ts";
import { newSocket } from "./new_descriptors.ts";
import { unixSystem } from "./system.ts";

const BACKLOG = 512;
const SHUT_RD = 0;
const MSG_PEEK = 2;

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

/**
 * Has a local socket refuse descriptors, so that sending one to it fails; those who connect to a listening socket cannot
 * send any before they are accepted, either.
 *
 * @param fd The socket.
 * @returns Whether it does: not on macOS, and not on Linux before 6.16.
 */
export function refuseDescriptors(fd: bigint): boolean {
  const { SO_PASSRIGHTS } = unixSystem();
  return SO_PASSRIGHTS !== undefined && libc().setsockopt(fd, ...SO_PASSRIGHTS, new Int32Array([0]), 4) === 0;
}

/**
 * Closes a connected local socket without waiting for what its peer may have sent: where anything is left, a descriptor
 * that lingers can be with it.
 *
 * @param fd The socket. Nothing waits for it.
 */
export function closeLocal(fd: bigint): void {
  libc().shutdown(fd, SHUT_RD);
  // Nothing comes any more; and nothing else says that nothing has come.
  const left = libc().recv(fd, new Uint8Array(1), 1n, MSG_PEEK | unixSystem().MSG_DONTWAIT);
  if (left === 0n) libc().close(fd);
  else closeElsewhere(fd);
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
