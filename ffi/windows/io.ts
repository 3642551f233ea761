/**
 * Input and output on Windows: `WSAPoll`, streams and datagrams.
 *
 * @module
 */
import type { PollSystem, PollWaker } from "../poll_table.ts";
import type { SocketCalls } from "../platform.ts";
import { closeAtEnd } from "../../internal/runtime.ts";
import { lastWinsockError, winsockFunctions, ws2_32 } from "./libraries.ts";
import type { StreamCalls, TryReceive } from "../nonblocking_io.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";

/** Data can be read, or a connection accepted. */
const POLLRDNORM = 0x0100;
/** There is room to write, or a connect has finished. */
const POLLWRNORM = 0x0010;
/** `POLLERR`, `POLLNVAL`. */
const FAILED = 0x0001 | 0x0004;
const POLLHUP = 0x0002;
const POLLFD_SIZE = 16;

const pollFunctions = winsockFunctions({
  /** `int WSAPoll(LPWSAPOLLFD fdArray, ULONG fds, INT timeout)` on the calling thread */
  WSAPoll: { parameters: ["buffer", "u32", "i32"], result: "i32" },
});

/** Polls one socket repeatedly, without waiting. */
export class PollProbe {
  readonly #fd = new Uint8Array(POLLFD_SIZE);

