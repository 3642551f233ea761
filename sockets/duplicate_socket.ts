/**
 * Duplicates and opens sockets. The processes may communicate by any means.
 *
 * @module
 */
import { BYTES, check, checkOptions, oneOf, PROCESS_ID } from "../internal/options.ts";
import { INVALID_SOCKET, type SocketKind, type SocketMaker } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import type { ServiceProvider } from "../spi/service_provider.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { SOCK, WSA_ERRORS } from "../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { DatagramSocket, ownDatagramSocket } from "./datagram_socket.ts";
import { holderOf, isOwned, markDuplicated, SYSTEM } from "./descriptor.ts";
import { Listener, ownListener } from "./listener.ts";
import { type FromHandleOptions, ownSocket, Socket } from "./socket.ts";

const readSocketType = WSAPROTOCOL_INFOW.reader("iSocketType");

/**
 * A socket that can be shared with another process.
 *
 * @typeParam A The type of its addresses, if that is known.
 */
export type AnySocket<A extends SocketAddr = SocketAddr> = Socket<A> | Listener<A> | DatagramSocket<A>;

/**
 * Makes a duplicate of a socket for another process, or for this process
 * ([WSADuplicateSocketW](https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsaduplicatesocketw)).
 *
 * The target opens the duplicate with {@linkcode openSocket}. On Windows it can also use `WSASocketW` in C,
 * `socket.fromshare` in Python or `new Socket(SocketInformation)` in .NET. The socket itself stays open, and the caller
 * still owns it. A duplicate that is never opened keeps the connection alive: on Windows until the target process ends,
 * on other systems for 30 seconds.
 *
 * @param socket The socket to duplicate.
 * @param processId The id of the only process that may open the duplicate. The process must not end meanwhile: a child
 * keeps its id as long as its `Deno.ChildProcess` is held.
 * @returns The blob: a WSAPROTOCOL_INFOW, 628 bytes, for one process and one use. Send it unchanged.
 * @throws {WinsockError} WSAENOTSOCK if the socket was closed or released, WSAEINVAL if there is no such process.
 * @throws {TypeError} If the socket is not an object of this copy of the library; if it came back from a process that is
 * not trusted, may have kept it, and still runs.
 * @throws {RangeError} If the id is not an integer from 0 to 4 294 967 295.
 */
export function duplicateSocket(socket: AnySocket, processId: number): Uint8Array<ArrayBuffer> {
  kindOfSocket(socket);
  check("processId", processId, PROCESS_ID);
  const info = makeBlob(socket, processId);
  markDuplicated(socket);
  return info;
}

/** Makes the blob of a hand-off, as {@linkcode duplicateSocket} does: only one of the two descriptors is going to be used. */
export function makeBlob(socket: AnySocket, processId: number): Uint8Array<ArrayBuffer> {
  checkOpen(socket);
  checkHolders(socket, processId);
  return defaultProvider().duplicateSocket(socket.handle, processId);
}

/**
 * Checks that a socket is open.
 *
 * @throws {WinsockError} WSAENOTSOCK if it was closed or released, as {@linkcode duplicateSocket} throws it.
 */
export function checkOpen(socket: AnySocket): void {
  if (socket.handle !== INVALID_SOCKET) return;
  throw new WinsockError(WSA_ERRORS.WSAENOTSOCK, {
    operation: "share a socket",
    functionName: "WSADuplicateSocketW",
    detail: "it was closed, handed off or released before",
  });
}

/**
 * Checks that no process that is not trusted may still have a socket that is about to be given to another process.
 *
 * @param processId The process that it is given to.
 * @throws {TypeError} If there is such a process.
 */
export function checkHolders(socket: AnySocket, processId: number): void {
  const holder = holderOf(socket, processId);
  if (holder === undefined) return;
  throw new TypeError(
    `Cannot hand off socket ${socket.handle}: process ${holder.processId}, which is not trusted, may still have it`,
  );
}

