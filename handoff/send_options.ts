/**
 * What a source needs to know before it sends.
 *
 * @module
 */
import type { SharedSocket } from "../sockets/duplicate_socket.ts";
import { Socket } from "../sockets/socket.ts";
import { MAX_INITIAL_BYTES } from "./payload.ts";

/** What a {@linkcode HandoffSource} needs of its child: a `Deno.ChildProcess` spawned with `stdin: "piped"` has it. */
export type HandoffChild = Pick<Deno.ChildProcess, "pid" | "stdin" | "status">;

/** How a {@linkcode HandoffSource} works. */
export interface HandoffSourceOptions {
  /**
   * How long the target may take to become ready, and then for each socket, in milliseconds: more than 0, at most 30 000.
   * Default 10 000.
   */
  timeout?: number;
  /** Called when the target has closed, or given up, a socket it was handed. What it throws is reported as uncaught. */
  onRelease?: () => void;
}

/** What travels along with a socket. */
export interface SendOptions {
  /** Any JSON value, at most 1 MiB of it. */
  data?: unknown;
  /**
   * Bytes already read from the connection, at most 1 MiB; the target's first read returns them. Default: the socket's own
   * `initialBytes`, in whose place these are sent. The object does not learn of them: what is to be there if the socket comes back is
   * given to it before, with {@linkcode Socket.unread}.
   */
  initialBytes?: Uint8Array;
  /** Takes the socket back, as long as the target does not own it. */
  signal?: AbortSignal;
}

/** The longest timeout of a source: on Linux and macOS a duplicate lives no longer than this. */
export const MAX_TIMEOUT_MS = 30_000;

/** A source's timeout, if it is one. */
export function checkedTimeout(timeout: number): number {
  if (timeout > 0 && timeout <= MAX_TIMEOUT_MS) return timeout;
  throw new RangeError(`The timeout is ${timeout} ms, not more than 0 and at most ${MAX_TIMEOUT_MS}`);
}

/** The bytes that go along with a socket: those given, or those it came with. */
export function checkedInitialBytes(socket: SharedSocket, given: Uint8Array | undefined): Uint8Array {
  if (!(socket instanceof Socket)) {
    if (given !== undefined) throw new TypeError("Only a connection has initial bytes");
    return new Uint8Array(0);
  }
  const bytes = given ?? socket.initialBytes;
  if (bytes.byteLength > MAX_INITIAL_BYTES) {
    throw new RangeError(`Cannot send ${bytes.byteLength} initial bytes, more than ${MAX_INITIAL_BYTES}`);
  }
  return bytes;
}
