/**
 * systemfd's protocol for Windows, the receiving side.
 *
 * @module
 */
import { checkedMilliseconds } from "../ffi/milliseconds.ts";
import { connect } from "../sockets/connect.ts";
import type { Socket } from "../sockets/socket.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { converse, readToEnd } from "./bounded_exchange.ts";
import type { Environment } from "./environment.ts";
import { openBlobs } from "./opened_blobs.ts";
import { PassedSockets } from "./passed_sockets.ts";

/** The variable with the server's address, `127.0.0.1:PORT`. */
export const SYSTEMFD_SOCKET_SERVER = "SYSTEMFD_SOCKET_SERVER";
/** The variable with the secret that the server wants to hear, a UUID. */
export const SYSTEMFD_SOCKET_SECRET = "SYSTEMFD_SOCKET_SECRET";

/** Most sockets a server may send. */
const MAX_SOCKETS = 1024;

/** Where {@linkcode receiveSystemfd} asks, and how long. */
export interface ReceiveSystemfdOptions {
  /** The environment. Default `Deno.env`. */
  env?: Environment;
  /** How long connecting and talking to the server may take together, in milliseconds. Default 10 000. */
  timeout?: number;
}

/**
 * Asks the server named in the environment for this process's sockets: systemfd on Windows, or
 * {@linkcode serveSystemfd}.
 *
 * The variables are removed, so that this succeeds once and no child asks again; an error leaves them, and no descriptor
 * open. systemfd has no names for its sockets: they are known by their position.
 *
 * Needs `--allow-env=SYSTEMFD_SOCKET_SERVER,SYSTEMFD_SOCKET_SECRET`; where they are set, also ffi access to the system's
 * socket library. No net permission.
 *
 * @example A server that systemfd may have started
 * ```ts
 * import { receiveSystemfd } from "@winsock/handoff/interop";
 * import { listen } from "@winsock/handoff";
 *
 * using passed = await receiveSystemfd();
 * using listener = passed.takeListener(0) ?? listen({ hostname: "127.0.0.1", port: 0 });
 * ```
 *
 * @param options Where, and how long.
 * @returns The sockets; none where the environment names no server.
 * @throws {TypeError} If the server's address is none.
 * @throws {Deno.errors.TimedOut} If the server takes too long.
 * @throws {Deno.errors.UnexpectedEof} If it sends no sockets, as to a wrong secret, or not the whole of one.
 * @throws {RangeError} If it sends something else, or more than 1024 sockets; if the timeout is shorter than 1, or longer
 * than a timer can wait, which is 24 days.
 * @throws {WinsockError} If nobody listens there, or a socket cannot be opened.
 */
export async function receiveSystemfd(options: ReceiveSystemfdOptions = {}): Promise<PassedSockets> {
  const env = options.env ?? Deno.env;
  const timeout = checkedMilliseconds("timeout", options.timeout ?? 10_000, 1);
  const server = env.get(SYSTEMFD_SOCKET_SERVER);
  const secret = env.get(SYSTEMFD_SOCKET_SECRET);
  if (server === undefined || secret === undefined) return new PassedSockets([]);
  const bytes = await ask(parseAddress(server), `${secret}|${Deno.pid}`, timeout);
  if (bytes.byteLength === 0) {
    throw new Deno.errors.UnexpectedEof(`Cannot receive sockets from ${server}: it sent none, as to a wrong secret`);
  }
  const handles = await openBlobs(bytes);
  env.delete(SYSTEMFD_SOCKET_SERVER);
  env.delete(SYSTEMFD_SOCKET_SECRET);
  return new PassedSockets(handles.map((handle) => ({ name: "", handle })));
}

/** Says the request, ends this side, and hears the answer. */
async function ask(
  address: { hostname: string; port: number },
  request: string,
  timeout: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const started = performance.now();
  const conn = (await connectWithin(timeout, address)).toConn();
  return await converse(conn, timeout - (performance.now() - started), async () => {
    await conn.write(new TextEncoder().encode(request));
    await conn.closeWrite();
    return await readToEnd(conn, MAX_SOCKETS * WSAPROTOCOL_INFOW.size);
  });
}

async function connectWithin(timeout: number, address: { hostname: string; port: number }): Promise<Socket> {
  const late = new AbortController();
  const reason = new Deno.errors.TimedOut(
    `Cannot connect to ${address.hostname} port ${address.port}: ${timeout} ms over`,
  );
  const timer = setTimeout(() => late.abort(reason), timeout);
  try {
    return await connect({ ...address, signal: late.signal });
  } finally {
    clearTimeout(timer);
  }
}

/** `127.0.0.1:PORT` or `[::1]:PORT`. */
function parseAddress(text: string): { hostname: string; port: number } {
  const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const hostname = v6 ?? v4;
  if (hostname === undefined) {
    throw new TypeError(`Cannot receive sockets: ${SYSTEMFD_SOCKET_SERVER} is "${text}", no address and port`);
  }
  return { hostname, port: Number(port) };
}
