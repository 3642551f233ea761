/**
 * Live sockets handed from one process to another: an accepted connection to a worker, a listening socket to the next
 * version of a server. On Windows through `WSADuplicateSocketW`, on Linux and macOS through `SCM_RIGHTS`.
 *
 * At every moment a socket has one owner, and a receiver that dies before it took the socket gives it back.
 *
 * @example A server that lets a worker answer
 * ```ts ignore
 * import { HandoffSource, listen } from "@winsock/handoff";
 *
 * // worker.ts: for await (const { socket } of receive()) serve(socket.toConn());
 * const child = new Deno.Command(Deno.execPath(), { args: ["run", "worker.ts"], stdin: "piped" }).spawn();
 * await using worker = new HandoffSource(child);
 * using listener = listen({ port: 8080 });
 * for await (const socket of listener) {
 *   await worker.send(socket, { data: { from: socket.remoteAddr } });
 * }
 * ```
 *
 * @module
 */
export { WinsockError, type WinsockErrorOptions } from "./ffi/winsock_error.ts";
export { LIBRARY_PATHS } from "./ffi/system.ts";
export type { SocketOptions } from "./ffi/socket_options.ts";
export { HandoffError, type HandoffOutcome } from "./handoff/handoff_error.ts";
export { receive } from "./handoff/receive.ts";
export type { Received, ReceiveOptions } from "./handoff/received.ts";
export type { HandoffChild, HandoffSourceOptions, SendOptions } from "./handoff/send_options.ts";
export type { WorkerInfo, WorkerPoolOptions, WorkerStrategy } from "./handoff/pool/options.ts";
export { type Dispatched, WorkerEvent, type WorkerEventType, WorkerPool } from "./handoff/pool/pool.ts";
export type { WorkerPoolStatistics, WorkerState, WorkerStatistics } from "./handoff/pool/statistics.ts";
export type { Program } from "./handoff/program.ts";
export { HandoffSource } from "./handoff/source.ts";
export { type HandoffStep, TRACE_CHANNEL } from "./handoff/trace.ts";
export { Generation } from "./handoff/upgrade/generation.ts";
export type { InheritedConnection } from "./handoff/upgrade/inheritance.ts";
export { onUpgradeRequest, requestUpgrade, type UpgradeRequestOptions } from "./handoff/upgrade/requests.ts";
export { inherited, type InheritedOptions } from "./handoff/upgrade/inherited.ts";
export { upgrade, type UpgradeOptions, type UpgradeResult } from "./handoff/upgrade/upgrade.ts";
export { UpgradeError, type UpgradeOutcome } from "./handoff/upgrade/upgrade_error.ts";
export type { SocketAddr } from "./sockets/address.ts";
export { connect, type ConnectLocalOptions, type ConnectOptions } from "./sockets/connect.ts";
export { DatagramSocket } from "./sockets/datagram_socket.ts";
export { duplicateSocket, openSocket, type SharedSocket } from "./sockets/duplicate_socket.ts";
export { listen, type ListenLocalOptions, type ListenOptions } from "./sockets/listen.ts";
export { listenDatagram, type ListenDatagramOptions } from "./sockets/listen_datagram.ts";
export { Listener } from "./sockets/listener.ts";
export type { MulticastV4Membership, MulticastV6Membership } from "./sockets/multicast.ts";
export { type ConnOf, type FromHandleOptions, Socket } from "./sockets/socket.ts";
