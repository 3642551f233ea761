/**
 * The target's side of a hand-off, as its program sees it.
 *
 * @module
 */
import type { DatagramSocket } from "../sockets/datagram_socket.ts";
import type { Listener } from "../sockets/listener.ts";
import type { SharedSocket } from "../sockets/duplicate_socket.ts";
import type { Socket } from "../sockets/socket.ts";
import type { Received, ReceiveOptions } from "./received.ts";
import { Target } from "./target.ts";

/**
 * The sockets that the process that spawned this one hands over with {@linkcode HandoffSource}.
 *
 * Ends when the source is closed or has died, however early; sockets received until then stay open. Leaving the loop refuses what is
 * still on its way, and closes what was accepted ahead of the loop: up to `highWaterMark` sockets that are this process's
 * already. Stdin must not be read by anyone else.
 *
 * Needs ffi access to the system's socket library: `--allow-ffi=C:\Windows\System32\ws2_32.dll,C:\Windows\System32\kernel32.dll`
 * on Windows, `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6` on Linux (`LIBRARY_PATHS` on any system). No
 * net, env, read or run permission.
 *
 * @example A worker that echoes
 * ```ts ignore
 * import { receive } from "@winsock/handoff";
 *
 * for await (const { socket } of receive()) {
 *   const conn = socket.toConn();
 *   conn.readable.pipeTo(conn.writable).catch(() => {}).finally(() => conn.close());
 * }
 * ```
 *
 * @param options How.
 * @returns What arrives, in the order in which the source let go of it.
 * @throws {HandoffError} While iterating: `channel-broken` if what arrives is not the protocol, or not for this process.
 * @throws {Deno.errors.NotCapable} While iterating: without ffi access; the message names the file.
 */
export function receive(
  options: ReceiveOptions & { listeners: true; datagrams: true },
): AsyncGenerator<Received<Socket> | Received<Listener> | Received<DatagramSocket>, void, void>;
/**
 * The connections and listeners that the process that spawned this one hands over; datagram sockets are rejected.
 *
 * @param options How.
 * @returns What arrives, in the order in which the source let go of it.
 */
export function receive(
  options: ReceiveOptions & { listeners: true },
): AsyncGenerator<Received<Socket> | Received<Listener>, void, void>;
/**
 * The connections and datagram sockets that the process that spawned this one hands over; listeners are rejected.
 *
 * @param options How.
 * @returns What arrives, in the order in which the source let go of it.
 */
export function receive(
  options: ReceiveOptions & { datagrams: true },
): AsyncGenerator<Received<Socket> | Received<DatagramSocket>, void, void>;
/**
 * The connections that the process that spawned this one hands over; listeners and datagram sockets are rejected.
 *
 * @param options How.
 * @returns What arrives, in the order in which the source let go of it.
 */
export function receive(
  options?: ReceiveOptions & { listeners?: false; datagrams?: false },
): AsyncGenerator<Received<Socket>, void, void>;
/**
 * The sockets that the process that spawned this one hands over, where it is not known before of which kinds.
 *
 * @param options How.
 * @returns What arrives, in the order in which the source let go of it.
 */
export function receive(
  options: ReceiveOptions,
): AsyncGenerator<Received<Socket> | Received<Listener> | Received<DatagramSocket>, void, void>;
export async function* receive(options: ReceiveOptions = {}): AsyncGenerator<Received<SharedSocket>, void, void> {
  const target = new Target(options);
  try {
    for (let received = await target.next(); received !== undefined; received = await target.next()) yield received;
  } finally {
    target.close();
  }
}
