/**
 * Hands off live sockets from one process to another: an accepted connection to a worker, or a listener to the next
 * version of a server. Windows uses `WSADuplicateSocketW`; Linux and macOS use `SCM_RIGHTS`.
 *
 * At most one process reads a socket at any time. If the target dies before it takes the socket, the source still has
 * the socket.
 *
 * - {@linkcode HandoffSource} hands sockets off to a child process, and {@linkcode receive} takes them there.
 * - {@linkcode WorkerPool} keeps workers running behind one listener.
 * - {@linkcode inherit} and {@linkcode upgrade} replace a running server with its next version.
 * - {@linkcode duplicateSocket} and {@linkcode openSocket} are the two native calls. They work with any means of
 *   passing 628 bytes.
 * - {@linkcode listen}, {@linkcode connect} and {@linkcode listenDatagram} make sockets without net permission.
 *
 * The library needs ffi access to the system's socket library, whose path is in {@linkcode LIBRARY_PATHS}. Spawning a
 * process needs `--allow-run`. Importing the library needs no permission and opens nothing.
 *
 * @example A source that hands connections off to a worker
 * ```ts ignore
 * import { HandoffSource, LIBRARY_PATHS, listen } from "@winsock/handoff";
 *
 * const child = new Deno.Command(Deno.execPath(), {
 *   args: ["run", `--allow-ffi=${LIBRARY_PATHS.join(",")}`, "worker.ts"],
 *   stdin: "piped",
 * }).spawn();
 * await using worker = new HandoffSource(child);
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 8080 });
 * for await (const socket of listener) {
 *   await worker.send(socket, { data: { acceptedBy: Deno.pid } });
 * }
 * ```
 *
 * @example The worker
 * ```ts ignore
 * import { receive } from "@winsock/handoff";
 *
 * for await (const { socket, data } of receive()) {
 *   using conn = socket.toConn();
 *   await conn.write(new TextEncoder().encode(`${JSON.stringify(data)}, answered by ${Deno.pid}\n`));
 * }
 * ```
 *
 * @example The two native calls, within one process
 * ```ts
 * import { connect, duplicateSocket, listen, openSocket, Socket } from "@winsock/handoff";
 * import { assert, assertEquals } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * using client = (await connect({ port: listener.addr.port })).toConn();
 * const accepted = await listener.accept();
 *
 * const opened = await openSocket(duplicateSocket(accepted, Deno.pid));
 * accepted.close();
 * assert(opened instanceof Socket);
 *
 * using server = opened.toConn();
 * await server.write(new TextEncoder().encode("still the same connection"));
 * const buffer = new Uint8Array(32);
 * const length = await client.read(buffer);
 * assertEquals(new TextDecoder().decode(buffer.subarray(0, length ?? 0)), "still the same connection");
 * ```
 *
 * @module
 */
export { WinsockError, type WinsockErrorOptions } from "./ffi/winsock_error.ts";
export { INVALID_SOCKET } from "./ffi/platform.ts";
export type { LocalType, SocketKind } from "./ffi/platform.ts";
export { LIBRARY_PATHS } from "./ffi/system.ts";
export type { SocketOptions } from "./ffi/socket_options.ts";
export {
  HandoffError,
  type HandoffOutcome,
  type HandoffStep,
  TRACE_CHANNEL,
  UpgradeError,
  type UpgradeOutcome,
} from "./handoff/errors.ts";
export { type HandoffTarget, receive, type ReceivedOf } from "./handoff/receive.ts";
export type { Received, ReceiveOptions, SocketsByKind } from "./handoff/inbox.ts";
export type { HandoffChild } from "./handoff/channel.ts";
export type {
  ConnectionExtras,
  DispatchOptions,
  PoolMessageOptions,
  PoolRestartOptions,
  PoolServeOptions,
  ReturnedSocket,
  WorkerEnd,
  WorkerEventType,
  WorkerInfo,
  WorkerPoolOptions,
  WorkerPoolSettings,
  WorkerPoolStatistics,
  WorkerState,
  WorkerStatistics,
  WorkerStrategy,
} from "./handoff/pool/options.ts";
export {
  ConnectionDropEvent,
  type DispatchResult,
  WorkerEvent,
  WorkerMessageEvent,
  WorkerPool,
  type WorkerPoolEventMap,
  type WorkerPoolListener,
} from "./handoff/pool/pool.ts";
export type { ScriptOptions, WorkerCommand, WorkerExecutable, WorkerScript } from "./handoff/spawn.ts";
export {
  type HandoffMessage,
  HandoffSource,
  type HandoffSourceOptions,
  type HandoffSpawnOptions,
  type MessageWithoutSocket,
  type MessageWithSocket,
} from "./handoff/source.ts";
export type { PostMessageOptions, SendOptions } from "./handoff/outgoing.ts";
export type { SharedListener, ShareListenerOptions } from "./handoff/shared_listener.ts";
export { type AddressChange, inherit, type InheritOptions, ServerVersion } from "./handoff/upgrade/server_version.ts";
export type { OpenFileOptions, SharedFile } from "./handoff/upgrade/shared_file.ts";
export type { InheritedConnection } from "./handoff/upgrade/upgrade_channel.ts";
export { onUpgradeRequest, type OnUpgradeRequestOptions, requestUpgrade } from "./handoff/upgrade/upgrade_requests.ts";
export {
  upgrade,
  type UpgradeOptions,
  type UpgradeReport,
  type UpgradeResult,
  type UpgradeSettings,
} from "./handoff/upgrade/upgrade.ts";
export type { SocketAddr } from "./ffi/socket_address.ts";
export { connect, type ConnectLocalOptions, type ConnectOptions } from "./sockets/connect.ts";
export {
  DatagramSocket,
  listenDatagram,
  type ListenDatagramOptions,
  type ListenLocalDatagramOptions,
  type MulticastV4Membership,
  type MulticastV6Membership,
} from "./sockets/datagram_socket.ts";
export { SocketWithOptions } from "./sockets/descriptor.ts";
export { type AnySocket, duplicateSocket, openSocket, type OpenSocketOptions } from "./sockets/duplicate_socket.ts";
export { listen, Listener, type ListenLocalOptions, type ListenOptions } from "./sockets/listener.ts";
export { type ConnOf, type FromHandleOptions, type PeekOptions, type ReadOptions, Socket } from "./sockets/socket.ts";
export type { StreamOptions } from "./sockets/stream.ts";
