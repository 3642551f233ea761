/**
 * Processes: asking the kernel which process is at the other end of a local socket, and which sockets any process has
 * open; references to a process that stay correct when its id is reused (pidfd on Linux, kqueue on macOS).
 *
 * @module
 */
import { errno, isErrno, lastUnixError, libc, libcFunctions, unixError, unixSystem } from "./libc.ts";
import { nulTerminated } from "./local_sockets.ts";
import { POLLIN, PollProbe } from "./io.ts";
import type { OpenSockets } from "../platform.ts";
import { closeAtEnd } from "../../internal/runtime.ts";
import type { UnixSystem } from "./unix_system.ts";
import { closeOnExec } from "./descriptors.ts";

const O_CLOEXEC = 0o2000000;
/** The number of bytes to read of a status file, enough to contain the user. */
const STATUS_SIZE = 4096;
/** The real, effective and saved user, and the user for files. */
const STATUS_USER = /^Uid:(?:\s+\d+){3}\s+(\d+)$/m;

const functions = libcFunctions({
  /** `uid_t geteuid(void)` */
  geteuid: { parameters: [], result: "u32" },
  /** `int open(const char *path, int oflag, ...)`, without a mode */
  open: { parameters: ["buffer", "i32"], result: "i32" },
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["usize", "buffer", "usize"], result: "isize" },
});

const argumentFunctions = libcFunctions({
  /** `int *_NSGetArgc(void)` (crt_externs.h of macOS) */
  _NSGetArgc: { parameters: [], result: "usize" },
  /** `char ***_NSGetArgv(void)` */
  _NSGetArgv: { parameters: [], result: "usize" },
  /** `size_t strlen(const char *s)` */
  strlen: { parameters: ["usize"], result: "usize" },
});

/**
 * Returns the arguments that this process was started with: `/proc/self/cmdline` (proc(5)) on Linux, `_NSGetArgv` on macOS.
 *
 * @returns `undefined` if the system does not report them.
 */
export function ownWords(): string[] | undefined {
  return unixSystem().processFiles ? wordsOfFile() : wordsInMemory();
}

function wordsInMemory(): string[] {
  const { _NSGetArgc, _NSGetArgv, strlen } = argumentFunctions();
  const count = new Int32Array(copyOut(_NSGetArgc(), 4).buffer)[0]!;
  const [argv] = new BigUint64Array(copyOut(_NSGetArgv(), 8).buffer);
  const words = new BigUint64Array(copyOut(argv!, 8 * count).buffer);
  return Array.from(words, (word) => new TextDecoder().decode(copyOut(word, Number(strlen(word)))));
}

/** Copies bytes from native memory. */
function copyOut(address: bigint, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  libc().copyOut(bytes, address, BigInt(length));
  return bytes;
}

function wordsOfFile(): string[] | undefined {
  const fd = functions().open(nulTerminated("/proc/self/cmdline"), O_CLOEXEC);
  if (fd === -1) return undefined;
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(STATUS_SIZE);
  let text = "";
  for (;;) {
    const length = Number(functions().read(BigInt(fd), bytes, BigInt(bytes.byteLength)));
    if (length <= 0) break;
    text += decoder.decode(bytes.subarray(0, length), { stream: true });
  }
  libc().close(BigInt(fd));
  return text.split("\0").slice(0, -1);
}

const threadFunctions = libcFunctions({
  /** `ssize_t getdents64(int fd, void *dirp, size_t length)` */
  getdents64: { parameters: ["usize", "buffer", "usize"], result: "isize" },
  /** `int tgkill(pid_t tgid, pid_t tid, int sig)` */
  tgkill: { parameters: ["i32", "i32", "i32"], result: "i32" },
});

/** A signal that has no effect by default, and that hardly any program uses. */
const SIGURG = 23;
const DIRECTORY_CHUNK = 32_768;
/** The offset of `d_reclen` and `d_name` in a `struct linux_dirent64` (getdents(2)). */
const D_RECLEN = 16;
const D_NAME = 19;

