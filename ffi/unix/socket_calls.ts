/**
 * {@linkcode SocketCalls} on Unix' libc.
 *
 * @module
 */
import { AF_UNIX, describeAddress, type InternetAddress, type SocketAddress } from "../addresses.ts";
import { BerkeleyCalls } from "../berkeley_calls.ts";
import { type Acceptor, type DatagramReceiver, type SocketMaker, socketName } from "../socket_calls.ts";
import { PolledReceiver } from "../datagrams.ts";
import type { Poller } from "../poller.ts";
import type { OptionNumbers } from "../socket_options.ts";
import { StreamIo } from "../stream_io.ts";
import { inWorker, useThreadEnd } from "../unload.ts";
import type { WinsockError } from "../winsock_error.ts";
import { SOCK } from "../../structs/constants.ts";
import { UnixAcceptor } from "./acceptor.ts";
import { unixAddresses } from "./addresses.ts";
import { receiveNow, sendNow } from "./datagrams.ts";
import { setNonblocking } from "./descriptor_flags.ts";
import { isErrno, lastUnixError, unixError } from "./errno.ts";
import { closeElsewhere, errno, libc, SHUT_RDWR } from "./libc.ts";
import { encodeLocalAddress } from "./local_address.ts";
import { newSocket, newSocketPair } from "./new_descriptors.ts";
import { unixPoller } from "./poll_system.ts";
import { hasListened } from "./socket_info.ts";
import { recvNow, UNIX_STREAMS } from "./streams.ts";
import { unixSystem } from "./system.ts";
import { GlibcThreadEnd } from "./thread_end.ts";

const CONNECT_DELAY_MS = 2;

/** Unix' sockets; non-blocking, closed on exec. */
export class UnixCalls extends BerkeleyCalls {
  constructor() {
    super(libc(), unixSystem().berkeley, unixAddresses());
    const threadEnd = inWorker && unixSystem().glibc ? GlibcThreadEnd.open() : undefined;
    if (threadEnd !== undefined) useThreadEnd(threadEnd);
  }

  protected get poller(): Poller {
    return unixPoller();
  }

  protected lastError(operation: string, functionName: string): WinsockError {
    return lastUnixError(operation, functionName);
  }

  protected errorOf(code: number, operation: string, functionName: string): WinsockError {
    return unixError(code, operation, functionName);
  }

  protected create(family: number, type: number): bigint {
    return newSocket(family, type);
  }

  override isListening(s: bigint, operation: string): boolean {
    return unixSystem().tellsListening ? super.isListening(s, operation) : hasListened(s, operation);
  }

  protected override get sharedDatagram(): readonly OptionNumbers[] {
    return unixSystem().SHARED_DATAGRAM;
  }

  protected encodeAddress(address: SocketAddress): Uint8Array<ArrayBuffer> {
    return "path" in address ? encodeLocalAddress(address.path) : this.addresses.encode(address);
  }

  openLocal(): bigint {
    return this.create(AF_UNIX, SOCK.SOCK_STREAM);
  }

  async connect(s: bigint, address: SocketAddress, signal?: AbortSignal): Promise<void> {
    const name = this.encodeAddress(address);
    const operation = `connect to ${describeAddress(address)}`;
    for (;;) {
      const result = libc().connect(s, name, name.byteLength);
      if (result === 0) return;
      const code = errno();
      if (isErrno(code, "EINPROGRESS")) break;
      if (!isErrno(code, "EAGAIN") || !("path" in address)) throw unixError(code, operation, "connect");
      // Too many others wait there, and nothing tells when one is accepted.
      await new Promise((resolve) => setTimeout(resolve, CONNECT_DELAY_MS));
      signal?.throwIfAborted();
    }
    await this.connected(s, operation, signal);
  }

  protected receiveNow(
    s: bigint,
    buffer: Uint8Array<ArrayBuffer>,
    flags: number,
    operation: string,
  ): number | undefined {
    return recvNow(s, buffer, flags, () => operation);
  }

  pair(): [bigint, bigint] {
    return newSocketPair();
  }

  /** Nothing to do: between accepting a socket and keeping it from being inherited, this thread spawns nothing. */
  holdAccepting(): Promise<Disposable> {
    return Promise.resolve({ [Symbol.dispose]() {} });
  }

  acceptor(listener: bigint, maker: SocketMaker): Acceptor {
    return new UnixAcceptor(maker, listener, this.poller.prepare());
  }

  sendDatagram(s: bigint, data: Uint8Array, address: InternetAddress): number | undefined {
    const operation = `send a datagram of ${data.byteLength} bytes to ${describeAddress(address)}`;
    return sendNow(s, data as Uint8Array<ArrayBuffer>, this.addresses.encode(address), operation);
  }

  /** Nothing to do: each call says that it must not wait. */
  unblock(): void {}

  receiver(s: bigint): DatagramReceiver {
    return new PolledReceiver(s, this.addresses, receiveNow, this.poller.prepare());
  }

  shutDown(s: bigint): void {
    libc().shutdown(s, SHUT_RDWR);
  }

  stream(s: bigint, nonBlocking = false): StreamIo {
    // On macOS the flag of the calls is not enough for sending.
    if (!nonBlocking) setNonblocking(s, `read and write ${socketName(s)}`);
    return new StreamIo(s, UNIX_STREAMS, this.poller.prepare());
  }

  closeElsewhere(s: bigint, end: boolean): void {
    closeElsewhere(s, end).catch(() => {});
  }

  protected closeDescriptor(s: bigint): void {
    const result = libc().close(s);
    if (result === -1) throw this.lastError(`close socket ${s}`, "close");
  }
}
