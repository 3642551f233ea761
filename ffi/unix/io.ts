/**
 * Input and output on Unix: poll(2), and the calls of this system for the {@linkcode Poller}, streams and datagrams.
 * Connections are accepted by a non-blocking `accept` on the JavaScript thread, and by the poller while none waits.
 *
 * @module
 */
import { closeAtEnd, YieldBudget } from "../../internal/runtime.ts";
import { errno, isErrno, lastUnixError, libc, libcFunctions, unixError, unixSystem } from "./libc.ts";
import { acceptNow, newWakerEnds, setNonblocking } from "./descriptors.ts";
import type { Acceptor } from "../platform.ts";
import type { Poller, PollWaiter } from "../poller.ts";
import type { PollSystem, PollWaker } from "../poll_table.ts";
import type { StreamCalls, TryReceive } from "../nonblocking_io.ts";
import type { ErrnoName } from "./unix_system.ts";

/** `POLLIN`: data can be read, or a connection accepted. */
export const POLLIN = 0x0001;
/** `POLLOUT`: there is room to write, or a connect has finished. */
export const POLLOUT = 0x0004;

/**
 * Waits until one of the descriptors is ready.
 *
 * @param timeout The time limit in milliseconds; -1 for no limit.
 * @param wanted The descriptors, each with the events to wait for.
 * @returns The number of descriptors that are ready; 0 after the timeout.
 */
export async function poll(timeout: number, ...wanted: readonly [fd: bigint, events: number][]): Promise<number> {
  return await libc().poll(pollfds(wanted), BigInt(wanted.length), timeout);
}

/**
 * Waits as {@linkcode poll} does, but blocks the calling thread.
 *
 * @param timeout The time limit in milliseconds; -1 for no limit.
 * @param wanted The descriptors, each with the events to wait for.
 * @returns The number of descriptors that are ready; 0 after the timeout.
 */
export function pollSync(timeout: number, ...wanted: readonly [fd: bigint, events: number][]): number {
  return libc().pollNow(pollfds(wanted), BigInt(wanted.length), timeout);
}

/** Polls one descriptor repeatedly, without waiting. */
export class PollProbe {
  readonly #fds: Uint8Array<ArrayBuffer>;

  /**
   * @param fd The descriptor.
   * @param events The events to look for.
   */
  constructor(fd: bigint, events: number) {
    this.#fds = pollfds([[fd, events]]);
  }

  /** Returns whether the descriptor is ready, or has an error to report. */
  ready(): boolean {
    return libc().pollNow(this.#fds, 1n, 0) > 0;
  }
}

/** Makes an array of `struct pollfd`. */
function pollfds(wanted: readonly (readonly [fd: bigint, events: number])[]): Uint8Array<ArrayBuffer> {
  const fds = new Uint8Array(wanted.length * 8);
  const view = new DataView(fds.buffer);
  wanted.forEach(([fd, events], index) => {
    view.setInt32(index * 8, Number(fd), true);
    view.setInt16(index * 8 + 4, events, true);
  });
  return fds;
}

/** Ends a {@linkcode poll} from the JavaScript thread. It is a descriptor that becomes readable. */
export class Waker {
  readonly fd: bigint;
  readonly #end: bigint;

  constructor() {
    [this.fd, this.#end] = newWakerEnds();
  }

  /** Registers the waker to be closed when the program ends. A thread that polls it then ends first. */
  closeAtEnd(): void {
    closeAtEnd(this.fd, () => {
      this.wake();
      libc().close(this.fd);
    });
    if (this.#end !== this.fd) closeAtEnd(this.#end, () => void libc().close(this.#end));
  }

  /** Ends every pending and later poll of it. */
  wake(): void {
    libc().write(this.#end, new BigUint64Array([1n]), 8n);
  }
}

const POLLFD_SIZE = 8;
/** `POLLERR`, `POLLHUP`, `POLLNVAL`: both directions have failed. */
const FAILED = 0x0008 | 0x0010 | 0x0020;

const wakerFunctions = libcFunctions({
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["usize", "buffer", "usize"], result: "isize" },
});

/** The `poll` of libc. */
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

  pollSync(fds, count) {
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
      rest: () => void wakerFunctions().read(waker.fd, new Uint8Array(8), 8n),
    };
  },
};

const SHUT_WR = 1;

const streamFunctions = libcFunctions({
  /** `ssize_t send(int sockfd, const void *buf, size_t len, int flags)` */
  send: { parameters: ["usize", "buffer", "usize", "i32"], result: "isize" },
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["usize", "buffer", "usize"], result: "isize" },
});

/**
 * Calls `recv` without waiting. Returns `undefined` if no data is available.
 *
 * @param flags Further `MSG_*` flags.
 * @param operation Returns the operation, for the error.
 */