/**
 * Interrupts the system calls that wait in threads of this process, by a signal to each thread. A `close` that lingers
 * then returns. Other calls are repeated by their callers. Does nothing if the system does not list the threads, or no
 * descriptor is available for the list.
 */
export function interruptThreads(): void {
  if (!unixSystem().processFiles) return;
  const directory = functions().open(nulTerminated("/proc/self/task"), O_CLOEXEC);
  if (directory === -1) return;
  const ignore = () => {};
  // A signal that nothing handles does not interrupt a call.
  Deno.addSignalListener("SIGURG", ignore);
  const chunk = new Uint8Array(DIRECTORY_CHUNK);
  const view = new DataView(chunk.buffer);
  for (;;) {
    const length = threadFunctions().getdents64(BigInt(directory), chunk, BigInt(DIRECTORY_CHUNK));
    if (length <= 0n) break;
    for (let entry = 0; entry < length; entry += view.getUint16(entry + D_RECLEN, true)) {
      const name = chunk.subarray(entry + D_NAME, chunk.indexOf(0, entry + D_NAME));
      const thread = Number(new TextDecoder().decode(name));
      if (thread > 0) threadFunctions().tgkill(Deno.pid, thread, SIGURG);
    }
  }
  libc().close(BigInt(directory));
  Deno.removeSignalListener("SIGURG", ignore);
}

/** Returns whether this process runs as root. The processes that it starts may then run as other users. */
export function isRoot(): boolean {
  return functions().geteuid() === 0;
}

/**
 * Returns the user whose files a process may access (`/proc/PID/status`, proc(5)).
 *
 * @param pid The process id.
 * @param operation The operation, for the error.
 * @returns The number of the user; `undefined` if the system does not report it.
 * @throws {WinsockError} WSAEMFILE if no descriptor is available.
 */
export function userOfProcess(pid: number, operation: string): number | undefined {
  if (!unixSystem().processFiles) return undefined;
  const fd = functions().open(nulTerminated(`/proc/${pid}/status`), O_CLOEXEC);
  if (fd === -1) {
    const code = errno();
    if (isErrno(code, "EMFILE", "ENFILE", "ENOMEM")) throw unixError(code, operation, "open");
    return undefined;
  }
  const bytes = new Uint8Array(STATUS_SIZE);
  const length = Number(functions().read(BigInt(fd), bytes, BigInt(STATUS_SIZE)));
  libc().close(BigInt(fd));
  const user = STATUS_USER.exec(new TextDecoder().decode(bytes.subarray(0, Math.max(0, length))))?.[1];
  return user === undefined ? undefined : Number(user);
}

/** A reference to a process that never refers to a later process with the same id. */
export interface ProcessReference extends Disposable {
  /** The process id. */
  readonly pid: number;
  /** Whether the process is still running. */
  readonly alive: boolean;
}

/**
 * Opens a reference to a running process.
 *
 * @param pid The process id.
 * @param operation The operation, for the error.
 * @returns The reference. It uses a descriptor until it is disposed.
 * @throws {WinsockError} WSAEINVAL if the process does not exist.
 */
export function referToProcess(pid: number, operation: string): ProcessReference {
  const { pidfd } = unixSystem();
  return pidfd === undefined ? new KqueueReference(pid, operation) : PidfdReference.open(pid, operation, pidfd);
}

/**
 * Opens a reference to the process at the other end of a local socket. Linux before 6.5 and macOS report only its id;
 * there the reference is to the process that has this id now.
 *
 * @param fd The accepted socket.
 * @param pid The result of {@linkcode peerProcessId}.
 * @param operation The operation, for the error.
 * @returns The reference. It uses a descriptor until it is disposed.
 * @throws {WinsockError} WSAEINVAL if the process does not exist any more.
 */
export function referToPeer(fd: bigint, pid: number, operation: string): ProcessReference {
  const { pidfd } = unixSystem();
  const peer = pidfd === undefined ? undefined : PidfdReference.ofPeer(fd, pid, operation, pidfd);
  return peer ?? referToProcess(pid, operation);
}

