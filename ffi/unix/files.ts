/**
 * The {@linkcode FileCalls} on libc.
 *
 * @module
 */
import type { FileAccess, FileCalls } from "../platform.ts";
import type { Readiness } from "../poller.ts";
import { WinsockError } from "../winsock_error.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { closeOnExec } from "./descriptors.ts";
import { errno, isErrno, lastUnixError, libc, libcFunctions, unixError, unixSystem } from "./libc.ts";
import { POLLIN, POLLOUT, PollProbe } from "./io.ts";
import { unixPoller } from "./poller.ts";
import { receiveDescriptors, sendDescriptors } from "./scm_rights.ts";

const LOCK_EX_NB = 2 | 4;
const SEEK_CUR = 1;
/** The most bytes that a pipe takes at once when there is room: the smallest PIPE_BUF (pipe(7)). */
const PIPE_ROOM = 512;
/** The descriptors in a message of which the receiver has the number. */
const MARK = new Uint8Array([1]);

const functions = libcFunctions({
  /** `int open(const char *path, int oflag, ...)`, without a mode */
  open: { parameters: ["buffer", "i32"], result: "i32" },
  /** `int flock(int fd, int operation)` */
  flock: { parameters: ["usize", "i32"], result: "i32" },
  /** `off_t lseek(int fd, off_t offset, int whence)` */
  lseek: { parameters: ["usize", "i64", "i32"], result: "i64" },
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["usize", "buffer", "usize"], result: "isize" },
  /** `ssize_t read(int fd, void *buf, size_t count)` on a pool thread */
  readElsewhere: { name: "read", parameters: ["usize", "buffer", "usize"], result: "isize", nonblocking: true },
  /** `ssize_t write(int fd, const void *buf, size_t count)` */
  write: { parameters: ["usize", "buffer", "usize"], result: "isize" },
  /** `ssize_t write(int fd, const void *buf, size_t count)` on a pool thread */
  writeElsewhere: { name: "write", parameters: ["usize", "buffer", "usize"], result: "isize", nonblocking: true },
});

const vectorFunctions = libcFunctions({
  /** `ssize_t preadv2(int fd, const struct iovec *iov, int iovcnt, off_t offset, int flags)` */
  preadv2: { parameters: ["usize", "usize", "i32", "i64", "i32"], result: "isize" },
  /** `ssize_t pwritev2(int fd, const struct iovec *iov, int iovcnt, off_t offset, int flags)` */
  pwritev2: { parameters: ["usize", "usize", "i32", "i64", "i32"], result: "isize" },
});

/** The size of a `struct iovec` (readv(2)). */
const IOVEC_SIZE = 16;
/** The most bytes of one call that does not wait: as many as a pipe has by default. */
const MAX_NOWAIT = 65_536;

/** Files and pipes of Unix. The descriptors stay as they are: other processes may use the same open file. */
export const FILE_CALLS: FileCalls = {
  open(path, access) {
    const fd = functions().open(new TextEncoder().encode(`${path}\0`), flagsOf(access));
    if (fd === -1) throw lastUnixError(`open the file "${path}"`, "open");
    const handle = BigInt(fd);
    if (!access.lock || functions().flock(handle, LOCK_EX_NB) === 0) return handle;
    const code = errno();
    libc().close(handle);
    if (isErrno(code, "EAGAIN")) return undefined;
    throw unixError(code, `lock the file "${path}"`, "flock");
  },

  adopt: closeOnExec,

  async read(handle, buffer) {
    if (isSeekable(handle)) {
      const count = await functions().readElsewhere(handle, buffer, BigInt(buffer.byteLength));
      // The error was the pool thread's.
      if (count !== -1n) return Number(count);
    }
    return await whenReady(handle, "read", buffer);
  },

  async write(handle, bytes) {
    if (isSeekable(handle)) {
      const count = await functions().writeElsewhere(handle, bytes, BigInt(bytes.byteLength));
      if (count !== -1n) return Number(count);
    }
    return await whenReady(handle, "write", bytes.subarray(0, PIPE_ROOM));
  },

  endWaits: (handle) => unixPoller().release(handle),

  close(handle) {
    const result = libc().close(handle);
    if (result === -1) throw lastUnixError(`close file ${handle}`, "close");
  },

  /** The files wait in the queue of the other end, and are closed with it. */
  share(handles, _processId, near) {
    const most = Math.min(unixSystem().mostDescriptors, MOST_AT_ONCE);
    for (let start = 0; start < handles.length; start += most) {
      if (!sendDescriptors(near, MARK, handles.slice(start, start + most))) throw noRoom("send", "sendmsg");
    }
    return handles.map(() => 0);
  },

  receive(numbers, far) {
    const received: bigint[] = [];
    try {
      while (received.length < numbers.length) {
        const { descriptors = [], truncated } = receiveDescriptors(far, MARK.length, MOST_AT_ONCE) ?? {};
        received.push(...descriptors);
        if (descriptors.length === 0 || truncated) throw noRoom("receive", "recvmsg");
      }
      return received;
    } catch (error) {
      for (const fd of received) libc().close(fd);
      throw error;
    }
  },
};

