/**
 * The formats in which Python sends sockets: on Windows in messages of a multiprocessing connection, which contain the
 * result of `socket.share`; on Linux as descriptors over a local socket.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { setBlocking } from "../ffi/unix/descriptors.ts";
import { acceptDescriptors } from "../ffi/unix/local_sockets.ts";
import { MAX_DESCRIPTORS, receiveDescriptors, sendDescriptors } from "../ffi/unix/scm_rights.ts";
import { unixPoller } from "../ffi/unix/poller.ts";
import { socketName } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { BYTES, check, HANDLE, integer } from "../internal/options.ts";
import { closeAtEnd } from "../internal/runtime.ts";
import type { PollWaiter } from "../ffi/poller.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import { PassedSockets, requireLinux } from "./passed_sockets.ts";

/** The longest message in bytes. A blob has 628. */
const MAX_MESSAGE = 65_536;
const HEADER_SIZE = 4;
/** The number of descriptors in a message. */
const COUNT = integer(1, MAX_DESCRIPTORS);

/**
 * Encodes a message as `multiprocessing.connection.Connection.send_bytes` writes it to a socket, and to a pipe on other
 * systems than Windows: its length in 4 bytes, big-endian, followed by its bytes. Needs no permission.
 *
 * @example A message of two bytes
 * ```ts
 * import { encodePythonMessage } from "@winsock/handoff/interop";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(encodePythonMessage(new Uint8Array([7, 8])), new Uint8Array([0, 0, 0, 2, 7, 8]));
 * ```
 *
 * @param bytes The message, such as `duplicateSocket(socket, pid)` for `socket.fromshare(connection.recv_bytes())`.
 * @returns The bytes to write.
 * @throws {RangeError} If the message has more than 65 536 bytes.
 */
export function encodePythonMessage(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  check("bytes", bytes, BYTES);
  if (bytes.byteLength > MAX_MESSAGE) throw new RangeError(tooLong(bytes.byteLength));
  const header = new Uint8Array(HEADER_SIZE);
  new DataView(header.buffer).setInt32(0, bytes.byteLength);
  return concat([header, bytes]);
}

/**
 * Reads the messages that `Connection.send_bytes` wrote to a stream. Needs no permission.
 *
 * @param stream The bytes. The stream is cancelled when the caller leaves the loop.
 * @returns The messages as they arrive, such as the result of `sock.share(pid)`, for `openSocket`.
 * @throws {Deno.errors.UnexpectedEof} If the stream ends within a message.
 * @throws {RangeError} If a message has more than 65 536 bytes, or its length is not valid.
 */
export async function* readPythonMessages(
  stream: ReadableStream<Uint8Array>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  let rest: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  for await (const chunk of stream) {
    rest = concat([rest, chunk]);
    for (let size = messageSize(rest); rest.byteLength >= size; size = messageSize(rest)) {
      yield rest.slice(HEADER_SIZE, size);
      rest = rest.slice(size);
    }
  }
  if (rest.byteLength > 0) {
    throw new Deno.errors.UnexpectedEof(`Cannot read a Python message: it ended after ${rest.byteLength} bytes`);
  }
}

/** Returns the size of the first message with its header, or of the header alone until it has arrived. */
function messageSize(bytes: Uint8Array): number {
  if (bytes.byteLength < HEADER_SIZE) return HEADER_SIZE;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0);
  // For messages of more than 2 GiB Python writes a length of -1.
  if (length < 0 || length > MAX_MESSAGE) throw new RangeError(tooLong(length));
  return HEADER_SIZE + length;
}

function tooLong(length: number): string {
  return `Invalid Python message: must have at most ${MAX_MESSAGE} bytes, got ${length}`;
}

/** The delay before sending again, if there is no event for when there is room. */
const RETRY_MS = 2;

/**
 * One end of a local stream socket that carries sockets in the format of Python's `multiprocessing.reduction.sendfds`
 * and `recvfds` (and `send_handle`, `recv_handle`). A message is one byte, the number of descriptors modulo 256, with
 * the descriptors beside it (`SCM_RIGHTS`, unix(7)).
 *
 * Needs `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or the path of libc on the distribution. Linux only.
 *
 * @example A listener for a child that is a Python program
 * ```ts ignore
 * import { DescriptorChannel } from "@winsock/handoff/interop";
 * import { listen } from "@winsock/handoff";
 * import { spawn } from "node:child_process";
 *
 * const program = `import socket, multiprocessing.reduction as reduction
 * [descriptor] = reduction.recvfds(socket.socket(fileno=3), 1)
 * print(socket.socket(fileno=descriptor).getsockname())`;
 *
 * const { near, far } = DescriptorChannel.pair();
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * spawn("python3", ["-c", program], { stdio: ["ignore", "ignore", "inherit", Number(far.handle)] });
 * far.close();
 * await near.send([listener]);
 * near.close();
 * ```
 */
