/**
 * Sockets as Python sends them: messages of multiprocessing connections on Windows, in which a program sends what
 * `socket.share` returned, and descriptors over a local socket on Linux.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { setBlocking } from "../ffi/unix/descriptors.ts";
import { MAX_DESCRIPTORS, receiveDescriptors, sendDescriptors } from "../ffi/unix/scm_rights.ts";
import { unixPoller } from "../ffi/unix/poller.ts";
import { socketName } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { closeAtEnd } from "../internal/unload.ts";
import type { PollWaiter } from "../ffi/poller.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import { PassedSockets, requireLinux } from "./passed_sockets.ts";

/** The most bytes a message may have here; a blob has 628. */
const MAX_MESSAGE = 65_536;
const HEADER_SIZE = 4;

/**
 * A message as `multiprocessing.connection.Connection.send_bytes` writes it to a socket, and to a pipe elsewhere than on
 * Windows: its length in 4 bytes, big-endian, and its bytes. Needs no permission.
 *
 * @example
 * ```ts
 * import { encodePythonMessage } from "@winsock/handoff/interop";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(encodePythonMessage(new Uint8Array([7, 8])), new Uint8Array([0, 0, 0, 2, 7, 8]));
 * ```
 *
 * @param bytes The message, such as `duplicateSocket(socket, pid)` for `socket.fromshare(connection.recv_bytes())`.
 * @returns What to write.
 * @throws {RangeError} If it has more than 65 536 bytes.
 */
export function encodePythonMessage(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (bytes.byteLength > MAX_MESSAGE) throw new RangeError(tooLong(bytes.byteLength));
  const header = new Uint8Array(HEADER_SIZE);
  new DataView(header.buffer).setInt32(0, bytes.byteLength);
  return concat([header, bytes]);
}

/**
 * The messages that `Connection.send_bytes` wrote to a stream. Needs no permission.
 *
 * @param stream The bytes. It is cancelled when the loop is left.
 * @returns The messages as they come, such as what `sock.share(pid)` returned, for `openSocket`.
 * @throws {Deno.errors.UnexpectedEof} If the stream ends within a message.
 * @throws {RangeError} If one has more than 65 536 bytes, or is no message.
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
    throw new Deno.errors.UnexpectedEof(`A message of Python's ended after ${rest.byteLength} bytes`);
  }
}

/** Bytes of the first message with its header, once the header is there. */
function messageSize(bytes: Uint8Array): number {
  if (bytes.byteLength < HEADER_SIZE) return HEADER_SIZE;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0);
  // Python announces messages of more than 2 GiB by a length of -1.
  if (length < 0 || length > MAX_MESSAGE) throw new RangeError(tooLong(length));
  return HEADER_SIZE + length;
}

function tooLong(length: number): string {
  return `A message of Python's has ${length} bytes, and at most ${MAX_MESSAGE} are taken`;
}

/** How long to wait where nothing tells when there is room. */
const RETRY_MS = 2;

/**
 * One end of a local stream socket over which sockets travel in messages of Python's `multiprocessing.reduction.sendfds`
 * and `recvfds` (and `send_handle`, `recv_handle`): one byte, the number of descriptors modulo 256, with the descriptors
 * beside it (`SCM_RIGHTS`, unix(7)).
 *
 * Needs `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or where the distribution keeps it. Linux only.
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
   * Owns a local stream socket.
   *
   * @param handle Its descriptor, the channel's to close.
   * @throws {Deno.errors.NotSupported} If this is not Linux.
   */
  constructor(handle: bigint) {
    requireLinux("send descriptors");
    this.#handle = handle;
    this.#leaveOpen = closeAtEnd(handle, () => this.close());
  }

  /**
   * Makes two connected channels, such as one for this process and one to give to a child.
   *
   * @returns Both. Calls on the descriptor of `far` wait, as programs expect of a descriptor they are started with.
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
   * Sends sockets in one message, and waits while there is no room. One call at a time.
   *
   * @param sockets At least one and at most 253. They stay open and the caller's.
   * @throws {RangeError} If there are none, or more.
   * @throws {WinsockError} WSAENOTSOCK if a socket was closed or given up; WSAESHUTDOWN if the other end is closed.
   * @throws {Deno.errors.BadResource} If the channel is closed meanwhile.
   */
  async send(sockets: readonly AnySocket[]): Promise<void> {
    checkCount(sockets.length);
    const handles = sockets.map(({ handle }) => handle);
    for (const handle of handles) systemCalls().assertSocket(handle, `send ${socketName(handle)}`);
    while (!sendDescriptors(this.handle, new Uint8Array([handles.length]), handles)) {
      await this.#ready("write");
      // With room, and too many descriptors on their way: nothing tells when there are fewer.
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /**
   * Receives the sockets of the next message. One call at a time.
   *
   * @param most The most that may come, up to 253. Default 253.
   * @returns The sockets, unnamed; `undefined` at the end of the channel.
   * @throws {RangeError} If there are more, or their number is not the one in the message; all of them are closed.
   * @throws {WinsockError} If the connection is broken.
   * @throws {Deno.errors.BadResource} If the channel is closed meanwhile.
   */
  async receive(most: number = MAX_DESCRIPTORS): Promise<PassedSockets | undefined> {
    checkCount(most);
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
    throw new RangeError(`A message announced ${announced} descriptors, and ${came} came`);
  }

  /** The call that waits asks for the handle again, which tells that the channel was closed. */
  async #ready(readiness: "read" | "write"): Promise<void> {
    const waiting = unixPoller().prepare().wait(this.handle, readiness);
    this.#waiting.add(waiting);
    try {
      await waiting.over;
    } finally {
      this.#waiting.delete(waiting);
    }
  }

  /** Closes the channel; a pending call ends. */
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

function checkCount(count: number): void {
  if (!Number.isInteger(count) || count < 1 || count > MAX_DESCRIPTORS) {
    throw new RangeError(`${count} is no number of descriptors from 1 to ${MAX_DESCRIPTORS}`);
  }
}