/** The most descriptors in a message on every system. */
const MOST_AT_ONCE = 253;

function flagsOf({ read, write, append }: FileAccess): number {
  const { O_APPEND, O_CLOEXEC } = unixSystem();
  const writes = write || append;
  return (writes ? read ? 2 : 1 : 0) | (append ? O_APPEND : 0) | O_CLOEXEC;
}

function isSeekable(handle: bigint): boolean {
  return functions().lseek(handle, 0n, SEEK_CUR) !== -1n;
}

/** Reads or writes when that does not block. What cannot be waited for, such as a file on a disk, never blocks for long. */
async function whenReady(
  handle: bigint,
  readiness: Readiness,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<number> {
  const operation = readiness === "read" ? `read file ${handle}` : `write to file ${handle}`;
  for (;;) {
    const seekable = isSeekable(handle);
    if (!seekable) await unixPoller().prepare().wait(handle, readiness, { operation }).over;
    const call = seekable ? transfer : transferIfReady;
    const count = call(handle, readiness, bytes);
    if (count === undefined) continue;
    if (count !== -1n) return Number(count);
    const code = errno();
    if (!isErrno(code, "EAGAIN", "EINTR")) throw unixError(code, operation, readiness);
  }
}

/**
 * Reads or writes what was ready. Another process that has the same pipe may have been faster. The call must not wait for
 * more then, although the descriptor may be blocking.
 *
 * @returns The number of bytes, -1 for an error, or `undefined` if it is no longer ready.
 */
function transferIfReady(handle: bigint, readiness: Readiness, bytes: Uint8Array<ArrayBuffer>): bigint | undefined {
  const { RWF_NOWAIT } = unixSystem();
  if (RWF_NOWAIT !== undefined) {
    const count = transferWithoutWaiting(handle, readiness, bytes, RWF_NOWAIT);
    if (count !== -1n || !isErrno(errno(), "EOPNOTSUPP", "ENOSYS", "EINVAL")) return count;
  }
  // Linux before 6.4, other systems, and descriptors that do not support it.
  if (!new PollProbe(handle, readiness === "read" ? POLLIN : POLLOUT).ready()) return undefined;
  return transfer(handle, readiness, bytes);
}

/** Reads or writes, and waits if the descriptor is blocking and not ready. */
function transfer(handle: bigint, readiness: Readiness, bytes: Uint8Array<ArrayBuffer>): bigint {
  return functions()[readiness](handle, bytes, BigInt(bytes.byteLength));
}

/** Reads or writes with a flag of `preadv2`. The system's own memory needs no permission for pointers. */
function transferWithoutWaiting(
  handle: bigint,
  readiness: Readiness,
  bytes: Uint8Array<ArrayBuffer>,
  flags: number,
): bigint {
  const { preadv2, pwritev2 } = vectorFunctions();
  const length = Math.min(bytes.byteLength, MAX_NOWAIT);
  const iovec = libc().malloc(BigInt(IOVEC_SIZE + length));
  const data = iovec + BigInt(IOVEC_SIZE);
  libc().copyIn(iovec, new BigUint64Array([data, BigInt(length)]), BigInt(IOVEC_SIZE));
  if (readiness === "write") libc().copyIn(data, bytes, BigInt(length));
  // The offset -1 stands for the current position.
  const count = (readiness === "read" ? preadv2 : pwritev2)(handle, iovec, 1, -1n, flags);
  if (count > 0n && readiness === "read") libc().copyOut(bytes, data, count);
  // free() leaves errno as it is (glibc 2.33).
  libc().free(iovec);
  return count;
}

function noRoom(verb: string, functionName: string): WinsockError {
  const detail = "a process has no room for more descriptors";
  return new WinsockError(WSA_ERRORS.WSAEMFILE, { operation: `${verb} files`, functionName, detail });
}
