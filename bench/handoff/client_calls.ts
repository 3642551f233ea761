/**
 * The few calls of Linux the client needs, all of them blocking.
 *
 * @module
 */
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const EPOLLRDHUP = 0x2000;
const MAX_EVENTS = 64;

/** `struct epoll_event` is packed on x86-64 only. */
const EVENT = Deno.build.arch === "x86_64" ? { size: 12, data: 4 } : { size: 16, data: 8 };

const SYMBOLS = {
  /** `int socket(int domain, int type, int protocol)` */
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** `int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen)` */
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  /** `ssize_t recv(int sockfd, void *buf, size_t len, int flags)` */
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  /** `int close(int fd)` */
  close: { parameters: ["i32"], result: "i32" },
  /** `int epoll_create1(int flags)` */
  epoll_create1: { parameters: ["i32"], result: "i32" },
  /** `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)` */
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  /** `int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)` */
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Connections to the loopback address. */
export interface ClientCalls {
  readonly symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  /** Connects to a port; the descriptor, or -1. */
  connect(port: number): number;
  /** Reads what is there without waiting; how much, 0 at the end, -1 for none or an error. */
  readSome(descriptor: number): number;
  close(descriptor: number): void;
}

/** Opens the calls of the first library that is there. */
export function openClientCalls(paths: readonly string[]): ClientCalls {
  const { symbols } = openFirst(paths);
  const buffer = new Uint8Array(16);
  const address = new Uint8Array(16);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_INET, true);
  address.set([127, 0, 0, 1], 4);
  return {
    symbols,
    connect(port) {
      const descriptor = symbols.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (descriptor < 0) return -1;
      view.setUint16(2, port);
      if (symbols.connect(descriptor, address, 16) === 0) return descriptor;
      symbols.close(descriptor);
      return -1;
    },
    readSome: (descriptor) => Number(symbols.recv(descriptor, buffer, 16n, MSG_DONTWAIT)),
    close: (descriptor) => void symbols.close(descriptor),
  };
}

function openFirst(paths: readonly string[]): Deno.DynamicLibrary<typeof SYMBOLS> {
  for (const path of paths) {
    try {
      return Deno.dlopen(path, SYMBOLS);
    } catch {
      // another distribution's path
    }
  }
  throw new Error(`None of ${paths.join(", ")} can be opened`);
}

/** `epoll`, level-triggered; what is closed is no longer watched. */
export class Epoll implements Disposable {
  readonly #symbols: ClientCalls["symbols"];
  readonly #descriptor: number;
  readonly #events = new Uint8Array(MAX_EVENTS * EVENT.size);
  readonly #view = new DataView(this.#events.buffer);
  readonly #event = new Uint8Array(EVENT.size);

  constructor({ symbols }: ClientCalls) {
    this.#symbols = symbols;
    this.#descriptor = symbols.epoll_create1(SOCK_CLOEXEC);
    if (this.#descriptor < 0) throw new Error("epoll_create1 failed");
  }

  /** Waits for the descriptor to be readable, or its peer's end. */
  watch(descriptor: number): void {
    const view = new DataView(this.#event.buffer);
    view.setUint32(0, EPOLLIN | EPOLLRDHUP, true);
    view.setInt32(EVENT.data, descriptor, true);
    if (this.#symbols.epoll_ctl(this.#descriptor, EPOLL_CTL_ADD, descriptor, this.#event) !== 0) {
      throw new Error(`epoll_ctl failed for descriptor ${descriptor}`);
    }
  }

  /** Blocks until something happens; the descriptors it happened to. */
  wait(milliseconds: number): number[] {
    const count = this.#symbols.epoll_wait(this.#descriptor, this.#events, MAX_EVENTS, milliseconds);
    const descriptors = [];
    for (let index = 0; index < count; index++) {
      descriptors.push(this.#view.getInt32(index * EVENT.size + EVENT.data, true));
    }
    return descriptors;
  }

  [Symbol.dispose](): void {
    this.#symbols.close(this.#descriptor);
  }
}
