/**
 * The {@linkcode FileCalls} on libc.
 *
 * @module
 */
import type { FileAccess, FileCalls } from "../platform.ts";
import { WinsockError } from "../winsock_error.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { closeOnExec } from "./descriptors.ts";
import { errno, isErrno, lastUnixError, libc, libcFunctions, unixError, unixSystem } from "./libc.ts";
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
    const { read, readElsewhere } = functions();
    const operation = `read file ${handle}`;
    const size = BigInt(buffer.byteLength);
    if (isSeekable(handle)) {
      const count = await readElsewhere(handle, buffer, size);
      // The error was the pool thread's.
      if (count !== -1n) return Number(count);
    }
    return await whenReady(handle, "read", operation, () => read(handle, buffer, size));
  },

  async write(handle, bytes) {
    const { write, writeElsewhere } = functions();
    const operation = `write to file ${handle}`;
    if (isSeekable(handle)) {
      const count = await writeElsewhere(handle, bytes, BigInt(bytes.byteLength));
      if (count !== -1n) return Number(count);
    }
    const size = BigInt(Math.min(bytes.byteLength, PIPE_ROOM));
    return await whenReady(handle, "write", operation, () => write(handle, bytes, size));
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

/** Calls when the call does not block. What cannot be waited for, such as a file on a disk, never blocks for long. */
async function whenReady(
  handle: bigint,
  readiness: "read" | "write",
  operation: string,
  call: () => bigint,
): Promise<number> {
  for (;;) {
    if (!isSeekable(handle)) await unixPoller().prepare().wait(handle, readiness, { operation }).over;
    const count = call();
    if (count !== -1n) return Number(count);
    const code = errno();
    if (!isErrno(code, "EAGAIN", "EINTR")) throw unixError(code, operation, readiness);
  }
}

function noRoom(verb: string, functionName: string): WinsockError {
  const detail = "a process has no room for more descriptors";
  return new WinsockError(WSA_ERRORS.WSAEMFILE, { operation: `${verb} files`, functionName, detail });
}
