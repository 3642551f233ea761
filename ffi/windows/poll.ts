/**
 * Waiting for readiness on a pool thread: `WSAPoll`.
 *
 * @module
 */
import { openLibrary } from "../library.ts";
import type { PollSystem, PollWaker } from "../poller.ts";
import type { SocketCalls } from "../socket_calls.ts";
import { WINSOCK_STREAMS } from "./streams.ts";
import { SYSTEM32 } from "./system32.ts";
import { lastWinsockError, ws2_32 } from "./ws2_32.ts";

/** `POLLRDNORM`: something to read or accept. */
export const POLLRDNORM = 0x0100;
/** `POLLWRNORM`: room to write, or a finished connect. */
export const POLLWRNORM = 0x0010;

/** `POLLERR`, `POLLNVAL`. */
const FAILED = 0x0001 | 0x0004;
const POLLHUP = 0x0002;
const POLLFD_SIZE = 16;

/** Apart from the rest of ws2_32, since each function takes its time to bind and most processes need none of these. */
const SYMBOLS = {
  /** `int WSAPoll(LPWSAPOLLFD fdArray, ULONG fds, INT timeout)` on the calling thread */
  WSAPoll: { parameters: ["buffer", "u32", "i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

/** A `WSAPOLLFD`: a socket with the events wanted of it. */
export function pollfd(s: bigint, events: number): Uint8Array<ArrayBuffer> {
  const fd = new Uint8Array(POLLFD_SIZE);
  writePollfd(new DataView(fd.buffer), 0, s, events);
  return fd;
}

/** Looks at one socket again and again, without waiting. */
export class Look {
  readonly #fd: Uint8Array<ArrayBuffer>;

  /**
   * @param s The socket.
   * @param events The events wanted.
   */
  constructor(s: bigint, events: number) {
    this.#fd = pollfd(s, events);
  }

  /** Whether it is ready. */
  ready(): boolean {
    return functions().WSAPoll(this.#fd, 1, 0) > 0;
  }
}

function functions(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  return symbols ??= openLibrary([`${SYSTEM32}\\ws2_32.dll`], SYMBOLS);
}

function writePollfd(view: DataView, offset: number, s: bigint, events: number): void {
  view.setBigUint64(offset, s, true);
  view.setInt32(offset + 8, events, true);
}

/** `WSAPoll`. */
export class WinsockPoll implements PollSystem {
  readonly size: number = POLLFD_SIZE;
  readonly readable: number = POLLRDNORM | POLLHUP | FAILED;
  /** Not POLLHUP: the peer has ended its side, and may still have room for what is sent to it, or not. */
  readonly writable: number = POLLWRNORM | FAILED;

  constructor(readonly calls: SocketCalls) {}

  encode(view: DataView, offset: number, s: bigint, read: boolean, write: boolean): void {
    writePollfd(view, offset, s, (read ? POLLRDNORM : 0) | (write ? POLLWRNORM : 0));
  }

  revents(view: DataView, offset: number): number {
    return view.getInt16(offset + 10, true);
  }

  poll(fds: Uint8Array<ArrayBuffer>, count: number, timeout: number): Promise<number> {
    return ws2_32().WSAPoll(fds, count, timeout);
  }

  pollNow(fds: Uint8Array<ArrayBuffer>, count: number): number {
    const ready = functions().WSAPoll(fds, count, 0);
    if (ready === -1) throw lastWinsockError(`wait for ${count} sockets`, "WSAPoll");
    return ready;
  }

  /** Closing a socket wakes nobody who polls it: a UDP socket that sends to itself, and to which nobody else can, does. */
  waker(): PollWaker {
    const { calls } = this;
    const handle = calls.bindDatagram({ hostname: "127.0.0.1", port: 0 }, false);
    try {
      calls.unblock(handle);
      calls.connectDatagram(handle, calls.localAddress(handle) as Deno.NetAddr);
    } catch (error) {
      calls.close(handle);
      throw error;
    }
    const byte = new Uint8Array(1);
    return {
      handle,
      wake: () => void WINSOCK_STREAMS.send(handle, byte),
      rest: () => {
        while (WINSOCK_STREAMS.receive(handle, byte) !== undefined);
      },
    };
  }
}
