/**
 * Local sockets with an abstract name (unix(7)): no file, gone with the last descriptor.
 *
 * @module
 */
import { lastUnixError, unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK } from "./socket_flags.ts";

const SOCK_STREAM = 1;
const EAGAIN = 11;
const BACKLOG = 512;

/**
 * Listens on an abstract name.
 *
 * @param name The name, without the leading NUL.
 * @returns The listening socket, non-blocking, closed on exec.
 * @throws {WinsockError} If the system refuses.
 */
export function listenAbstract(name: string): bigint {
  return withSocket((fd, address) => {
    const bound = libc().bind(fd, address, address.byteLength);
    if (bound === -1) throw lastUnixError(`bind to @${name}`, "bind");
    const listening = libc().listen(fd, BACKLOG);
    if (listening === -1) throw lastUnixError(`listen on @${name}`, "listen");
    return fd;
  }, name);
}

/**
 * Connects to an abstract name, without waiting.
 *
 * @param name The name, without the leading NUL.
 * @returns The connected socket, non-blocking, closed on exec; `undefined` while too many others wait there.
 * @throws {WinsockError} WSAECONNREFUSED if nobody listens there.
 */
export function connectAbstract(name: string): bigint | undefined {
  return withSocket((fd, address) => {
    const connected = libc().connect(fd, address, address.byteLength);
    if (connected === 0) return fd;
    const code = errno();
    if (code !== EAGAIN) throw unixError(code, `connect to @${name}`, "connect");
    libc().close(fd);
    return undefined;
  }, name);
}

function withSocket<T>(use: (fd: bigint, address: Uint8Array<ArrayBuffer>) => T, name: string): T {
  const text = new TextEncoder().encode(name);
  const address = new Uint8Array(3 + text.byteLength);
  address[0] = AF_UNIX;
  address.set(text, 3);
  const fd = libc().socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd === -1) throw lastUnixError("make a local socket", "socket");
  try {
    return use(BigInt(fd), address);
  } catch (error) {
    libc().close(BigInt(fd));
    throw error;
  }
}