/** Options for {@linkcode openSocket}. */
export interface OpenSocketOptions extends FromHandleOptions {
  /** The kind of socket to open. A socket of another kind is refused. Defaults to any kind. */
  kind?: SocketKind;
}

/**
 * Opens a duplicate that {@linkcode duplicateSocket} made for this process
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
 * @param protocolInfo The blob, exactly 628 bytes.
 * @param options The expected kind of the socket, and its initial bytes.
 * @returns A {@linkcode Socket}, {@linkcode Listener} or {@linkcode DatagramSocket}, depending on the socket that was
 * duplicated. The caller must close it. The type of address is not checked.
 * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFOW.
 * @throws {TypeError} If the socket is not of the kind `options.kind`. If only one of the two is a datagram socket, the
 * duplicate is not opened, and can be opened later. Whether a stream socket is a listener is known only after opening
 * it. In that case the duplicate is closed, and the socket stays open with its other descriptors.
 * @throws {WinsockError} If the system refuses the blob: it was made for another process, was opened before, has
 * expired, or is not valid.
 */
export async function openSocket<A extends SocketAddr = Deno.NetAddr>(
  protocolInfo: Uint8Array,
  options: OpenSocketOptions & { kind: "connection" },
): Promise<Socket<A>>;
/** Opens a listener that {@linkcode duplicateSocket} duplicated for this process. */
export async function openSocket<A extends SocketAddr = Deno.NetAddr>(
  protocolInfo: Uint8Array,
  options: OpenSocketOptions & { kind: "listener" },
): Promise<Listener<A>>;
/** Opens a datagram socket that {@linkcode duplicateSocket} duplicated for this process. */
export async function openSocket<A extends SocketAddr = Deno.NetAddr>(
  protocolInfo: Uint8Array,
  options: OpenSocketOptions & { kind: "datagram" },
): Promise<DatagramSocket<A>>;
/** Opens a socket of any kind that {@linkcode duplicateSocket} duplicated for this process. */
export async function openSocket<A extends SocketAddr = Deno.NetAddr>(
  protocolInfo: Uint8Array,
  options?: OpenSocketOptions,
): Promise<AnySocket<A>>;
export async function openSocket(
  protocolInfo: Uint8Array,
  options: OpenSocketOptions = {},
): Promise<AnySocket> {
  check("protocolInfo", protocolInfo, BYTES);
  checkOptions(options, { kind: KIND, initialBytes: BYTES });
  const { kind: wanted } = options;
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

const KIND = oneOf("connection", "listener", "datagram");

function otherKind(wanted: SocketKind, kind: string): TypeError {
  return new TypeError(`Cannot open a shared socket as a ${wanted}: it is a ${kind} socket`);
}

/**
 * Opens a duplicate of a known kind that {@linkcode duplicateSocket} made for this process.
 *
 * @param protocolInfo The blob, exactly 628 bytes.
 * @param kind The kind of the socket that was duplicated.
 * @param options The initial bytes of the socket.
 * @throws The errors of {@linkcode openSocket}.
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
 * Takes ownership of a descriptor that another process has sent together with its kind.
 *
 * @param handle The descriptor. It is closed if this throws.
 * @param kind The kind of the socket.
 * @param options The initial bytes of the socket.
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

/**
 * Takes ownership of a descriptor.
 *
 * @param maker The creator of the descriptor. Defaults to the system itself.
 */
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
 * Returns the kind of a socket that the caller wants to share.
 *
 * @throws {TypeError} If the object is not from this copy of the library. The state that another copy keeps would be
 * lost.
 */
export function kindOfSocket(socket: AnySocket): SocketKind {
  if (socket instanceof Socket) return "connection";
  if (socket instanceof Listener) return "listener";
  if (socket instanceof DatagramSocket) return "datagram";
  throw new TypeError("Cannot share a socket: it is not an object of this copy of @winsock/handoff");
}
