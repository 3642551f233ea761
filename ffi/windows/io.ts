/**
 * Input and output on Windows: `WSAPoll`, streams, datagrams and pipes.
 *
 * @module
 */
import type { PollSystem, PollWaker } from "../poll_table.ts";
import type { SocketCalls } from "../platform.ts";
import { callAtUnload, closeAtEnd, referenceCall } from "../../internal/runtime.ts";
import { WinsockError } from "../winsock_error.ts";
import {
  closeHandle,
  type HandleReceiver,
  kernel32,
  kernel32Functions,
  lastWinsockError,
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

const FILE_TYPE_PIPE = 3;
/** The right to read, and to wait for the end of a read. */
const GENERIC_READ = 0x8000_0000;
/** The size of a pipe, and of a read or write, in bytes. */
const PIPE_SIZE = 65_536;
const COUNT_SIZE = 4;
/** How often, and for how many times, a thread is told to leave a call that it may not have reached yet. */
const [CANCEL_INTERVAL_MS, CANCEL_ATTEMPTS] = [10, 100];

const pipeFunctions = kernel32Functions({
  /** `BOOL CreatePipe(PHANDLE hReadPipe, PHANDLE hWritePipe, LPSECURITY_ATTRIBUTES lpPipeAttributes, DWORD nSize)` */
  CreatePipe: { parameters: ["buffer", "buffer", "usize", "u32"], result: "i32" },
  /** `BOOL ReadFile(HANDLE hFile, LPVOID lpBuffer, DWORD nNumberOfBytesToRead, LPDWORD lpNumberOfBytesRead, LPOVERLAPPED lpOverlapped)` on a pool thread */
  ReadFile: { parameters: ["usize", "usize", "u32", "usize", "usize"], result: "i32", nonblocking: true },
  /** `BOOL WriteFile(HANDLE hFile, LPCVOID lpBuffer, DWORD nNumberOfBytesToWrite, LPDWORD lpNumberOfBytesWritten, LPOVERLAPPED lpOverlapped)` on a pool thread */
  WriteFile: { parameters: ["usize", "usize", "u32", "usize", "usize"], result: "i32", nonblocking: true },
  /** `BOOL PeekNamedPipe(HANDLE hNamedPipe, LPVOID lpBuffer, DWORD nBufferSize, LPDWORD lpBytesRead, LPDWORD lpTotalBytesAvail, LPDWORD lpBytesLeftThisMessage)` */
  PeekNamedPipe: { parameters: ["usize", "usize", "u32", "usize", "usize", "usize"], result: "i32" },
  /** `DWORD GetFileType(HANDLE hFile)` */
  GetFileType: { parameters: ["usize"], result: "u32" },
  /** `HLOCAL LocalAlloc(UINT uFlags, SIZE_T uBytes)` */
  LocalAlloc: { parameters: ["u32", "usize"], result: "usize" },
  /** `HLOCAL LocalFree(HLOCAL hMem)` */
  LocalFree: { parameters: ["usize"], result: "usize" },
  /** `VOID RtlMoveMemory(VOID *Destination, const VOID *Source, SIZE_T Length)` out of memory of the system */
  copyOut: { name: "RtlMoveMemory", parameters: ["buffer", "usize", "usize"], result: "void" },
  /** `VOID RtlMoveMemory(VOID *Destination, const VOID *Source, SIZE_T Length)` into memory of the system */
  copyIn: { name: "RtlMoveMemory", parameters: ["usize", "buffer", "usize"], result: "void" },
});

/**
 * One end of a pipe, which a pool thread reads or writes. It is not for two calls at a time. The memory is not
 * JavaScript's, because a thread may use it after this isolate has ended.
 */
class PipeEnd {
  readonly #handle: bigint;
  readonly #memory: bigint;
  readonly #leave: () => void;
  #pending: Promise<number> | undefined;
  #referenced = true;
  #closed = false;

  /**
   * @param handle The handle, which belongs to this object.
   * @throws {WinsockError} If the system has no memory. The handle is then closed.
   */
  constructor(handle: bigint) {
    this.#handle = handle;
    this.#memory = pipeFunctions().LocalAlloc(0, BigInt(PIPE_SIZE + COUNT_SIZE));
    if (this.#memory === 0n) {
      const error = lastWinsockError("use a pipe", "LocalAlloc");
      closeHandle(handle);
      throw error;
    }
    this.#leave = callAtUnload(this, () => void this.close());
  }

  /**
   * Reads what there is, but waits for the first byte.
   *
   * @returns The bytes, which belong to the caller; `undefined` at the end, or when this end is closed.
   * @throws {WinsockError} WSASYSCALLFAILURE if the read failed and the other end is open. Bytes may be lost then. Wine
   * does this under load: `NtReadFile` returns STATUS_ALERTED.
   */
  async read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    for (;;) {
      const bytes = await this.#transfer("ReadFile", PIPE_SIZE, (count) => {
        const read = new Uint8Array(count);
        pipeFunctions().copyOut(read, this.#memory, BigInt(count));
        return read;
      });
      if (bytes === undefined && !this.#closed) this.#assertEnded();
      // A write without bytes is not the end.
      if (bytes?.byteLength !== 0) return bytes;
    }
  }

  /**
   * Writes bytes, and waits for room.
   *
   * @returns The number of bytes that were written; `undefined` if either end is closed.
   */
  async write(bytes: Uint8Array<ArrayBuffer>): Promise<number | undefined> {
    if (this.#closed) return undefined;
    const size = Math.min(bytes.byteLength, PIPE_SIZE);
    pipeFunctions().copyIn(this.#memory, bytes, BigInt(size));
    return await this.#transfer("WriteFile", size, (count) => count);
  }

  async #transfer<T>(call: "ReadFile" | "WriteFile", size: number, done: (count: number) => T): Promise<T | undefined> {
    if (this.#closed) return undefined;
    const count = this.#memory + BigInt(PIPE_SIZE);
    this.#pending = pipeFunctions()[call](this.#handle, this.#memory, size, count, 0n);
    if (!this.#referenced) referenceCall(this.#pending, false);
    const succeeded = await this.#pending;
    this.#pending = undefined;
    if (this.#closed) {
      this.#free();
      return undefined;
    }
    if (succeeded === 0) return undefined;
    const transferred = new Uint32Array(1);
    pipeFunctions().copyOut(transferred, count, BigInt(COUNT_SIZE));
    return done(transferred[0]!);
  }

  #assertEnded(): void {
    if (pipeFunctions().PeekNamedPipe(this.#handle, 0n, 0, 0n, 0n, 0n) === 0) return;
    throw new WinsockError(WSA_ERRORS.WSASYSCALLFAILURE, {
      operation: "read from a pipe",
      functionName: "ReadFile",
      detail: "the pipe is open, and bytes may be lost",
    });
  }

  set referenced(referenced: boolean) {
    this.#referenced = referenced;
    if (this.#pending !== undefined) referenceCall(this.#pending, referenced);
  }

  /** Closes the handle, when no thread uses it any more. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#leave();
    if (this.#pending === undefined) return this.#free();
    this.referenced = false;
    for (let attempt = 0; attempt < CANCEL_ATTEMPTS && this.#pending !== undefined; attempt++) {
      if (kernel32().CancelIoEx(this.#handle, 0n) !== 0) return;
      await new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, CANCEL_INTERVAL_MS)));
    }
    // Then the thread leaves the call when the other end is closed.
  }

  #free(): void {
    closeHandle(this.#handle);
    pipeFunctions().LocalFree(this.#memory);
  }
}

/** A pipe to another process. */
export class OutgoingPipe {
  /** The handle of the other end, in that process. Programs that it starts do not inherit it. */
  readonly farHandle: bigint;
  readonly #end: PipeEnd;
  #last: Promise<void> = Promise.resolve();

  /** @throws {WinsockError} If the system has no room, or the other process has ended. */
  constructor(receiver: HandleReceiver) {
    const [read, write] = [new BigUint64Array(1), new BigUint64Array(1)];
    const made = pipeFunctions().CreatePipe(read, write, 0n, PIPE_SIZE);
    if (made === 0) throw lastWinsockError("make a pipe", "CreatePipe");
    try {
      this.farHandle = receiver.give(read[0]!, GENERIC_READ);
    } catch (error) {
      closeHandle(write[0]!);
      throw error;
    } finally {
      closeHandle(read[0]!);
    }
    this.#end = new PipeEnd(write[0]!);
    this.#end.referenced = false;
  }

  /**
   * Writes bytes after those written before. Waiting does not keep the process running.
   *
   * @throws {WinsockError} WSAECONNRESET if the other process has closed its end, or this end is closed.
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.#last = this.#last.then(async () => {
      for (let start = 0; start < bytes.byteLength;) {
        const count = await this.#end.write(bytes.subarray(start));
        if (count === undefined) {
          throw new WinsockError(WSA_ERRORS.WSAECONNRESET, { operation: "write to a pipe", functionName: "WriteFile" });
        }
        start += count;
      }
    });
  }

  /** Ends the pipe after what was written. */
  async end(): Promise<void> {
    await this.#last.catch(() => {});
    await this.#end.close();
  }

  /** Ends the pipe at once. What the other end has not read can still be read there. */
  close(): void {
    this.#last.catch(() => {});
    this.#end.close();
  }
}

/** The end of a pipe that another process writes to. */
export class IncomingPipe {
  readonly #end: PipeEnd;

  /**
   * @param handle The handle that the other process has made, which belongs to this object.
   * @throws {RangeError} If it is not a pipe.
   */
  constructor(handle: bigint) {
    const type = pipeFunctions().GetFileType(handle);
    if (type !== FILE_TYPE_PIPE) throw new RangeError(`Cannot read from handle ${handle}: it is not a pipe`);
    this.#end = new PipeEnd(handle);
  }

  /** Returns the next bytes, which belong to the caller; `undefined` at the end. */
  read(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.#end.read();
  }

  /** Sets whether a pending read keeps the process running. It does at first. */
  setReferenced(referenced: boolean): void {
    this.#end.referenced = referenced;
  }

  /** Ends a pending read, and closes the handle. */
  close(): void {
    this.#end.close();
  }
}
