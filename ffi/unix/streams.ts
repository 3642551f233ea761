/**
 * Connected stream sockets on libc.
 *
 * @module
 */
import type { StreamCalls } from "../stream_io.ts";
import { isErrno, lastUnixError, unixError } from "./errno.ts";
import { errno, libc, libcFunctions } from "./libc.ts";
import { unixSystem } from "./system.ts";

const SHUT_WR = 1;

const functions = libcFunctions({
  /** `ssize_t send(int sockfd, const void *buf, size_t len, int flags)` */
  send: { parameters: ["usize", "buffer", "usize", "i32"], result: "isize" },
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["usize", "buffer", "usize"], result: "isize" },
});

/**
 * `recv` without waiting; `undefined` if nothing is there.
 *
 * @param flags Further `MSG_*`.
 * @param operation What an error says that cannot be done.
 */
export function recvNow(
  s: bigint,
  buffer: Uint8Array<ArrayBuffer>,
  flags: number,
  operation: () => string,
): number | undefined {
  const { MSG_DONTWAIT } = unixSystem();
  for (;;) {
    const count = libc().recv(s, buffer, BigInt(buffer.byteLength), flags | MSG_DONTWAIT);
    if (count !== -1n) return Number(count);
    const code = errno();
    if (isErrno(code, "EAGAIN")) return undefined;
    if (!isErrno(code, "EINTR")) throw unixError(code, operation(), "recv");
  }
}

/** Each call says that it must not wait, whatever made the socket blocking, or whoever. */
export const UNIX_STREAMS: StreamCalls = {
  receive: (s, buffer) => recvNow(s, buffer, 0, () => `receive on socket ${s}`),

  send(s, bytes) {
    const { send } = functions();
    const { MSG_DONTWAIT, MSG_NOSIGNAL } = unixSystem();
    for (;;) {
      const count = send(s, bytes, BigInt(bytes.byteLength), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count !== -1n) return Number(count);
      const code = errno();
      if (isErrno(code, "EAGAIN")) return undefined;
      if (!isErrno(code, "EINTR")) throw unixError(code, `send on socket ${s}`, "send");
    }
  },

  endSending(s) {
    const result = libc().shutdown(s, SHUT_WR);
    if (result === -1) throw lastUnixError(`shut down socket ${s}`, "shutdown");
  },

  close(s) {
    const result = libc().close(s);
    if (result === -1) throw lastUnixError(`close socket ${s}`, "close");
  },
};

/** The same on pipes that are non-blocking (pipe(7)). */
export const UNIX_PIPES: StreamCalls = {
  ...UNIX_STREAMS,

  receive(fd, buffer) {
    const count = functions().read(fd, buffer, BigInt(buffer.byteLength));
    if (count !== -1n) return Number(count);
    const code = errno();
    if (isErrno(code, "EAGAIN", "EINTR")) return undefined;
    throw unixError(code, `read from pipe ${fd}`, "read");
  },

  send(fd, bytes) {
    const count = libc().write(fd, bytes, BigInt(bytes.byteLength));
    if (count !== -1n) return Number(count);
    const code = errno();
    if (isErrno(code, "EAGAIN", "EINTR")) return undefined;
    throw unixError(code, `write to pipe ${fd}`, "write");
  },
};