export class DescriptorChannel implements Disposable {
  #handle: bigint | undefined;
  readonly #waiting = new Set<PollWaiter>();
  readonly #leaveOpen: () => void;

  /**
   * Makes a channel, which owns the descriptor.
   *
   * The sockets of `listen`, `connect` and `listenDatagram` refuse descriptors on Linux 6.16 or newer. This makes the
   * socket accept them. Before that, sending one to it fails with EPERM in the other process.
   *
   * @param handle The descriptor of a local stream socket.
   * @throws {Deno.errors.NotSupported} If this is not Linux.
   */
  constructor(handle: bigint) {
    check("handle", handle, HANDLE);
    requireLinux("send descriptors");
    acceptDescriptors(handle);
    this.#handle = handle;
    this.#leaveOpen = closeAtEnd(handle, () => this.close());
  }

  /**
   * Makes two connected channels, such as one for this process and one for a child.
   *
   * @returns Both channels. The descriptor of `far` is blocking, as programs expect of a descriptor that they inherit.
   * @throws {WinsockError} If the system has no descriptors left.
   * @throws {Deno.errors.NotSupported} If this is not Linux.
   */
  static pair(): { near: DescriptorChannel; far: DescriptorChannel } {
    requireLinux("make a channel for descriptors");
    const [near, far] = systemCalls().pair();
    setBlocking(far);
    return { near: new DescriptorChannel(near), far: new DescriptorChannel(far) };
  }

  /**
   * The descriptor.
   *
   * @throws {Deno.errors.BadResource} If the channel was closed.
   */
  get handle(): bigint {
    if (this.#handle === undefined) throw new Deno.errors.BadResource("Channel has been closed");
    return this.#handle;
  }

  /**
   * Sends sockets in one message, and waits while there is no room. Only one call may be pending.
   *
   * @param sockets The sockets: at least one, and at most 253. They stay open and still belong to the caller.
   * @throws {RangeError} If there are too few or too many.
   * @throws {WinsockError} WSAENOTSOCK if a socket was closed or released; WSAESHUTDOWN if the other end is closed.
   * @throws {Deno.errors.BadResource} If the channel is closed meanwhile.
   */
  async send(sockets: readonly AnySocket[]): Promise<void> {
    check("sockets.length", sockets.length, COUNT);
    const handles = sockets.map(({ handle }) => handle);
    for (const handle of handles) systemCalls().assertSocket(handle, `send ${socketName(handle)}`);
    while (!sendDescriptors(this.handle, new Uint8Array([handles.length]), handles)) {
      await this.#ready("write");
      // There is room for the message, but too many descriptors are in flight. There is no event for when that changes.
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /**
   * Receives the sockets of the next message. Only one call may be pending.
   *
   * @param most The most sockets in one message, up to 253. Defaults to `253`.
   * @returns The sockets, without names; `undefined` at the end of the channel.
   * @throws {RangeError} If there are more, or their number differs from the one in the message. All of them are then
   * closed.
   * @throws {WinsockError} If the connection is broken.
   * @throws {Deno.errors.BadResource} If the channel is closed meanwhile.
   */
  async receive(most: number = MAX_DESCRIPTORS): Promise<PassedSockets | undefined> {
    check("most", most, COUNT);
    let message = receiveDescriptors(this.handle, 1, most);
    while (message === undefined) {
      await this.#ready("read");
      message = receiveDescriptors(this.handle, 1, most);
    }
    const passed = new PassedSockets(message.descriptors.map((handle) => ({ name: "", handle })));
    const [announced] = message.bytes;
    if (announced === undefined) return undefined;
    if (announced === passed.length && !message.truncated) return passed;
    passed.close();
    const came = message.truncated ? `more than ${most}` : passed.length;
    throw new RangeError(`Cannot receive sockets: the message announced ${announced} descriptors, got ${came}`);
  }

  /** Waits for the socket. The caller then reads `handle` again, which throws if the channel was closed. */
  async #ready(readiness: "read" | "write"): Promise<void> {
    const waiting = unixPoller().prepare().wait(this.handle, readiness);
    this.#waiting.add(waiting);
    try {
      await waiting.over;
    } finally {
      this.#waiting.delete(waiting);
    }
  }

  /** Closes the channel. A pending call ends. */
  close(): void {
    if (this.#handle === undefined) return;
    for (const waiting of this.#waiting) unixPoller().cancel(waiting).catch(() => {});
    this.#leaveOpen();
    systemCalls().close(this.#handle);
    this.#handle = undefined;
  }

  /** The same as {@linkcode DescriptorChannel.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
