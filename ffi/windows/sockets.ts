/**
 * The {@linkcode SocketCalls} on ws2_32.
 *
 * @module
 */
import { AF_INET, describeAddress, type HostLookup, type SocketAddress } from "../socket_address.ts";
import { type BerkeleyConstants, BsdSockets } from "../bsd_sockets.ts";
import { type Acceptor, INVALID_SOCKET, socketName } from "../platform.ts";
import { type DatagramReceiver, PolledReceiver, StreamIo } from "../nonblocking_io.ts";
import { PollTable } from "../poll_table.ts";
import { Poller } from "../poller.ts";
import { WinsockError } from "../winsock_error.ts";
import { AF, DEFAULT_SOCKET_FLAGS, FROM_PROTOCOL_INFO, IPPROTO, SOCK, WSA_ERRORS } from "../../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import { encodeUtf16 } from "../library.ts";
import { holdAccepting, ThreadAcceptor } from "./acceptor.ts";
import {
  closeElsewhere,
  closeSocket,
  setBlocking,
  shutDown,
  SOL_SOCKET,
  tryReceive,
  tryRecv,
  trySend,
  WINSOCK_STREAMS,
  WinsockPoll,
} from "./io.ts";
import { clearInheritFlag, kernel32Functions, lastWinsockError, winsockFunctions, ws2_32 } from "./libraries.ts";

const { IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6 } = IPPROTO;

const CONSTANTS: BerkeleyConstants = {
  AF_INET6: AF.AF_INET6,
  SO_TYPE: [SOL_SOCKET, 0x1008],
  SO_ACCEPTCONN: [SOL_SOCKET, 0x0002],
  IP_ADD_MEMBERSHIP: [IPPROTO_IP, 12],
  IP_DROP_MEMBERSHIP: [IPPROTO_IP, 13],
  IPV6_ADD_MEMBERSHIP: [IPPROTO_IPV6, 12],
  IPV6_DROP_MEMBERSHIP: [IPPROTO_IPV6, 13],
  // SO_EXCLUSIVEADDRUSE: with SO_REUSEADDR any other process could bind the same port.
  LISTENER: [SOL_SOCKET, ~0x0004],
  lingerWidth: 2,
  hasTimeval: false,
  options: {
    TCP_NODELAY: [IPPROTO_TCP, 0x0001],
    TCP_KEEPIDLE: [IPPROTO_TCP, 3],
    TCP_KEEPINTVL: [IPPROTO_TCP, 17],
    TCP_KEEPCNT: [IPPROTO_TCP, 16],
    SO_KEEPALIVE: [SOL_SOCKET, 0x0008],
    SO_LINGER: [SOL_SOCKET, 0x0080],
    SO_RCVBUF: [SOL_SOCKET, 0x1002],
    SO_SNDBUF: [SOL_SOCKET, 0x1001],
    SO_EXCLUSIVEADDRUSE: [SOL_SOCKET, ~0x0004],
    SO_REUSEADDR: [SOL_SOCKET, 0x0004],
    SO_REUSEPORT: undefined,
    SO_BROADCAST: [SOL_SOCKET, 0x0020],
    SO_RCVTIMEO: [SOL_SOCKET, 0x1006],
    SO_SNDTIMEO: [SOL_SOCKET, 0x1005],
    SO_ERROR: [SOL_SOCKET, 0x1007],
    IP_TTL: [IPPROTO_IP, 4],
    IP_TOS: [IPPROTO_IP, 3],
    IP_FREEBIND: undefined,
    IPV6_UNICAST_HOPS: [IPPROTO_IPV6, 4],
    IPV6_TCLASS: [IPPROTO_IPV6, 39],
    IPV6_V6ONLY: [IPPROTO_IPV6, 27],
    IP_MULTICAST_IF: [IPPROTO_IP, 9],
    IP_MULTICAST_LOOP: [IPPROTO_IP, 11],
    IP_MULTICAST_TTL: [IPPROTO_IP, 10],
    IPV6_MULTICAST_IF: [IPPROTO_IPV6, 9],
    IPV6_MULTICAST_LOOP: [IPPROTO_IPV6, 11],
    IPV6_MULTICAST_HOPS: [IPPROTO_IPV6, 10],
  },
};