  /** @param s The socket, polled for data to read or a connection to accept. */
  constructor(s: bigint) {
    const view = new DataView(this.#fd.buffer);
    view.setBigUint64(0, s, true);
    view.setInt32(8, POLLRDNORM, true);
  }

  /** Returns whether the socket is ready. */
  ready(): boolean {
    return pollFunctions().WSAPoll(this.#fd, 1, 0) > 0;
  }
}

/** `WSAPoll`. */
export class WinsockPoll implements PollSystem {
  readonly size: number = POLLFD_SIZE;
  readonly readable: number = POLLRDNORM | POLLHUP | FAILED;
  /** Does not include POLLHUP: after the peer has ended its side, there may or may not be room to send. */
  readonly writable: number = POLLWRNORM | FAILED;
  readonly ended: number = POLLHUP;
  /** The entry of one socket, shared by all calls: only one call uses it at a time. */
  readonly #one = new Uint8Array(POLLFD_SIZE);
  readonly #oneView = new DataView(this.#one.buffer);

  constructor(readonly calls: SocketCalls) {}

  encode(view: DataView, offset: number, s: bigint, read: boolean, write: boolean): void {
    view.setBigUint64(offset, s, true);
    view.setInt32(offset + 8, (read ? POLLRDNORM : 0) | (write ? POLLWRNORM : 0), true);
  }

  /** Returns whether reading a socket will not block, or will report an error. */
  isReadable(s: bigint): boolean {
    this.encode(this.#oneView, 0, s, true, false);
    return this.pollSync(this.#one, 1) > 0;
  }

  revents(view: DataView, offset: number): number {
    return view.getInt16(offset + 10, true);
  }

  poll(fds: Uint8Array<ArrayBuffer>, count: number, timeout: number): Promise<number> {
    return ws2_32().WSAPoll(fds, count, timeout);
  }

  pollSync(fds: Uint8Array<ArrayBuffer>, count: number): number {
    const ready = pollFunctions().WSAPoll(fds, count, 0);
    if (ready === -1) throw lastWinsockError(`wait for ${count} sockets`, "WSAPoll");
    return ready;
  }

  /**
   * Makes a waker. Closing a socket does not end a poll of it, so the waker is a UDP socket that sends to itself and
   * receives from no other socket.
   */
  waker(): PollWaker {
    const { calls } = this;
    const handle = calls.bindDatagram({ hostname: "127.0.0.1", port: 0 });
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

const SD = { sending: 1, both: 2 } as const;

const streamFunctions = winsockFunctions({
  /** `int send(SOCKET s, const char *buf, int len, int flags)` */
  send: { parameters: ["usize", "buffer", "i32", "i32"], result: "i32" },
  /** `int shutdown(SOCKET s, int how)` */
  shutdown: { parameters: ["usize", "i32"], result: "i32" },
  /** `int shutdown(SOCKET s, int how)` on a pool thread */
  shutdownElsewhere: { name: "shutdown", parameters: ["usize", "i32"], result: "i32", nonblocking: true },
  /** `int closesocket(SOCKET s)` on a pool thread */
  closeElsewhere: { name: "closesocket", parameters: ["usize"], result: "i32", nonblocking: true },
});

/**
 * Calls `recv` on a socket that is non-blocking or readable. Returns `undefined` if no data is available.
 *
 * @param operation Returns the operation, for the error.
 */
export function tryRecv(
  s: bigint,
  buffer: Uint8Array<ArrayBuffer>,
  flags: number,
  operation: () => string,
): number | undefined {
  const count = ws2_32().recv(s, buffer, buffer.byteLength, flags);
  if (count !== -1) return count;
  const error = lastWinsockError(operation(), "recv");
  if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
  throw error;
}

/** Stream calls on non-blocking sockets. */
export const WINSOCK_STREAMS: StreamCalls = {
  receive: (s, buffer) => tryRecv(s, buffer, 0, () => `receive on socket ${s}`),

  send(s, bytes) {
    const count = streamFunctions().send(s, bytes, bytes.byteLength, 0);
    if (count !== -1) return count;
    const error = lastWinsockError(`send on socket ${s}`, "send");
    if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
    throw error;
  },

  endSending(s) {
    const result = streamFunctions().shutdown(s, SD.sending);
    if (result === -1) throw lastWinsockError(`shut down socket ${s}`, "shutdown");
  },

  close(s) {
    const result = ws2_32().closesocket(s);
    if (result === -1) throw lastWinsockError(`close socket ${s}`, "closesocket");
  },
};

/** Shuts down both sides of a connection, if it still exists. */
export function shutDown(s: bigint): void {
  streamFunctions().shutdown(s, SD.both);
}

/**
 * Closes a socket on a pool thread, because `closesocket` waits for a blocking socket that lingers (`SO_LINGER`).
 *
 * @param s The socket. Its number must not be used any more.
 * @param end Whether both sides are shut down first.
 */
export async function closeElsewhere(s: bigint, end: boolean): Promise<void> {
  if (end) await streamFunctions().shutdownElsewhere(s, SD.both);
  await streamFunctions().closeElsewhere(s);
}

/**
 * Errors that report the answer of a host to an earlier datagram, once: the port is closed (WSAECONNRESET), or the host
 * is too far away (WSAENETRESET). On an unconnected socket they say nothing about later datagrams.
 */
const ANSWERS: readonly number[] = [WSA_ERRORS.WSAECONNRESET, WSA_ERRORS.WSAENETRESET];

const datagramFunctions = winsockFunctions({
  /** `int sendto(SOCKET s, const char *buf, int len, int flags, const struct sockaddr *to, int tolen)` */
  sendto: { parameters: ["usize", "buffer", "i32", "i32", "buffer", "i32"], result: "i32" },
  /** `int recvfrom(SOCKET s, char *buf, int len, int flags, struct sockaddr *from, int *fromlen)` */
  recvfrom: { parameters: ["usize", "buffer", "i32", "i32", "buffer", "buffer"], result: "i32" },
});

/**
 * Sends one datagram without waiting, on a non-blocking socket.
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
  const sent = sendto(s, data, data.byteLength, 0, name, name.byteLength);
  if (sent !== -1) return sent;
  const error = lastWinsockError(operation, "sendto");
  if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
  throw error;
}

/** Calls `recvfrom` on a non-blocking socket. */
export const tryReceive: TryReceive = (s, buffer, name, nameLength) => {
  const { recvfrom } = datagramFunctions();
  for (;;) {
    const received = recvfrom(s, buffer, buffer.byteLength, 0, name, nameLength);
    if (received !== -1) return received;
    const error = lastWinsockError(`receive on socket ${s}`, "recvfrom");
    if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
    // The buffer is full, and the rest of the datagram is lost. This is not an error on other systems either.
    if (error.code === WSA_ERRORS.WSAEMSGSIZE) return buffer.byteLength;
    if (!ANSWERS.includes(error.code)) throw error;
  }
};
