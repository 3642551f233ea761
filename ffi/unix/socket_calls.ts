/**
 * {@linkcode SocketCalls} on Linux' libc.
 *
 * @module
 */
import { describeAddress, type InternetAddress, type SocketAddress } from "../addresses.ts";
import { BerkeleyCalls, type BerkeleyConstants, POLL_SLICE_MS, SOCK_STREAM } from "../berkeley_calls.ts";
import type { Acceptor, DatagramReceiver } from "../socket_calls.ts";
import { PolledReceiver } from "../datagrams.ts";
import { Poller } from "../poller.ts";
import { StreamIo } from "../stream_io.ts";
import type { WinsockError } from "../winsock_error.ts";
import { PollAcceptor } from "./acceptor.ts";
import { receiveNow, sendNow } from "./datagrams.ts";
import { lastUnixError, unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { encodeLocalAddress } from "./local_address.ts";
import { poll, POLLIN, POLLOUT } from "./poll.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET } from "./socket_flags.ts";
import { UNIX_POLL, UNIX_STREAMS } from "./streams.ts";

const IPPROTO_IP = 0;
const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;
const EAGAIN = 11;
const EINPROGRESS = 115;
const CONNECT_DELAY_MS = 2;

const CONSTANTS: BerkeleyConstants = {
  AF_INET6: 10,
  SO_TYPE: [SOL_SOCKET, 3],
  SO_ACCEPTCONN: [SOL_SOCKET, 30],
  SO_ERROR: [SOL_SOCKET, 4],
  IP_ADD_MEMBERSHIP: [IPPROTO_IP, 35],
  IP_DROP_MEMBERSHIP: [IPPROTO_IP, 36],
  IPV6_ADD_MEMBERSHIP: [IPPROTO_IPV6, 20],
  IPV6_DROP_MEMBERSHIP: [IPPROTO_IPV6, 21],
  // SO_REUSEADDR: on Linux it never shares a listening port, it only ignores connections that are still closing.
  LISTENER: [SOL_SOCKET, 2],
  lingerWidth: 4,
  options: {
    TCP_NODELAY: [IPPROTO_TCP, 1],
    TCP_KEEPIDLE: [IPPROTO_TCP, 4],
    TCP_KEEPINTVL: [IPPROTO_TCP, 5],
    TCP_KEEPCNT: [IPPROTO_TCP, 6],
    SO_KEEPALIVE: [SOL_SOCKET, 9],
    SO_LINGER: [SOL_SOCKET, 13],
    SO_RCVBUF: [SOL_SOCKET, 8],
    SO_SNDBUF: [SOL_SOCKET, 7],
    SO_EXCLUSIVEADDRUSE: undefined,
    SO_REUSEADDR: [SOL_SOCKET, 2],
    SO_REUSEPORT: [SOL_SOCKET, 15],
    SO_BROADCAST: [SOL_SOCKET, 6],
    IPV6_V6ONLY: [IPPROTO_IPV6, 26],
    IP_MULTICAST_IF: [IPPROTO_IP, 32],
    IP_MULTICAST_LOOP: [IPPROTO_IP, 34],
    IP_MULTICAST_TTL: [IPPROTO_IP, 33],
    IPV6_MULTICAST_IF: [IPPROTO_IPV6, 17],
    IPV6_MULTICAST_LOOP: [IPPROTO_IPV6, 19],
    IPV6_MULTICAST_HOPS: [IPPROTO_IPV6, 18],
  },
};

/** Linux' sockets; non-blocking, closed on exec. */
export class UnixCalls extends BerkeleyCalls {
  protected readonly poller: Poller = new Poller(UNIX_POLL);

  constructor() {
    const recv = (s: bigint, buffer: BufferSource, length: number, flags: number) => {
      return Number(libc().recv(s, buffer, BigInt(length), flags));
    };
    super({ ...libc(), recv }, CONSTANTS);
  }

  protected lastError(operation: string, functionName: string): WinsockError {
    return lastUnixError(operation, functionName);
  }

  protected errorOf(code: number, operation: string, functionName: string): WinsockError {
    return unixError(code, operation, functionName);
  }

  /** Protocol 0: the only one of its family and type. */
  protected create(family: number, type: number): bigint {
    const s = libc().socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s === -1) throw this.lastError("make a socket", "socket");
    return BigInt(s);
  }

  protected encodeAddress(address: SocketAddress): Uint8Array<ArrayBuffer> {
    return "path" in address ? encodeLocalAddress(address.path) : this.addresses.encode(address);
  }

  openLocal(): bigint {
    return this.create(AF_UNIX, SOCK_STREAM);
  }

  async connect(s: bigint, address: SocketAddress, signal?: AbortSignal): Promise<void> {
    const name = this.encodeAddress(address);
    const operation = `connect to ${describeAddress(address)}`;
    for (;;) {
      const result = libc().connect(s, name, name.byteLength);
      if (result === 0) return;
      const code = errno();
      if (code === EINPROGRESS) break;
      if (code !== EAGAIN || !("path" in address)) throw unixError(code, operation, "connect");
      // Too many others wait there, and nothing tells when one is accepted.
      await new Promise((resolve) => setTimeout(resolve, CONNECT_DELAY_MS));
      signal?.throwIfAborted();
    }
    await this.connected(s, operation, (milliseconds) => poll(milliseconds, [s, POLLOUT]), signal);
  }

  protected async readable(s: bigint, milliseconds: number): Promise<number> {
    return await poll(milliseconds, [s, POLLIN]);
  }

  pair(): [bigint, bigint] {
    const descriptors = new Int32Array(2);
    const result = libc().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, descriptors);
    if (result === -1) throw this.lastError("make a socket pair", "socketpair");
    return [BigInt(descriptors[0]!), BigInt(descriptors[1]!)];
  }

  /** Nothing to do: `accept4` makes sockets that are not inherited. */
  holdAccepting(): Promise<Disposable> {
    return Promise.resolve({ [Symbol.dispose]() {} });
  }

  acceptor(listener: bigint): Acceptor {
    return new PollAcceptor(this, listener);
  }

  sendDatagram(s: bigint, data: Uint8Array, address: InternetAddress): number | undefined {
    const operation = `send a datagram of ${data.byteLength} bytes to ${describeAddress(address)}`;
    return sendNow(s, data as Uint8Array<ArrayBuffer>, this.addresses.encode(address), operation);
  }

  async writable(s: bigint): Promise<void> {
    // Should it fail, sending tells why.
    await poll(POLL_SLICE_MS, [s, POLLOUT]);
  }

  /** Nothing to do: each call says that it must not wait. */
  unblock(): void {}

  receiver(s: bigint): DatagramReceiver {
    return new PolledReceiver(s, this.addresses, receiveNow, this.poller.prepare());
  }

  stream(s: bigint): StreamIo {
    return new StreamIo(s, UNIX_STREAMS, this.poller.prepare());
  }

  close(s: bigint): void {
    const result = libc().close(s);
    if (result === -1) throw this.lastError(`close socket ${s}`, "close");
  }
}
