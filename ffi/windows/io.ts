/**
 * Input and output on Windows: `WSAPoll`, streams and datagrams.
 *
 * @module
 */
import type { PollSystem, PollWaker } from "../poll_table.ts";
import type { SocketCalls } from "../platform.ts";
import { closeAtEnd } from "../../internal/unload.ts";
import { lastWinsockError, winsockFunctions, ws2_32 } from "./libraries.ts";
import type { StreamCalls, TryReceive } from "../nonblocking_io.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";

/** Something to read or accept. */
const POLLRDNORM = 0x0100;
/** Room to write, or a finished connect. */
const POLLWRNORM = 0x0010;
/** `POLLERR`, `POLLNVAL`. */
const FAILED = 0x0001 | 0x0004;
const POLLHUP = 0x0002;
const POLLFD_SIZE = 16;

const pollFunctions = winsockFunctions({
  /** `int WSAPoll(LPWSAPOLLFD fdArray, ULONG fds, INT timeout)` on the calling thread */
  WSAPoll: { parameters: ["buffer", "u32", "i32"], result: "i32" },
});

/** Looks at one socket again and again, without waiting. */
export class PollProbe {
  readonly #fd = new Uint8Array(POLLFD_SIZE);

  /** @param s The socket, which is looked at for something to read or accept. */
  constructor(s: bigint) {
    const view = new DataView(this.#fd.buffer);
    view.setBigUint64(0, s, true);
    view.setInt32(8, POLLRDNORM, true);
  }

  /** Whether it is ready. */
  ready(): boolean {
    return pollFunctions().WSAPoll(this.#fd, 1, 0) > 0;
  }
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

  /** Closing a socket wakes nobody who polls it: a UDP socket that sends to itself, and to which nobody else can, does. */
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
  /** The same on a pool thread */
  shutdownElsewhere: { name: "shutdown", parameters: ["usize", "i32"], result: "i32", nonblocking: true },
  /** `int closesocket(SOCKET s)` on a pool thread */
  closeElsewhere: { name: "closesocket", parameters: ["usize"], result: "i32", nonblocking: true },
});

/**
 * `recv` on a socket that is non-blocking or readable; `undefined` if nothing is there.
 *
 * @param operation What an error says that cannot be done.
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

/** On non-blocking sockets. */
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

/** Shuts both sides of a connection down, if there still is one. */
export function shutDown(s: bigint): void {
  streamFunctions().shutdown(s, SD.both);
}

/**
 * Closes a socket on a pool thread: `closesocket` of one that lingers (`SO_LINGER`) and blocks waits.
 *
 * @param s The socket. Its number must not be used any more.
 * @param end Whether both sides are shut down first.
 */
export async function closeElsewhere(s: bigint, end: boolean): Promise<void> {
  if (end) await streamFunctions().shutdownElsewhere(s, SD.both);
  await streamFunctions().closeElsewhere(s);
}

/**
 * What hosts answered to earlier datagrams, told once: no port there (WSAECONNRESET), or too far away (WSAENETRESET).
 * On an unconnected socket that says nothing about the datagrams to come.
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
 * @param operation What is being done, for the error.
 * @returns The bytes sent, or `undefined` if there is no room at the moment.
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

/** `recvfrom`, on a non-blocking socket. */
export const tryReceive: TryReceive = (s, buffer, name, nameLength) => {
  const { recvfrom } = datagramFunctions();
  for (;;) {
    const received = recvfrom(s, buffer, buffer.byteLength, 0, name, nameLength);
    if (received !== -1) return received;
    const error = lastWinsockError(`receive on socket ${s}`, "recvfrom");
    if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
    // The buffer is full, and the rest of the datagram is lost; elsewhere that is no error either.
    if (error.code === WSA_ERRORS.WSAEMSGSIZE) return buffer.byteLength;
    if (!ANSWERS.includes(error.code)) throw error;
  }
};
