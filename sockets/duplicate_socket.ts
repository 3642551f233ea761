/**
 * The two calls of shared sockets, for any means of communication between the processes.
 *
 * @module
 */
import { INVALID_SOCKET, type SocketKind, type SocketMaker } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import type { ServiceProvider } from "../spi/service_provider.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { SOCK, WSA_ERRORS } from "../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { DatagramSocket, ownDatagramSocket } from "./datagram_socket.ts";
import { isOwned, markDuplicated, SYSTEM } from "./descriptor.ts";
import { Listener, ownListener } from "./listener.ts";
import { type FromHandleOptions, ownSocket, Socket } from "./socket.ts";

const readSocketType = WSAPROTOCOL_INFOW.reader("iSocketType");

/**
 * A socket that can be shared with another process.
 *
 * @typeParam A What its addresses are, if that is known.
 */
export type AnySocket<A extends SocketAddr = SocketAddr> = Socket<A> | Listener<A> | DatagramSocket;

/**
 * Prepares one more descriptor of a socket for another process, or this one
 * ([WSADuplicateSocketW](https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsaduplicatesocketw)).
 *
 * The target opens it with {@linkcode openSocket}; on Windows also with `WSASocketW` in C, `socket.fromshare` in Python
 * or `new Socket(SocketInformation)` in .NET. The socket itself stays open and the caller's. A duplicate that is never
 * opened keeps the connection alive: on Windows until the target process ends, elsewhere for 30 seconds.
 *
 * @param socket The socket to share.
 * @param processId The one process that may open the duplicate. Keep the process from ending meanwhile: a child has its
 * id as long as its `Deno.ChildProcess` is held.
 * @returns A WSAPROTOCOL_INFOW, 628 bytes, for one process and one use. Opaque: send it as it is.
 * @throws {WinsockError} WSAENOTSOCK if the socket was closed or given up, WSAEINVAL if there is no such process.
 */
export function duplicateSocket(socket: AnySocket, processId: number): Uint8Array<ArrayBuffer> {
  checkOpen(socket);
  const info = defaultProvider().duplicateSocket(socket.handle, processId);
  markDuplicated(socket);
  return info;
}

/** Throws what {@linkcode duplicateSocket} throws if a socket was closed or given up. */
export function checkOpen(socket: AnySocket): void {
  if (socket.handle !== INVALID_SOCKET) return;
  throw new WinsockError(WSA_ERRORS.WSAENOTSOCK, {
    operation: "share a socket",
    functionName: "WSADuplicateSocketW",
    detail: "it was closed, handed off or given up before",
  });
}

/** How {@linkcode openSocket} opens a socket. */
export interface OpenSocketOptions extends FromHandleOptions {
  /** What was duplicated. Anything else is refused. By default any kind is opened. */
  kind?: SocketKind;
}

/**
 * Opens what {@linkcode duplicateSocket} prepared for this process
 * ([WSASocketW](https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsasocketw) with
 * `FROM_PROTOCOL_INFO` and `WSA_FLAG_OVERLAPPED`).
 *
 * @example Within one process
 * ```ts
 * import { connect, duplicateSocket, listen, openSocket, Socket } from "@winsock/handoff";
 * import { assert } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * using client = await connect({ port: listener.addr.port });
 * using duplicate = await openSocket(duplicateSocket(client, Deno.pid), { kind: "connection" });
 * assert(duplicate instanceof Socket && duplicate.localAddr.port === client.localAddr.port);
 * ```
 *
 * @param protocolInfo Exactly 628 bytes.
 * @param options What is known about the socket.
 * @returns A {@linkcode Socket}, {@linkcode Listener} or {@linkcode DatagramSocket}, whichever was duplicated; the
 * caller's to close. The type of address is not checked.
 * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFOW.
 * @throws {TypeError} If it is of another kind than `options.kind`. A stream socket in place of a datagram socket, or the
 * other way round, is not opened, and can be opened later. Whether a stream socket listens is known when it is open: then
 * the duplicate is closed, and the socket goes on with its other descriptors.
 * @throws {WinsockError} If the system refuses: made for another process, opened before, expired, or garbage.
 */
