/**
 * Waiting for readiness on a pool thread: `WSAPoll`.
 *
 * @module
 */
import { openLibrary } from "../library.ts";
import type { PollSystem, PollWaker } from "../poll_table.ts";
import type { SocketCalls } from "../socket_calls.ts";
import { WINSOCK_STREAMS } from "./streams.ts";
import { closeAtEnd } from "../unload.ts";
import { SYSTEM32 } from "./system32.ts";
import { lastWinsockError, ws2_32 } from "./ws2_32.ts";

/** Something to read or accept. */
const POLLRDNORM = 0x0100;
/** Room to write, or a finished connect. */
const POLLWRNORM = 0x0010;
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

/** Looks at one socket again and again, without waiting. */
export class Look {
  readonly #fd = new Uint8Array(POLLFD_SIZE);

  /** @param s The socket, which is looked at for something to read or accept. */
  constructor(s: bigint) {
    const view = new DataView(this.#fd.buffer);
    view.setBigUint64(0, s, true);
    view.setInt32(8, POLLRDNORM, true);
  }

  /** Whether it is ready. */
  ready(): boolean {
    return functions().WSAPoll(this.#fd, 1, 0) > 0;
  }
}

function functions(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  return symbols ??= openLibrary([`${SYSTEM32}\\ws2_32.dll`], SYMBOLS);
}

/** `WSAPoll`. */
export class WinsockPoll implements PollSystem {
  readonly size: number = POLLFD_SIZE;
  readonly readable: number = POLLRDNORM | POLLHUP | FAILED;
  /** Not POLLHUP: the peer has ended its side, and may still have room for what is sent to it, or not. */
  readonly writable: number = POLLWRNORM | FAILED;
  readonly ended: number = POLLHUP;
  /** One socket's entry, for one call at a time. */
  readonly #one = new Uint8Array(POLLFD_SIZE);
  readonly #oneView = new DataView(this.#one.buffer);

  constructor(readonly calls: SocketCalls) {}

  encode(view: DataView, offset: number, s: bigint, read: boolean, write: boolean): void {
    view.setBigUint64(offset, s, true);
    view.setInt32(offset + 8, (read ? POLLRDNORM : 0) | (write ? POLLWRNORM : 0), true);
  }

  /** Whether a socket can be read without waiting, or reading it tells why not. */
  isReadable(s: bigint): boolean {
    this.encode(this.#oneView, 0, s, true, false);
    return this.pollNow(this.#one, 1) > 0;
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
    closeAtEnd(handle, () => calls.close(handle));
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
