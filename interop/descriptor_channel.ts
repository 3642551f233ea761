/**
 * Sockets over a local socket on Linux, as Python sends them.
 *
 * @module
 */
import { setBlocking } from "../ffi/unix/descriptor_flags.ts";
import { MAX_DESCRIPTORS, receiveDescriptors, sendDescriptors } from "../ffi/unix/descriptor_message.ts";
import { unixPoller } from "../ffi/unix/poll_system.ts";
import { socketName } from "../ffi/socket_calls.ts";
import { systemCalls } from "../ffi/system.ts";
import { closeAtEnd } from "../ffi/unload.ts";
import type { Waiting } from "../ffi/waiting.ts";
import type { SharedSocket } from "../sockets/duplicate_socket.ts";
import { requireLinux } from "./linux_only.ts";
import { PassedSockets } from "./passed_sockets.ts";

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
  readonly #waiting = new Set<Waiting>();
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
  async send(sockets: readonly SharedSocket[]): Promise<void> {
    checkCount(sockets.length);
    const handles = sockets.map(({ handle }) => handle);
    for (const handle of handles) systemCalls().kind(handle, `send ${socketName(handle)}`);
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
