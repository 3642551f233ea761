/**
 * Waiting on Linux: the system keeps the list of what is waited for (epoll(7)), so that one socket more or less costs one
 * short call, however many there are. The event loop tells when something is ready in that list; where it cannot, a pool
 * thread waits.
 *
 * A registration belongs to the underlying socket and outlives `close` while another process has that too. So each ends
 * with its last wait, or when the socket is given up, before the descriptor can be closed.
 *
 * @module
 */
import { ENDED, READ, type Report, type Watched, type WatchSet, WRITE } from "../poller.ts";
import { closeAtEnd } from "../unload.ts";
import { isErrno, lastUnixError, unixError } from "./errno.ts";
import { EventLoop } from "./event_loop.ts";
import { errno, libc, libcFunctions } from "./libc.ts";
import { Waker } from "./poll.ts";
import { unixSystem } from "./system.ts";

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 0x001;
const EPOLLOUT = 0x004;
const EPOLLERR = 0x008;
const EPOLLHUP = 0x010;
const EPOLLRDHUP = 0x2000;
/**
 * Told once of each thing that comes. All wait so: registering, anew too, tells what is there already, and whoever asks for
 * more than there is hears of it when more comes, and not all the time.
 */
const EPOLLET = 1 << 31;

/** How many sockets one call tells of. */
const MOST_EVENTS = 256;
/** What stands for the waker; sockets count from 1. */
const WAKER_TOKEN = 0;

const functions = libcFunctions({
  /** `int epoll_create1(int flags)` */
  epoll_create1: { parameters: ["i32"], result: "i32" },
  /** `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)` */
  epoll_ctl: { parameters: ["usize", "i32", "usize", "buffer"], result: "i32" },
  /** `int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)` on a pool thread, into native memory */
  epoll_wait: { parameters: ["usize", "usize", "i32", "i32"], result: "i32", nonblocking: true },
  /** The same on the calling thread */
  epollNow: { name: "epoll_wait", parameters: ["usize", "buffer", "i32", "i32"], result: "i32" },
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["usize", "buffer", "usize"], result: "isize" },
});

/** What is open once something waits. */
interface Opened {
  readonly epoll: bigint;
  readonly loop: EventLoop | undefined;
}

/** What is open once a thread waits. */
interface Thread {
  readonly waker: Waker;
  /** Where a thread writes what it found, for good: an object's memory goes when a Worker is terminated, and the thread later. */
  readonly memory: bigint;
}

/** What is waited for, in an epoll descriptor. */
export class Epoll implements WatchSet {
  readonly live: boolean = true;
  readonly #eventSize: number;
  readonly #dataOffset: number;
  readonly #event: Uint8Array<ArrayBuffer>;
  readonly #eventView: DataView;
  readonly #events: Uint8Array<ArrayBuffer>;
  readonly #eventsView: DataView;
  /** By a number that is never used again: of what a thread has found, the socket may be gone and its number another's. */
  readonly #watched = new Map<number, Watched>();
  #lastToken = WAKER_TOKEN;
  #opened: Opened | undefined;
  #thread: Thread | undefined;

  constructor({ eventSize, dataOffset }: NonNullable<ReturnType<typeof unixSystem>["epoll"]>) {
    this.#eventSize = eventSize;
    this.#dataOffset = dataOffset;
    this.#event = new Uint8Array(eventSize);
    this.#eventView = new DataView(this.#event.buffer);
    this.#events = new Uint8Array(eventSize * MOST_EVENTS);
    this.#eventsView = new DataView(this.#events.buffer);
  }

  prepare(): void {
    this.#opened ??= this.#open();
  }

