/**
 * {@linkcode SocketCalls} on Linux' libc.
 *
 * @module
 */
import { BerkeleyCalls, type BerkeleyConstants, SOCK_STREAM } from "../berkeley_calls.ts";
import type { Acceptor } from "../socket_calls.ts";
import type { WinsockError } from "../winsock_error.ts";
import { PollAcceptor } from "./acceptor.ts";
import { lastUnixError, unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { poll, POLLIN, POLLOUT } from "./poll.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET } from "./socket_flags.ts";

const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;
const EINPROGRESS = 115;

const CONSTANTS: BerkeleyConstants = {
  AF_INET6: 10,
  SO_TYPE: [SOL_SOCKET, 3],
  SO_ACCEPTCONN: [SOL_SOCKET, 30],
  SO_ERROR: [SOL_SOCKET, 4],
  IPV6_V6ONLY: [IPPROTO_IPV6, 26],
  // SO_REUSEADDR: on Linux it never shares a listening port, it only ignores connections that are still closing.
  LISTENER: [SOL_SOCKET, 2],
  options: {
    TCP_NODELAY: [IPPROTO_TCP, 1],
    SO_KEEPALIVE: [SOL_SOCKET, 9],
    SO_RCVBUF: [SOL_SOCKET, 8],
    SO_SNDBUF: [SOL_SOCKET, 7],
  },
};

/** Linux' sockets; non-blocking, closed on exec. */
export class UnixCalls extends BerkeleyCalls {
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

  protected create(family: number): bigint {
    const s = libc().socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    if (s === -1) throw this.lastError("make a socket", "socket");
    return BigInt(s);
  }

  async connect(s: bigint, address: { hostname: string; port: number }, signal?: AbortSignal): Promise<void> {
    const name = this.encodeAddress(address);
    const operation = `connect to ${address.hostname} port ${address.port}`;
    const result = libc().connect(s, name, name.byteLength);
    if (result === 0) return;
    const code = errno();
    if (code !== EINPROGRESS) throw unixError(code, operation, "connect");
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

  close(s: bigint): void {
    const result = libc().close(s);
    if (result === -1) throw this.lastError(`close socket ${s}`, "close");
  }
}
