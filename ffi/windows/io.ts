/**
 * Input and output on Windows: `WSAPoll`, streams, datagrams and pipes.
 *
 * @module
 */
import type { PollSystem, PollWaker } from "../poll_table.ts";
import { INVALID_SOCKET, type SocketCalls } from "../platform.ts";
import { callAtUnload, closeAtEnd, referenceCall } from "../../internal/runtime.ts";
import { WinsockError } from "../winsock_error.ts";
import {
  closeHandle,
  CURRENT_PROCESS,
  FILE_TYPE_PIPE,
  GENERIC_READ,
  handleFunctions,
  type HandleReceiver,
  kernel32,
  kernel32Functions,
  lastWinsockError,
  SYNCHRONIZE,
  WAIT_FAILED,
  WAIT_OBJECT_0,
  winsockFunctions,
  ws2_32,
} from "./libraries.ts";
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

/** The entry of one socket, shared by all calls: only one call uses it at a time. */
const oneEntry = new DataView(new ArrayBuffer(POLLFD_SIZE));
oneEntry.setInt32(8, POLLRDNORM, true);

/**
 * Polls one socket for data to read or a connection to accept, without waiting.
 *
 * @returns 1 if there is some or the socket has failed, 0 if not, or -1 if the call fails.
 */
export function pollReadable(s: bigint): number {
  oneEntry.setBigUint64(0, s, true);
  return pollFunctions().WSAPoll(oneEntry, 1, 0);
}

/** Returns whether reading a socket will not block, or will report an error. */
function isReadable(s: bigint, operation: () => string): boolean {
  const ready = pollReadable(s);
  if (ready === -1) throw lastWinsockError(operation(), "WSAPoll");
  return ready === 1;
}

/** `WSAPoll`. */
export class WinsockPoll implements PollSystem {
  readonly size: number = POLLFD_SIZE;
  readonly readable: number = POLLRDNORM | POLLHUP | FAILED;
  /** Does not include POLLHUP: after the peer has ended its side, there may or may not be room to send. */
  readonly writable: number = POLLWRNORM | FAILED;
  readonly ended: number = POLLHUP;

  constructor(readonly calls: SocketCalls) {}

