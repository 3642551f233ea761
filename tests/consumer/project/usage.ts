// Programs as somebody else writes them, one for each entry point; they are type-checked, and not run.
import {
  type AnySocket,
  connect,
  type DispatchResult,
  duplicateSocket,
  HandoffError,
  type HandoffOutcome,
  inherit,
  listenDatagram,
  type Listener,
  openSocket,
  type PoolServeOptions,
  receive,
  type ReceiveOptions,
  type SendOptions,
  type Socket,
  upgrade,
  type UpgradeResult,
  WinsockError,
  WorkerPool,
  type WorkerPoolOptions,
} from "@winsock/handoff";
import { main, type Terminal } from "@winsock/handoff/cli";
import { ws2_32 } from "@winsock/handoff/ffi";
import { type HttpHandler, type HttpServer, type HttpTlsOptions, serveHttp } from "@winsock/handoff/http";
import { type BlobOptions, readBlobs, systemdSockets } from "@winsock/handoff/interop";
import { defaultProvider, type ServiceProvider } from "@winsock/handoff/spi";
import {
  AF,
  FROM_PROTOCOL_INFO,
  type Struct,
  type WinsockErrorName,
  WSAPROTOCOL_INFOW,
} from "@winsock/handoff/structs";
import type { Buffer } from "node:buffer";
import type net from "node:net";

/** Fails to compile for `any`, which is what a type becomes that cannot be found. */
type Known<T> = 0 extends 1 & T ? never : T;

const READY: WorkerPoolOptions & { script: URL } = { script: new URL("worker.ts", import.meta.url), size: 2 };
const ADVICE: Record<HandoffOutcome, string> = {
  "rejected": "Another worker may take it",
  "timeout": "The worker is slow",
  "target-exited": "The worker is gone",
  "channel-broken": "The worker is not one of this library",
  "overloaded": "Too many sockets wait",
  "closed": "The pool was closed",
};

export async function serveFromPool(listener: Listener, options: SendOptions): Promise<DispatchResult[]> {
  await using pool = new WorkerPool(READY);
  await pool.ready;
  pool.addEventListener("workerend", ({ worker, reason, exitCode }) => console.error(worker.index, reason, exitCode));
  pool.addEventListener("connectiondrop", ({ error }) => console.error(error));
  const dispatched: DispatchResult[] = [];
  for await (const socket of listener) {
    try {
      dispatched.push(await pool.dispatch(socket, options));
    } catch (error) {
      if (error instanceof HandoffError) console.error(ADVICE[error.outcome]);
      else if (error instanceof WinsockError) console.error(error.codeName, error.code);
      socket.close();
    }
  }
  return dispatched;
}

export async function acceptInPool(listener: Listener, options: Known<PoolServeOptions>): Promise<string | undefined> {
  await using pool = new WorkerPool(READY);
  await pool.serve(listener, options);
  await pool.restart({ drainTimeout: 60_000 });
  return (await pool.closed)?.message;
}

export async function listenersOnly(): Promise<Known<Listener>[]> {
  const listeners: Listener[] = [];
  for await (const { socket } of receive({ kinds: ["listener"], autoAccept: true })) listeners.push(socket);
  return listeners;
}

export function asConn(socket: Socket): Deno.TcpConn {
  return socket.toConn();
}

export function asNodeSocket(socket: Socket): net.Socket {
  return socket.toNodeSocket();
}

export async function throughAnyIpc(port: number): Promise<Known<AnySocket>> {
  using socket = await connect({ hostname: "127.0.0.1", port });
  const blob: Uint8Array = duplicateSocket(socket, Deno.pid);
  return await openSocket(blob);
}

export async function answerDatagrams(options: ReceiveOptions): Promise<number> {
  using datagrams: Deno.DatagramConn & Disposable = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  const [bytes, sender] = await datagrams.receive();
  return options.signal?.aborted ? 0 : await datagrams.send(bytes, sender);
}

export async function replace(script: URL): Promise<UpgradeResult> {
  using version = await inherit();
  version.listen("web", { hostname: "127.0.0.1", port: 8080 });
  return await upgrade(version, { script });
}

export function serveTls(listener: Listener, tls: Known<HttpTlsOptions>, handler: HttpHandler): HttpServer {
  return serveHttp(listener, handler, { tls });
}

export async function lookInto(stream: ReadableStream<Uint8Array>, options: BlobOptions): Promise<string[]> {
  const layout: Struct<WSAPROTOCOL_INFOW> = WSAPROTOCOL_INFOW;
  const names: string[] = [];
  for await (const blob of readBlobs(stream, options)) {
    const { iAddressFamily, szProtocol } = layout.decode(blob);
    if (iAddressFamily === AF.AF_INET) names.push(szProtocol);
  }
  return names;
}

export const errorName: Known<WinsockErrorName> = "WSAENOTSOCK";

export function counting(next: ServiceProvider, counted: () => void): Known<ServiceProvider> {
  return {
    protocolInfo: next.protocolInfo,
    duplicateSocket(s, processId) {
      counted();
      return next.duplicateSocket(s, processId);
    },
    socket: (info, flags) => next.socket(info, flags),
    withdraw: (info) => next.withdraw(info),
    closeSocket: (s) => next.closeSocket(s),
  };
}

export function openNatively(blob: Buffer): bigint {
  const info = Uint8Array.from(blob);
  return ws2_32().WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, info, 0, 1);
}

export async function explain(terminal: Known<Terminal>): Promise<number> {
  console.log(defaultProvider().protocolInfo.szProtocol, Object.keys(systemdSockets()));
  return await main(["errors", errorName], terminal);
}