/**
 * Returns the id of the process that connected a local socket (`SO_PEERCRED`), or that used it last (`LOCAL_PEERPID`).
 *
 * @param fd The accepted socket.
 * @returns The process id; 0 if it is in a pid namespace that this process cannot see.
 * @throws {WinsockError} If `fd` is not a local socket, or on macOS if its peer is gone.
 */
export function peerProcessId(fd: bigint): number {
  const [level, optname] = unixSystem().PEER_PROCESS;
  const value = new Int32Array(3);
  const length = new Int32Array([value.byteLength]);
  const result = libc().getsockopt(fd, level, optname, value, length);
  if (result === -1) throw lastUnixError(`read the peer's process id of socket ${fd}`, "getsockopt");
  return value[0]!;
}

const pidfdFunctions = libcFunctions({
  /** `long syscall(long number, ...)`, with two integer arguments */
  syscall2: { name: "syscall", parameters: ["i64", "i64", "i64"], result: "i64" },
});

/** A reference by a pidfd (`pidfd_open(2)`), which becomes readable when the process ends. */
class PidfdReference implements ProcessReference {
  readonly #pidfd: bigint;
  readonly #end: PollProbe;

  private constructor(readonly pid: number, pidfd: bigint) {
    this.#pidfd = pidfd;
    this.#end = new PollProbe(pidfd, POLLIN);
  }

  /** Opens a reference to the process that has the id now. */
  static open(pid: number, operation: string, { SYS_pidfd_open }: NonNullable<UnixSystem["pidfd"]>): PidfdReference {
    const pidfd = pidfdFunctions().syscall2(SYS_pidfd_open, BigInt(pid), 0n);
    if (pidfd === -1n) throw lastUnixError(operation, "pidfd_open");
    return new PidfdReference(pid, pidfd);
  }

  /**
   * Opens a reference to the process that connected a local socket, also if another process has its id now.
   *
   * @returns `undefined` if this version of Linux does not support it.
   */
  static ofPeer(
    fd: bigint,
    pid: number,
    operation: string,
    { SO_PEERPIDFD: [level, optname] }: NonNullable<UnixSystem["pidfd"]>,
  ): PidfdReference | undefined {
    const pidfd = new Int32Array(1);
    const result = libc().getsockopt(fd, level, optname, pidfd, new Int32Array([4]));
    if (result === 0) return new PidfdReference(pid, BigInt(pidfd[0]!));
    const code = errno();
    if (isErrno(code, "ENOPROTOOPT")) return undefined;
    throw unixError(code, operation, "getsockopt");
  }

  get alive(): boolean {
    return !this.#end.ready();
  }

  [Symbol.dispose](): void {
    libc().close(this.#pidfd);
  }
}

const EVFILT_PROC = -5;
const EV_ADD = 0x0001;
const NOTE_EXIT = 0x80000000;
const KEVENT_SIZE = 32;
/** A `struct timespec` of 0: do not wait. */
const AT_ONCE = new BigInt64Array(2);

const kqueueFunctions = libcFunctions({
  /** `int kqueue(void)` */
  kqueue: { parameters: [], result: "i32" },
  /** `int kevent(int kq, const struct kevent *changelist, int nchanges, struct kevent *eventlist, int nevents, const struct timespec *timeout)` */
  kevent: { parameters: ["usize", "buffer", "i32", "buffer", "i32", "buffer"], result: "i32" },
});

/**
 * A reference by the event that the process has ended (`EVFILT_PROC`, kqueue(2)). A later process with the same id does
 * not cause this event.
 */
class KqueueReference implements ProcessReference {
  readonly #kqueue: bigint;
  #ended = false;