  encode(view: DataView, offset: number, s: bigint, read: boolean, write: boolean): void {
    view.setBigUint64(offset, s, true);
    view.setInt32(offset + 8, (read ? POLLRDNORM : 0) | (write ? POLLWRNORM : 0), true);
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
      wake: () => void sendOwn(handle, byte),
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

const FIONBIO = 0x8004667e | 0;
const [OFF, ON] = [new Uint32Array([0]), new Uint32Array([1])];

/**
 * Makes a socket blocking or non-blocking (`ioctlsocket` with FIONBIO), for every process that shares it.
 *
 * @returns 0, or -1 if the call fails.
 */
export function setBlocking(s: bigint, blocking: boolean): number {
  return ws2_32().ioctlsocket(s, FIONBIO, blocking ? OFF : ON);
}

/**
 * Calls `recv` if that does not wait. Returns `undefined` if no data is available. The socket may be blocking: either it
 * was never made non-blocking, or another process that shares it has made it blocking.
 *
 * @param operation Returns the operation, for the error.
 */
export function tryRecv(
  s: bigint,
  buffer: Uint8Array<ArrayBuffer>,
  flags: number,
  operation: () => string,
): number | undefined {
  if (s !== INVALID_SOCKET && !isReadable(s, operation)) return undefined;
  const count = ws2_32().recv(s, buffer, buffer.byteLength, flags);
  if (count !== -1) return count;
  const error = lastWinsockError(operation(), "recv");
  if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
  throw error;
}

/**
 * Calls `send` on a non-blocking socket that no other process uses. Returns the number of bytes sent, or `undefined` if
 * there is no room.
 */
export function sendOwn(s: bigint, bytes: Uint8Array<ArrayBuffer>): number | undefined {
  const count = streamFunctions().send(s, bytes, bytes.byteLength, 0);
  if (count !== -1) return count;
  const error = lastWinsockError(`send on socket ${s}`, "send");
  if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
  throw error;
}

/** Stream calls. Another process that shares a socket may have made it blocking. */
export const WINSOCK_STREAMS: StreamCalls = {
  receive: (s, buffer) => tryRecv(s, buffer, 0, () => `receive on socket ${s}`),

  send(s, bytes) {
    // Polling is not enough: a blocking send waits until there was room for all bytes. If this fails, so does sending.
    setBlocking(s, false);
    return sendOwn(s, bytes);
  },

  endSending(s) {
    const result = streamFunctions().shutdown(s, SD.sending);
    if (result === -1) throw lastWinsockError(`shut down socket ${s}`, "shutdown");
  },

  close(s) {
    const result = ws2_32().closesocket(s);
    if (result !== -1) return;
    const error = lastWinsockError(`close socket ${s}`, "closesocket");
    if (error.code !== WSA_ERRORS.WSAEWOULDBLOCK) throw error;
    setBlocking(s, true);
    return closeElsewhere(s, false);
  },
};

/** Shuts down both sides of a connection, if it still exists. */
export function shutDown(s: bigint): void {
  streamFunctions().shutdown(s, SD.both);
}

/** How often closing is tried. A process that shares the socket may make it linger again between the attempts. */
const CLOSE_ATTEMPTS = 100;
export const SOL_SOCKET = 0xffff;
const SO_LINGER = 0x0080;
const NO_LINGER = new Uint16Array(2);

/**
 * Makes a socket not linger (`SO_LINGER` off) that `closesocket` has left open because it is non-blocking. Making it
 * blocking instead would block the calls of a process that shares it.
 *
 * @returns Whether the socket exists.
 */
function stopLingering(s: bigint): boolean {
  return ws2_32().setsockopt(s, SOL_SOCKET, SO_LINGER, NO_LINGER, NO_LINGER.byteLength) === 0;
}

/**
 * Closes a socket on a pool thread, because `closesocket` waits for a blocking socket that lingers (`SO_LINGER`). A
 * non-blocking one is closed without lingering.
 *
 * @param s The socket. Its number must not be used any more.
 * @param end Whether both sides are shut down first.
 */
export async function closeElsewhere(s: bigint, end: boolean): Promise<void> {
  if (end) await streamFunctions().shutdownElsewhere(s, SD.both);
  for (let attempt = 0; attempt < CLOSE_ATTEMPTS; attempt++) {
    const result = await streamFunctions().closeElsewhere(s);
    if (result !== -1 || !stopLingering(s)) return;
  }
}

/**
 * Closes a socket. If it lingers and another process has made it non-blocking, it is closed without lingering.
 *
 * @returns 0, or -1 if the call fails.
 */
export function closeSocket(s: bigint): number {
  const result = ws2_32().closesocket(s);
  if (result !== -1 || ws2_32().WSAGetLastError() !== WSA_ERRORS.WSAEWOULDBLOCK) return result;
  stopLingering(s);
  return ws2_32().closesocket(s);
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
 * Sends one datagram without waiting. Another process that shares the socket may have made it blocking.
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
  // If this fails, so does sending.
  setBlocking(s, false);
  const sent = sendto(s, data, data.byteLength, 0, name, name.byteLength);
  if (sent !== -1) return sent;
  const error = lastWinsockError(operation, "sendto");
  if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
  throw error;
}

/** Calls `recvfrom` if that does not wait. Another process that shares the socket may have made it blocking. */
export const tryReceive: TryReceive = (s, buffer, name, nameLength) => {
  const { recvfrom } = datagramFunctions();
  const operation = () => `receive on socket ${s}`;
  for (;;) {
    if (!isReadable(s, operation)) return undefined;
    // Polling is not enough: another process may receive the datagram first. If this fails, so does receiving.
    setBlocking(s, false);
    const received = recvfrom(s, buffer, buffer.byteLength, 0, name, nameLength);
    if (received !== -1) return received;
    const error = lastWinsockError(operation(), "recvfrom");
    if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
    // The buffer is full, and the rest of the datagram is lost. This is not an error on other systems either.
    if (error.code === WSA_ERRORS.WSAEMSGSIZE) return buffer.byteLength;
    if (!ANSWERS.includes(error.code)) throw error;
  }
};

const EVENT_MODIFY_STATE = 0x0002;
const INFINITE = 0xffff_ffff;
/** The size of a pipe in bytes. */
const PIPE_SIZE = 65_536;
/** The largest write in bytes. It fits into an empty pipe, so that it ends, and the reader is told of it. */
const WRITE_SIZE = 16_384;
const COUNT_SIZE = 4;

const pipeFunctions = kernel32Functions({
  /** `BOOL CreatePipe(PHANDLE hReadPipe, PHANDLE hWritePipe, LPSECURITY_ATTRIBUTES lpPipeAttributes, DWORD nSize)` */
  CreatePipe: { parameters: ["buffer", "buffer", "usize", "u32"], result: "i32" },
  /** `DWORD WaitForMultipleObjects(DWORD nCount, const HANDLE *lpHandles, BOOL bWaitAll, DWORD dwMilliseconds)` on a pool thread */
  WaitForMultipleObjects: { parameters: ["u32", "usize", "i32", "u32"], result: "u32", nonblocking: true },
  /** `BOOL WriteFile(HANDLE hFile, LPCVOID lpBuffer, DWORD nNumberOfBytesToWrite, LPDWORD lpNumberOfBytesWritten, LPOVERLAPPED lpOverlapped)` on a pool thread */
  WriteFile: { parameters: ["usize", "usize", "u32", "usize", "usize"], result: "i32", nonblocking: true },
  /** `HLOCAL LocalAlloc(UINT uFlags, SIZE_T uBytes)` */
  LocalAlloc: { parameters: ["u32", "usize"], result: "usize" },
  /** `HLOCAL LocalFree(HLOCAL hMem)` */
  LocalFree: { parameters: ["usize"], result: "usize" },
  /** `VOID RtlMoveMemory(VOID *Destination, const VOID *Source, SIZE_T Length)` into memory of the system */
  copyIn: { name: "RtlMoveMemory", parameters: ["usize", "buffer", "usize"], result: "void" },
  /** `VOID RtlMoveMemory(VOID *Destination, const VOID *Source, SIZE_T Length)` out of memory of the system */
  copyOut: { name: "RtlMoveMemory", parameters: ["buffer", "usize", "usize"], result: "void" },
});

/**
 * The handles of the reading process: the pipe, an event that the writer sets after each write, and the writer's
 * process. The reader waits for the event and for the end of the process, and then reads what there is.
 *
 * A thread does not wait in `ReadFile`, because that would have to be cancelled, and because under load Wine lets a
 * waiting `ReadFile` fail (STATUS_ALERTED) and loses the bytes.
 */
export type PipeHandles = readonly [pipe: bigint, event: bigint, process: bigint];

/** A pipe to another process. */
export class OutgoingPipe {
  /** The handles in the other process. Programs that it starts do not inherit them. */
  readonly farHandles: PipeHandles;
  readonly #pipe: bigint;
  readonly #event: bigint;
  /** Not JavaScript's memory, because a thread may use it after this isolate has ended. */
  readonly #memory: bigint;
  readonly #leave: () => void;
  #last: Promise<void> = Promise.resolve();
  #writing = false;
  #closed = false;

  /** @throws {WinsockError} If the system has no room, or the other process does not accept handles. */
  constructor(receiver: HandleReceiver) {
    const [read, write] = [new BigUint64Array(1), new BigUint64Array(1)];
    const made = pipeFunctions().CreatePipe(read, write, 0n, PIPE_SIZE);
    if (made === 0) throw lastWinsockError("make a pipe", "CreatePipe");
    this.#pipe = write[0]!;
    this.#event = handleFunctions().CreateEventW(0n, 0, 0, 0n);
    this.#memory = pipeFunctions().LocalAlloc(0, BigInt(WRITE_SIZE + COUNT_SIZE));
    try {
      if (this.#event === 0n || this.#memory === 0n) throw lastWinsockError("make a pipe", "CreateEventW");
      this.farHandles = [
        receiver.give(read[0]!, GENERIC_READ),
        receiver.give(this.#event, SYNCHRONIZE | EVENT_MODIFY_STATE),
        receiver.give(CURRENT_PROCESS, SYNCHRONIZE),
      ];
    } catch (error) {
      this.#free();
      throw error;
    } finally {
      closeHandle(read[0]!);
    }
    this.#leave = callAtUnload(this, () => this.close());
  }

  /**
   * Writes bytes after those written before. Waiting does not keep the process running.
   *
   * @throws {WinsockError} WSAECONNRESET if the other process has closed its end, or this end is closed.
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.#last = this.#last.then(async () => {
      for (let start = 0; start < bytes.byteLength;) start += await this.#writeSome(bytes.subarray(start));
    });
  }

  /** Ends the pipe after what was written. */
  async end(): Promise<void> {
    await this.#last.catch(() => {});
    this.close();
  }

  /** Ends the pipe at once, or after the write that a thread is in. The other end can still read what was written. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#leave();
    this.#last.catch(() => {});
    if (!this.#writing) this.#free();
    else kernel32().CancelIoEx(this.#pipe, 0n);
  }

  async #writeSome(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
    if (this.#closed) throw pipeClosed();
    const { WriteFile, copyIn, copyOut } = pipeFunctions();
    const size = Math.min(bytes.byteLength, WRITE_SIZE);
    const count = this.#memory + BigInt(WRITE_SIZE);
    copyIn(this.#memory, bytes, BigInt(size));
    this.#writing = true;
    const written = WriteFile(this.#pipe, this.#memory, size, count, 0n);
    referenceCall(written, false);
    const succeeded = await written;
    this.#writing = false;
    if (succeeded !== 0) handleFunctions().SetEvent(this.#event);
    if (this.#closed) this.#free();
    if (this.#closed || succeeded === 0) throw pipeClosed();
    const transferred = new Uint32Array(1);
    copyOut(transferred, count, BigInt(COUNT_SIZE));
    return transferred[0]!;
  }

  /** Closes the pipe first: the event then shows the reader its end. */
  #free(): void {
    closeHandle(this.#pipe);
    if (this.#event !== 0n) {
      handleFunctions().SetEvent(this.#event);
      closeHandle(this.#event);
    }
    pipeFunctions().LocalFree(this.#memory);
  }
}

function pipeClosed(): WinsockError {
  return new WinsockError(WSA_ERRORS.WSAECONNRESET, { operation: "write to a pipe", functionName: "WriteFile" });
}

/** The end of a pipe that another process writes to. */
export class IncomingPipe {
  readonly #handles: PipeHandles;
  /** The handles to wait for, in memory that a thread may use after this isolate has ended. */
  readonly #waitable: bigint;
  readonly #leave: () => void;
  #waiting: Promise<number> | undefined;
  /** Whether the writer's process has ended, so that the event will not be set again. */
  #alone = false;
  #referenced = true;
  #closed = false;

  /**
   * @param handles The handles that the other process has made, which belong to this object.
   * @throws {RangeError} If the first is not a pipe.
   * @throws {WinsockError} If the system has no memory.
   */
  constructor(handles: PipeHandles) {
    const [pipe, ...others] = handles;
    const { LocalAlloc, copyIn } = pipeFunctions();
    if (handleFunctions().GetFileType(pipe) !== FILE_TYPE_PIPE) {
      throw new RangeError(`Cannot read from handle ${pipe}: it is not a pipe`);
    }
    this.#handles = handles;
    const waitable = new BigUint64Array(others);
    this.#waitable = LocalAlloc(0, BigInt(waitable.byteLength));
    if (this.#waitable === 0n) throw lastWinsockError("use a pipe", "LocalAlloc");
    copyIn(this.#waitable, waitable, BigInt(waitable.byteLength));
    this.#leave = callAtUnload(this, () => this.close());
  }

  /**
   * Reads what there is, but waits for the first byte.
   *
   * @returns The bytes, which belong to the caller; `undefined` at the end, or when this end is closed.
   * @throws {WinsockError} If the handles cannot be used.
   */
  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    while (!this.#closed) {
      const bytes = this.#readAvailable();
      if (bytes !== undefined) return bytes ?? undefined;
      if (this.#alone) return undefined;
      await this.#wait();
    }
    return undefined;
  }

  /** Sets whether a pending read keeps the process running. It does at first. */
  setReferenced(referenced: boolean): void {
    this.#referenced = referenced;
    if (this.#waiting !== undefined) referenceCall(this.#waiting, referenced);
  }

  /** Ends a pending read, and closes the handles. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#leave();
    if (this.#waiting === undefined) return this.#free();
    this.setReferenced(false);
    handleFunctions().SetEvent(this.#handles[1]);
  }

  /** Reads what is in the pipe; `undefined` if it is empty, `null` at its end. */
  #readAvailable(): Uint8Array<ArrayBuffer> | null | undefined {
    const { PeekNamedPipe, ReadFile } = handleFunctions();
    const count = new Uint32Array(1);
    const [pipe] = this.#handles;
    if (PeekNamedPipe(pipe, 0n, 0, 0n, count, 0n) === 0) return null;
    const [available] = count;
    if (available === 0) return undefined;
    const bytes = new Uint8Array(available!);
    const succeeded = ReadFile(pipe, bytes, bytes.byteLength, count, 0n);
    if (succeeded === 0) throw lastWinsockError("read from a pipe", "ReadFile");
    return bytes.subarray(0, count[0]);
  }

  async #wait(): Promise<void> {
    this.#waiting = pipeFunctions().WaitForMultipleObjects(this.#handles.length - 1, this.#waitable, 0, INFINITE);
    if (!this.#referenced) referenceCall(this.#waiting, false);
    const result = await this.#waiting;
    this.#waiting = undefined;
    if (this.#closed) return this.#free();
    if (result === WAIT_FAILED) {
      throw new WinsockError(WSA_ERRORS.WSA_INVALID_HANDLE, {
        operation: "wait for a pipe",
        functionName: "WaitForMultipleObjects",
      });
    }
    this.#alone = result !== WAIT_OBJECT_0;
  }

  #free(): void {
    for (const handle of this.#handles) closeHandle(handle);
    pipeFunctions().LocalFree(this.#waitable);
  }
}