export function tryRecv(
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

const MSG_PEEK = 2;
const ONE_BYTE = new Uint8Array(1);

/**
 * Returns the length of the next message of a local socket, in bytes; 0 if no message waits, or if the system does not tell.
 *
 * @throws {WinsockError} If the connection is broken.
 */
export function nextLength(s: bigint): number {
  const { MSG_TRUNC } = unixSystem();
  if (MSG_TRUNC === undefined) return 0;
  return tryRecv(s, ONE_BYTE, MSG_PEEK | MSG_TRUNC, () => `receive on socket ${s}`) ?? 0;
}

/**
 * Stream calls on sockets. Each call has a flag that it must not wait, because another process may make the socket
 * blocking.
 */
export const UNIX_STREAMS: StreamCalls = {
  receive: (s, buffer) => tryRecv(s, buffer, 0, () => `receive on socket ${s}`),

  send(s, bytes) {
    const { send } = streamFunctions();
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

/** The same calls on non-blocking pipes (pipe(7)). */
export const UNIX_PIPES: StreamCalls = {
  ...UNIX_STREAMS,

  receive(fd, buffer) {
    const count = streamFunctions().read(fd, buffer, BigInt(buffer.byteLength));
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

/**
 * Errors that report the answer of a host to an earlier datagram of a connected socket. Each is reported once, and does
 * not end receiving.
 */
const ANSWERS: readonly ErrnoName[] = ["ENETUNREACH", "ECONNREFUSED", "EHOSTUNREACH"];

const datagramFunctions = libcFunctions({
  /** `ssize_t sendto(int sockfd, const void *buf, size_t len, int flags, const struct sockaddr *dest_addr, socklen_t addrlen)` */
  sendto: { parameters: ["usize", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  /** `ssize_t recvfrom(int sockfd, void *buf, size_t len, int flags, struct sockaddr *src_addr, socklen_t *addrlen)` */
  recvfrom: { parameters: ["usize", "buffer", "usize", "i32", "buffer", "buffer"], result: "isize" },
});

/**
 * Sends one datagram without waiting.
 *
 * @param operation The operation, for the error.
 * @returns The number of bytes sent; `undefined` if there is no room at the moment.
 */
export function trySend(
  s: bigint,
  data: Uint8Array<ArrayBuffer>,
  name: Uint8Array<ArrayBuffer>,
  operation: string,
): number | undefined {
  const { sendto } = datagramFunctions();
  const { MSG_DONTWAIT, MSG_NOSIGNAL, waits } = unixSystem();
  // Another process may have made the socket blocking, but this thread must not wait.
  const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  const sent = sendto(s, data, BigInt(data.byteLength), flags, name, name.byteLength);
  if (sent !== -1n) return Number(sent);
  const code = errno();
  if (isErrno(code, ...waits.datagram)) return undefined;
  throw unixError(code, operation, "sendto");
}

/** Calls `recvfrom`. */
export const tryReceive: TryReceive = (s, buffer, name, nameLength) => {
  const { recvfrom } = datagramFunctions();
  const { MSG_DONTWAIT } = unixSystem();
  for (;;) {
    const received = recvfrom(s, buffer, BigInt(buffer.byteLength), MSG_DONTWAIT, name, nameLength);
    if (received !== -1n) return Number(received);
    const code = errno();
    if (isErrno(code, "EAGAIN")) return undefined;
    if (isErrno(code, "EINTR", ...ANSWERS)) continue;
    throw unixError(code, `receive on socket ${s}`, "recvfrom");
  }
};

/** The most connections accepted in one turn of the event loop. */
const MAX_IN_TURN = 16;

/** Accepts connections only on request. All others stay in the backlog, for other processes that share the listener. */
export class UnixAcceptor implements Acceptor {
  readonly #turns = new YieldBudget(MAX_IN_TURN);
  readonly #look: PollProbe;
  #stopping: Promise<void> | undefined;
  /** Whether the poller has just reported a waiting connection. */
  #woken = false;
  #waiting: PollWaiter | undefined;
  #referenced = true;

  /**
   * Makes the listener non-blocking. It may come from another process, or be shared with one, and must not block this
   * thread.
   */
  constructor(readonly listener: bigint, readonly poller: Poller) {
    this.#look = new PollProbe(listener, POLLIN);
    setNonblocking(listener, `accept connections on socket ${listener}`);
  }

  async accept(): Promise<bigint | undefined> {
    let accepted: bigint | undefined;
    await this.acceptWhile(() => accepted === undefined, (s) => void (accepted = s));
    return accepted;
  }

  async acceptWhile(wanted: () => boolean, accepted: (s: bigint) => void): Promise<boolean> {
    while (this.#stopping === undefined && wanted()) {
      // Yield, so that the caller can use the connections it has accepted.
      if (this.#turns.exhausted) {
        await this.#turns.yield();
        continue;
      }
      const s = this.#mayAccept() ? acceptNow(this.listener) : undefined;
      if (s !== undefined) {
        this.#turns.spend();
        accepted(s);
        continue;
      }
      // Yielding costs less than waiting through the poller, and after several connections the next one is likely to
      // arrive soon.
      await (this.#turns.spent > 1 ? this.#turns.yield() : this.#wait());
    }
    return this.#stopping === undefined;
  }

  stop(): Promise<void> {
    return this.#stopping ??= this.#stop();
  }

  async #stop(): Promise<void> {
    this.poller.release(this.listener);
    if (this.#waiting !== undefined) await this.poller.cancel(this.#waiting);
  }

  end(): undefined {
    this.stop().catch(() => {});
  }

  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    if (this.#waiting !== undefined) this.poller.reference(this.#waiting, referenced);
  }

  /** Returns whether an `accept` may succeed. An `accept` that fails costs ten times as much as this check. */
  #mayAccept(): boolean {
    const woken = this.#woken;
    this.#woken = false;
    return woken || this.#look.ready();
  }

  async #wait(): Promise<void> {
    this.#turns.reset();
    const options = { referenced: this.#referenced, outlives: true, repeated: true };
    this.#waiting = this.poller.wait(this.listener, "read", options);
    try {
      await this.#waiting.over;
      this.#woken = true;
    } finally {
      this.#waiting = undefined;
    }
  }
}