  constructor(readonly pid: number, operation: string) {
    const kqueue = kqueueFunctions().kqueue();
    if (kqueue === -1) throw lastUnixError(operation, "kqueue");
    this.#kqueue = BigInt(kqueue);
    try {
      closeOnExec(this.#kqueue);
      const result = kqueueFunctions().kevent(this.#kqueue, encodeExitEvent(pid), 1, null, 0, AT_ONCE);
      if (result === -1) throw lastUnixError(operation, "kevent");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get alive(): boolean {
    // The event is reported only once.
    const count = this.#ended
      ? 1
      : kqueueFunctions().kevent(this.#kqueue, null, 0, new Uint8Array(KEVENT_SIZE), 1, AT_ONCE);
    this.#ended = count > 0;
    return !this.#ended;
  }

  [Symbol.dispose](): void {
    libc().close(this.#kqueue);
  }
}

/** Encodes a `struct kevent` that requests the event that a process has ended. */
export function encodeExitEvent(pid: number): Uint8Array<ArrayBuffer> {
  const event = new Uint8Array(KEVENT_SIZE);
  const view = new DataView(event.buffer);
  view.setBigUint64(0, BigInt(pid), true);
  view.setInt16(8, EVFILT_PROC, true);
  view.setUint16(10, EV_ADD, true);
  view.setUint32(12, NOTE_EXIT, true);
  return event;
}

const epollFunctions = libcFunctions({
  /** `int epoll_create1(int flags)` */
  epoll_create1: { parameters: ["i32"], result: "i32" },
  /** `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)` */
  epoll_ctl: { parameters: ["usize", "i32", "usize", "buffer"], result: "i32" },
});

const EPOLL_CTL_ADD = 1;

/** The line of one watched file in `/proc/self/fdinfo` (proc_pid_fdinfo(5)); its data in hexadecimal digits. */
const WATCHED_FILE = /^tfd:\s+\d+ events:\s+\w+ data:\s+(\w+)/gm;
const FDINFO_CHUNK = 1 << 16;

/**
 * Watches which sockets are open anywhere, by an epoll set that nothing waits for. A registration belongs to the
 * underlying socket: it stays until no process has a descriptor of the socket, and then the kernel removes it. Only this
 * process can remove it earlier. The kernel lists the registrations in `/proc/self/fdinfo`.
 */
export class EpollOpenSockets implements OpenSockets {
  readonly #epoll: bigint;
  readonly #event: Uint8Array<ArrayBuffer>;
  readonly #dataOffset: number;
  readonly #leave: () => void;

  private constructor(epoll: bigint, { eventSize, dataOffset }: NonNullable<UnixSystem["epoll"]>) {
    this.#epoll = epoll;
    this.#event = new Uint8Array(eventSize);
    this.#dataOffset = dataOffset;
    this.#leave = closeAtEnd(epoll, () => void libc().close(epoll));
  }

  /** Returns `undefined` if the system does not list the registrations, or has no room. */
  static open(): EpollOpenSockets | undefined {
    const { epoll, processFiles } = unixSystem();
    if (epoll === undefined || !processFiles) return undefined;
    const fd = epollFunctions().epoll_create1(epoll.EPOLL_CLOEXEC);
    if (fd === -1) return undefined;
    const opened = new EpollOpenSockets(BigInt(fd), epoll);
    if (opened.list() !== undefined) return opened;
    opened.close();
    return undefined;
  }

  add(s: bigint, token: number): boolean {
    const view = new DataView(this.#event.buffer);
    view.setUint32(0, 0, true);
    view.setUint32(this.#dataOffset, token, true);
    // Fails for another descriptor of a watched socket that has the number of the one that was watched.
    return epollFunctions().epoll_ctl(this.#epoll, EPOLL_CTL_ADD, s, this.#event) === 0;
  }

  list(): Set<number> | undefined {
    const file = functions().open(nulTerminated(`/proc/self/fdinfo/${this.#epoll}`), O_CLOEXEC);
    if (file === -1) return undefined;
    const decoder = new TextDecoder();
    const chunk = new Uint8Array(FDINFO_CHUNK);
    let text = "";
    try {
      for (;;) {
        const length = functions().read(BigInt(file), chunk, BigInt(chunk.byteLength));
        // What was read before an error is not the whole list.
        if (length === -1n) return undefined;
        if (length === 0n) break;
        text += decoder.decode(chunk.subarray(0, Number(length)), { stream: true });
      }
    } finally {
      libc().close(BigInt(file));
    }
    return new Set(text.matchAll(WATCHED_FILE).map(([, data]) => Number.parseInt(data!, 16)));
  }

  close(): void {
    this.#leave();
    libc().close(this.#epoll);
  }
}
