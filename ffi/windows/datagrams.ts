/**
 * Datagrams on Windows, through sockets of the library's own making and of others'.
 *
 * @module
 */
import type { AddressCodec } from "../addresses.ts";
import { PollReceiver } from "../datagrams.ts";
import { openLibrary } from "../library.ts";
import type { SocketCalls } from "../socket_calls.ts";
import { WinsockError } from "../winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { SYSTEM32 } from "./system32.ts";
import { lastWinsockError, ws2_32 } from "./ws2_32.ts";

const POLLRDNORM = 0x0100;
/** A datagram that is to wake a thread may be lost like any other: the thread looks by itself this often. */
const WAIT_SLICE_MS = 1_000;
const POLLFD_SIZE = 16;
/**
 * What hosts answered to earlier datagrams, told once: no port there (WSAECONNRESET), or too far away (WSAENETRESET).
 * On an unconnected socket that says nothing about the datagrams to come.
 */
const ANSWERS: readonly number[] = [WSA_ERRORS.WSAECONNRESET, WSA_ERRORS.WSAENETRESET];

/** Apart from the rest of ws2_32, since each function takes its time to bind and most processes need none of these. */
const SYMBOLS = {
  /** `int sendto(SOCKET s, const char *buf, int len, int flags, const struct sockaddr *to, int tolen)` */
  sendto: { parameters: ["usize", "buffer", "i32", "i32", "buffer", "i32"], result: "i32" },
  /** `int recvfrom(SOCKET s, char *buf, int len, int flags, struct sockaddr *from, int *fromlen)` */
  recvfrom: { parameters: ["usize", "buffer", "i32", "i32", "buffer", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

function functions(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  ws2_32();
  return symbols ??= openLibrary([`${SYSTEM32}\\ws2_32.dll`], SYMBOLS);
}

/**
 * Sends one datagram without waiting, on a non-blocking socket.
 *
 * @param operation What is being done, for the error.
 * @returns The bytes sent, or `undefined` if there is no room at the moment.
 */
export function sendNow(
  s: bigint,
  data: Uint8Array<ArrayBuffer>,
  name: Uint8Array<ArrayBuffer>,
  operation: string,
): number | undefined {
  const { sendto } = functions();
  const sent = sendto(s, data, data.byteLength, 0, name, name.byteLength);
  if (sent !== -1) return sent;
  const error = lastWinsockError(operation, "sendto");
  if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
  throw error;
}

/** `WSAPOLLFD`s: each socket with the events wanted of it. */
export function pollfds(events: number, ...sockets: bigint[]): Uint8Array<ArrayBuffer> {
  const fds = new Uint8Array(POLLFD_SIZE * sockets.length);
  const view = new DataView(fds.buffer);
  sockets.forEach((s, index) => {
    view.setBigUint64(index * POLLFD_SIZE, s, true);
    view.setInt16(index * POLLFD_SIZE + 8, events, true);
  });
  return fds;
}

/** `recvfrom`, and `WSAPoll` on a pool thread. */
export class WinsockReceiver extends PollReceiver {
  readonly #calls: SocketCalls;
  /** Closing a socket wakes nobody who polls it: a socket that sends to itself does. */
  #waker: bigint | undefined;

  /** @param s A non-blocking socket. */
  constructor(s: bigint, addresses: AddressCodec, calls: SocketCalls) {
    functions();
    super(s, addresses);
    this.#calls = calls;
  }

  protected receiveNow(
    buffer: Uint8Array<ArrayBuffer>,
    name: Uint8Array<ArrayBuffer>,
    nameLength: Int32Array<ArrayBuffer>,
  ): number | undefined {
    const { recvfrom } = functions();
    for (;;) {
      const received = recvfrom(this.s, buffer, buffer.byteLength, 0, name, nameLength);
      if (received !== -1) return received;
      const error = lastWinsockError(`receive on socket ${this.s}`, "recvfrom");
      if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
      // The buffer is full, and the rest of the datagram is lost; elsewhere that is no error either.
      if (error.code === WSA_ERRORS.WSAEMSGSIZE) return buffer.byteLength;
      if (!ANSWERS.includes(error.code)) throw error;
    }
  }

  protected async wait(): Promise<void> {
    this.#waker ??= this.#openWaker();
    const ready = await ws2_32().WSAPoll(pollfds(POLLRDNORM, this.s, this.#waker), 2, WAIT_SLICE_MS);
    if (ready === -1) this.#fail();
  }

  /** Should this fail, the thread looks by itself before long. */
  protected wake(): void {
    if (this.#waker !== undefined) functions().sendto(this.#waker, new Uint8Array(1), 1, 0, null, 0);
  }

  protected dispose(): void {
    if (this.#waker !== undefined) this.#calls.close(this.#waker);
    this.#waker = undefined;
  }

  /** Connected to itself, so that nobody else can send to it. */
  #openWaker(): bigint {
    const s = this.#calls.bindDatagram({ hostname: "127.0.0.1", port: 0 }, false);
    try {
      this.#calls.unblock(s);
      const name = this.addresses.encode(this.#calls.localAddress(s) as Deno.NetAddr);
      const connected = ws2_32().connect(s, name, name.byteLength);
      if (connected === -1) throw lastWinsockError("make a waker", "connect");
      return s;
    } catch (error) {
      this.#calls.close(s);
      throw error;
    }
  }

  /** The code stayed with the pool thread: the socket itself tells, unless it was closed meanwhile. */
  #fail(): never {
    const operation = `receive on socket ${this.s}`;
    this.#calls.kind(this.s, operation);
    throw new WinsockError(WSA_ERRORS.WSASYSCALLFAILURE, { operation, functionName: "WSAPoll" });
  }
}
