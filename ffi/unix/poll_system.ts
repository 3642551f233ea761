/**
 * The {@linkcode Poller} of Unix, and `poll` for it where there is no epoll.
 *
 * @module
 */
import { type PollSystem, PollTable, type PollWaker } from "../poll_table.ts";
import { Poller } from "../poller.ts";
import { Epoll } from "./epoll.ts";
import { isErrno, unixError } from "./errno.ts";
import { errno, libc, libcFunctions } from "./libc.ts";
import { POLLIN, POLLOUT, Waker } from "./poll.ts";
import { unixSystem } from "./system.ts";

const POLLFD_SIZE = 8;
/** `POLLERR`, `POLLHUP`, `POLLNVAL`: both directions have failed. */
const FAILED = 0x0008 | 0x0010 | 0x0020;

const functions = libcFunctions({
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["usize", "buffer", "usize"], result: "isize" },
});

let poller: Poller | undefined;

/**
 * Waits for sockets, and whatever else can be polled, on one pool thread for the whole program.
 *
 * @returns The same poller every time.
 */
export function unixPoller(): Poller {
  const { epoll } = unixSystem();
  return poller ??= new Poller(epoll === undefined ? new PollTable(UNIX_POLL) : new Epoll(epoll));
}

/** `poll` of libc. */
export const UNIX_POLL: PollSystem = {
  size: POLLFD_SIZE,
  readable: POLLIN | FAILED | unixSystem().POLL_ENDED,
  writable: POLLOUT | FAILED,
  ended: unixSystem().POLL_ENDED,

  encode(view, offset, s, read, write) {
    view.setInt32(offset, Number(s), true);
    view.setInt32(offset + 4, (read ? POLLIN | unixSystem().POLL_ENDED : 0) | (write ? POLLOUT : 0), true);
  },

  revents: (view, offset) => view.getInt16(offset + 6, true),

  poll: (fds, count, timeout) => libc().poll(fds, BigInt(count), timeout),

  pollNow(fds, count) {
    const ready = libc().pollNow(fds, BigInt(count), 0);
    if (ready !== -1) return ready;
    const code = errno();
    if (isErrno(code, "EINTR")) return 0;
    throw unixError(code, `wait for ${count} sockets`, "poll");
  },

  waker(): PollWaker {
    const waker = new Waker();
    waker.closeAtEnd();
    return {
      handle: waker.fd,
      wake: () => waker.wake(),
      rest: () => void functions().read(waker.fd, new Uint8Array(8), 8n),
    };
  },
};

/**
 * Waits through the poller until a descriptor can be read, or has failed, which reading tells.
 *
 * @param fd The descriptor.
 * @param milliseconds How long at most.
 * @param referenced Whether this keeps the process running.
 * @throws {WinsockError} If it cannot be waited for, such as WSAEMFILE.
 */
export async function readableWithin(fd: bigint, milliseconds: number, referenced: boolean = true): Promise<void> {
  const waiting = unixPoller().prepare().wait(fd, "read", { referenced, outlives: true });
  const late = setTimeout(() => unixPoller().cancel(waiting), milliseconds);
  if (!referenced) Deno.unrefTimer(late);
  try {
    await waiting.over;
  } finally {
    clearTimeout(late);
  }
}