  #open(): Opened {
    const result = functions().epoll_create1(unixSystem().epoll!.EPOLL_CLOEXEC);
    if (result === -1) throw lastUnixError("wait for sockets", "epoll_create1");
    const epoll = BigInt(result);
    const loop = EventLoop.open(epoll);
    try {
      if (loop === undefined) this.#thread = this.#openThread(epoll);
    } catch (error) {
      libc().close(epoll);
      throw error;
    }
    closeAtEnd(epoll, () => void libc().close(epoll));
    return { epoll, loop };
  }

  #openThread(epoll: bigint): Thread {
    const waker = new Waker();
    // Before the list is closed, where nothing has waited for it before: a thread that waits ends then.
    waker.closeAtEnd();
    const memory = libc().malloc(BigInt(this.#events.byteLength));
    // Always ready once it was woken, until it is read.
    this.#control(epoll, EPOLL_CTL_ADD, waker.fd, EPOLLIN, WAKER_TOKEN);
    return { waker, memory };
  }

  added(watched: Watched): void {
    const { epoll } = this.#opened!;
    const { wanted } = watched;
    const events = (wanted & READ ? EPOLLIN | EPOLLRDHUP : 0) | (wanted & WRITE ? EPOLLOUT : 0) | EPOLLET;
    const known = watched.place !== -1;
    if (!known) watched.place = ++this.#lastToken;
    const result = this.#control(epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, watched.s, events, watched.place);
    if (result !== -1) {
      this.#watched.set(watched.place, watched);
      return;
    }
    const code = errno();
    if (!known) watched.place = -1;
    throw unixError(code, `wait for socket ${watched.s}`, "epoll_ctl");
  }

  removed(watched: Watched): void {
    if (watched.waits.size > 0 || watched.kept || watched.place === -1) return;
    // It fails where the descriptor was closed behind the library's back.
    this.#control(this.#opened!.epoll, EPOLL_CTL_DEL, watched.s, 0, watched.place);
    this.#watched.delete(watched.place);
    watched.place = -1;
  }

  look(_all: boolean, report: Report): void {
    if (this.#watched.size === 0) return;
    const count = functions().epollNow(this.#opened!.epoll, this.#events, MOST_EVENTS, 0);
    if (count === -1) {
      const code = errno();
      if (!isErrno(code, "EINTR")) throw unixError(code, `wait for ${this.#watched.size} sockets`, "epoll_wait");
    }
    this.#report(count, report);
  }

  attend(found: () => void): boolean {
    return this.#opened!.loop?.wait(found) ?? false;
  }

  reference(referenced: boolean): void {
    const loop = this.#opened?.loop;
    if (loop !== undefined) loop.referenced = referenced;
  }

  async wait(milliseconds: number, report: Report): Promise<void> {
    const { epoll } = this.#opened!;
    // The event loop may have told until now.
    const { memory } = this.#thread ??= this.#openThread(epoll);
    const count = await functions().epoll_wait(epoll, memory, MOST_EVENTS, milliseconds);
    // Why it failed stayed with the thread. Asking on this one tells, unless it was a signal.
    if (count === -1) return this.look(true, report);
    if (count > 0) libc().copyOut(this.#events, memory, BigInt(count * this.#eventSize));
    this.#report(count, report);
  }

  wake(): void {
    this.#thread!.waker.wake();
  }

  #report(count: number, report: Report): void {
    const view = this.#eventsView;
    for (let offset = 0; offset < count * this.#eventSize; offset += this.#eventSize) {
      const data = offset + this.#dataOffset;
      const token = view.getUint32(data, true) + view.getUint32(data + 4, true) * 2 ** 32;
      if (token === WAKER_TOKEN) this.#rest();
      const watched = this.#watched.get(token);
      if (watched !== undefined) report(watched, toEvents(view.getUint32(offset, true)));
    }
  }

  #rest(): void {
    functions().read(this.#thread!.waker.fd, new Uint8Array(8), 8n);
  }

  #control(epoll: bigint, operation: number, fd: bigint, events: number, token: number): number {
    this.#eventView.setInt32(0, events, true);
    this.#eventView.setUint32(this.#dataOffset, token % 2 ** 32, true);
    this.#eventView.setUint32(this.#dataOffset + 4, Math.floor(token / 2 ** 32), true);
    return functions().epoll_ctl(epoll, operation, fd, this.#event);
  }
}

/** Where a socket has failed, reading and writing tell why. */
function toEvents(events: number): number {
  const failed = (events & (EPOLLERR | EPOLLHUP)) !== 0;
  return (failed || (events & (EPOLLIN | EPOLLRDHUP)) !== 0 ? READ : 0) |
    (failed || (events & EPOLLOUT) !== 0 ? WRITE : 0) |
    ((events & (EPOLLRDHUP | EPOLLHUP)) !== 0 ? ENDED : 0);
}