export async function openSocket<A extends SocketAddr = Deno.NetAddr>(
  protocolInfo: Uint8Array,
  options: OpenSocketOptions & { kind: "connection" },
): Promise<Socket<A>>;
/** Opens a listening socket that {@linkcode duplicateSocket} prepared for this process. */
export async function openSocket<A extends SocketAddr = Deno.NetAddr>(
  protocolInfo: Uint8Array,
  options: OpenSocketOptions & { kind: "listener" },
): Promise<Listener<A>>;
/** Opens a UDP socket that {@linkcode duplicateSocket} prepared for this process. */
export async function openSocket(
  protocolInfo: Uint8Array,
  options: OpenSocketOptions & { kind: "datagram" },
): Promise<DatagramSocket>;
/** Opens a socket of any kind that {@linkcode duplicateSocket} prepared for this process. */
export async function openSocket<A extends SocketAddr = Deno.NetAddr>(
  protocolInfo: Uint8Array,
  options?: OpenSocketOptions,
): Promise<AnySocket<A>>;
export async function openSocket(
  protocolInfo: Uint8Array,
  options: OpenSocketOptions = {},
): Promise<AnySocket> {
  const { kind: wanted } = options;
  checkKind(wanted);
  const provider = defaultProvider();
  const isDatagram = readSocketType(protocolInfo) === SOCK.SOCK_DGRAM;
  if (wanted !== undefined && isDatagram !== (wanted === "datagram")) {
    throw otherKind(wanted, isDatagram ? "datagram" : "stream");
  }
  const handle = await openHandle(protocolInfo, provider);
  const kindOf = () => {
    if (isDatagram) return "datagram";
    const kind = systemCalls().isListening(handle, "open a shared socket") ? "listener" : "connection";
    if (wanted !== undefined && kind !== wanted) throw otherKind(wanted, kind);
    return kind;
  };
  return own(handle, kindOf, options, provider);
}

const KINDS: readonly unknown[] = ["connection", "listener", "datagram"] satisfies SocketKind[];

function checkKind(kind: unknown): void {
  if (kind === undefined || KINDS.includes(kind)) return;
  throw new TypeError(`Invalid \`kind\`: must be "connection", "listener" or "datagram", got "${kind}"`);
}

function otherKind(wanted: SocketKind, kind: string): TypeError {
  return new TypeError(`Cannot open a shared socket as a ${wanted}: it is a ${kind} socket`);
}

/**
 * Opens what {@linkcode duplicateSocket} prepared for this process, of a kind that is known.
 *
 * @param protocolInfo Exactly 628 bytes.
 * @param kind What was duplicated.
 * @param options What else is known about it.
 * @throws As {@linkcode openSocket}.
 */
export async function openOffered(
  protocolInfo: Uint8Array,
  kind: SocketKind,
  options: FromHandleOptions,
): Promise<AnySocket> {
  const provider = defaultProvider();
  return own(await openHandle(protocolInfo, provider), () => kind, options, provider);
}

/**
 * Owns a descriptor that another process has sent, whose kind it told.
 *
 * @param handle The descriptor. It is closed if this throws.
 * @param kind What it is.
 * @param options What else is known about it.
 */
export function ownOffered(handle: bigint, kind: SocketKind, options: FromHandleOptions): AnySocket {
  return own(handle, () => kind, options);
}

async function openHandle(protocolInfo: Uint8Array, provider: ServiceProvider): Promise<bigint> {
  const handle = await provider.socket(protocolInfo);
  if (!isOwned(handle)) return handle;
  throw new WinsockError(WSA_ERRORS.WSAEINVAL, {
    operation: "open a shared socket",
    functionName: "WSASocketW",
    detail: `it was opened before, as socket ${handle}`,
  });
}

/** @param maker What has made the descriptor. Defaults to the system itself. */
function own(
  handle: bigint,
  kindOf: () => SocketKind,
  options: FromHandleOptions,
  maker: SocketMaker = SYSTEM,
): AnySocket {
  try {
    const kind = kindOf();
    if (kind === "datagram") return ownDatagramSocket(handle, maker);
    const socket = kind === "listener" ? ownListener(handle, maker) : ownSocket(handle, options, maker);
    markDuplicated(socket);
    return socket;
  } catch (error) {
    maker.closeSocket(handle);
    throw error;
  }
}

/**
 * What an object is that a caller wants to share.
 *
 * @throws {TypeError} If it is not one of this copy of the library's: what another copy's knows would be lost.
 */
export function kindOfSocket(socket: AnySocket): SocketKind {
  if (socket instanceof Socket) return "connection";
  if (socket instanceof Listener) return "listener";
  if (socket instanceof DatagramSocket) return "datagram";
  throw new TypeError("Cannot share a socket: it is not an object of this copy of @winsock/handoff");
}