/**
 * The interval for checking a pending connect in milliseconds: older versions of Windows do not wake WSAPoll when it
 * fails.
 */
const ASK_CONNECTING_MS = 100;

const hostFunctions = winsockFunctions({
  /** `INT GetAddrInfoW(PCWSTR pNodeName, PCWSTR pServiceName, const ADDRINFOW *pHints, PADDRINFOW *ppResult)` on a pool thread */
  GetAddrInfoW: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i32", nonblocking: true },
  /** `INT GetAddrInfoW(…)` on the calling thread */
  GetAddrInfoNow: { name: "GetAddrInfoW", parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i32" },
  /** `VOID FreeAddrInfoW(PADDRINFOW pAddrInfo)` */
  FreeAddrInfoW: { parameters: ["usize"], result: "void" },
});
const memoryFunctions = kernel32Functions({
  /** `VOID RtlMoveMemory(VOID *Destination, const VOID *Source, SIZE_T Length)` */
  RtlMoveMemory: { parameters: ["buffer", "usize", "usize"], result: "void" },
});

const HOST_LOOKUP: HostLookup = {
  addressOffset: 32,
  find: (hostname, hints, list) => hostFunctions().GetAddrInfoW(encodeUtf16(hostname), null, hints, list),
  findNow: (hostname, hints, list) => hostFunctions().GetAddrInfoNow(encodeUtf16(hostname), null, hints, list),
  copyOut: (target, address) => memoryFunctions().RtlMoveMemory(target, address, BigInt(target.byteLength)),
  free: (list) => hostFunctions().FreeAddrInfoW(list),
  error: (code, operation) => new WinsockError(code, { operation, functionName: "GetAddrInfoW" }),
};

/** The sockets of Winsock. */
export class WinsockCalls extends BsdSockets {
  protected readonly hostLookup = HOST_LOOKUP;
  protected readonly poller: Poller = new Poller(new PollTable(new WinsockPoll(this)));

  constructor() {
    const ws = ws2_32();
    super(
      { ...ws, inet_ntop: (family, address, text, size) => ws.inet_ntop(family, address, text, BigInt(size)) },
      CONSTANTS,
    );
  }

  protected lastError(operation: string, functionName: string): WinsockError {
    return lastWinsockError(operation, functionName);
  }

  protected errorOf(code: number, operation: string, functionName: string): WinsockError {
    return new WinsockError(code, { operation, functionName });
  }

  protected create(family: number, type: number): bigint {
    const protocol = type === SOCK.SOCK_DGRAM ? IPPROTO_UDP : IPPROTO_TCP;
    const s = ws2_32().WSASocketW(family, type, protocol, null, 0, DEFAULT_SOCKET_FLAGS);
    if (s === INVALID_SOCKET) throw this.lastError("make a socket", "WSASocketW");
    return s;
  }

  protected encodeAddress(address: SocketAddress): Uint8Array<ArrayBuffer> {
    return "path" in address ? this.openLocal(address.path) : this.addresses.encode(address);
  }

  openLocal(path: string): never {
    throw new Deno.errors.NotSupported(`Cannot use the local socket "${path}": Windows cannot hand off local sockets`);
  }

  async connect(s: bigint, address: SocketAddress, signal?: AbortSignal): Promise<void> {
    const ws = ws2_32();
    const name = this.encodeAddress(address);
    const operation = `connect to ${describeAddress(address)}`;
    this.#setNonBlocking(s, true);
    const result = ws.connect(s, name, name.byteLength);
    if (result === -1) {
      const error = this.lastError(operation, "connect");
      if (error.code !== WSA_ERRORS.WSAEWOULDBLOCK) throw error;
      await this.connected(s, operation, signal, ASK_CONNECTING_MS);
    }
    this.#setNonBlocking(s, false);
  }

  protected tryReceive(
    s: bigint,
    buffer: Uint8Array<ArrayBuffer>,
    flags: number,
    operation: string,
  ): number | undefined {
    return tryRecv(s, buffer, flags, () => operation);
  }

  /** Duplicates a SOCKET in the same way as for another process: Winsock would not know a handle of DuplicateHandle. */
  duplicate(s: bigint): bigint {
    const info = new Uint8Array(WSAPROTOCOL_INFOW.size);
    const result = ws2_32().WSADuplicateSocketW(s, Deno.pid, info);
    if (result !== 0) throw lastWinsockError(`duplicate socket ${s}`, "WSADuplicateSocketW");
    const any = FROM_PROTOCOL_INFO;
    const copy = ws2_32().WSASocketW(any, any, any, info, 0, DEFAULT_SOCKET_FLAGS);
    if (copy === INVALID_SOCKET) throw lastWinsockError(`duplicate socket ${s}`, "WSASocketW");
    try {
      clearInheritFlag(copy);
      return copy;
    } catch (error) {
      ws2_32().closesocket(copy);
      throw error;
    }
  }

  pair(): [bigint, bigint] {
    const listener = this.listen({ hostname: "127.0.0.1", port: 0 }, 1);
    const made: bigint[] = [];
    try {
      const near = this.create(AF_INET, SOCK.SOCK_STREAM);
      made.push(near);
      const name = this.encodeAddress(this.localAddress(listener));
      // The system completes the connection to a local listener before it is accepted.
      const connected = ws2_32().connect(near, name, name.byteLength);
      if (connected === -1) throw this.lastError("make a socket pair", "connect");
      const far = ws2_32().acceptNow(listener, null, null);
      if (far === INVALID_SOCKET) throw this.lastError("make a socket pair", "accept");
      made.push(far);
      clearInheritFlag(far);
      this.#checkPeer(far, near);
      return [near, far];
    } catch (error) {
      for (const s of made) this.close(s);
      throw error;
    } finally {
      this.close(listener);
    }
  }

  holdAccepting(): Promise<Disposable> {
    return holdAccepting();
  }

  acceptor(listener: bigint, isSole: () => boolean): Acceptor {
    // A listener of another origin may be non-blocking; here a thread waits in accept.
    this.#setNonBlocking(listener, false);
    return new ThreadAcceptor(this, listener, isSole);
  }

  sendDatagram(s: bigint, data: Uint8Array, address: SocketAddress): number | undefined {
    const operation = `send a datagram of ${data.byteLength} bytes to ${describeAddress(address)}`;
    return trySend(s, data as Uint8Array<ArrayBuffer>, this.encodeAddress(address), operation);
  }

  unblock(s: bigint): void {
    this.#setNonBlocking(s, true);
  }

  receiver(s: bigint): DatagramReceiver {
    return new PolledReceiver(s, this.addresses, tryReceive, this.poller.prepare());
  }

  shutDown(s: bigint): void {
    shutDown(s);
  }

  stream(s: bigint, nonBlocking = false): StreamIo {
    const poller = this.poller.prepare();
    if (!nonBlocking) this.unblock(s);
    return new StreamIo(s, WINSOCK_STREAMS, poller);
  }

  closeElsewhere(s: bigint, end: boolean): Promise<void> {
    return closeElsewhere(s, end);
  }

  /** Nothing to do: an interrupted `closesocket` would leave the socket open. */
  interruptCloses(): void {}

  /** The handles of another process are not listed without further rights, and not kept apart from later ones. */
  watchOpenSockets(): undefined {
    return undefined;
  }

  /** Nothing to do: local sockets cannot be made here. */
  removeLocal(): void {}

  protected closeDescriptor(s: bigint): void {
    const result = closeSocket(s);
    if (result === -1) throw this.lastError(`close socket ${s}`, "closesocket");
  }

  /** Checks the peer of a pair: another process may have connected to the listener first. */
  #checkPeer(far: bigint, near: bigint): void {
    const { hostname, port } = this.remoteAddress(far) as Deno.NetAddr;
    const expected = this.localAddress(near) as Deno.NetAddr;
    if (hostname !== expected.hostname || port !== expected.port) {
      throw new Error(`Cannot make a socket pair: ${hostname} port ${port} connected to it`);
    }
  }

  #setNonBlocking(s: bigint, on: boolean): void {
    const result = setBlocking(s, !on);
    if (result === -1) {
      throw this.lastError(`set ${socketName(s)} to ${on ? "non-blocking" : "blocking"}`, "ioctlsocket");
    }
  }
}
