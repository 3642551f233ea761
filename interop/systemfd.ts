/**
 * Both sides of systemfd's protocol for Windows.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { checkOptions, duration, FUNCTION, integer, MAX_UINT32, shown } from "../internal/options.ts";
import { nodeBuiltin } from "../internal/runtime.ts";
import { connect } from "../sockets/connect.ts";
import type { Socket } from "../sockets/socket.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { ENVIRONMENT, type Environment, PassedSockets } from "./passed_sockets.ts";
import { openBlobs } from "./blobs.ts";
import type { GuardedClient } from "../sockets/guarded_server.ts";
import { listen, type Listener } from "../sockets/listener.ts";
import { type AnySocket, duplicateSocket, kindOfSocket } from "../sockets/duplicate_socket.ts";
import { defaultProvider } from "../spi/default_provider.ts";

/**
 * Runs a conversation over a connection. Closes the connection at the end, or when the time limit has passed.
 *
 * @param conn The connection.
 * @param milliseconds The time limit in milliseconds.
 * @param talk The conversation.
 * @returns The result of `talk`.
 * @throws {Deno.errors.TimedOut} If it takes longer.
 */
async function withDeadline<T>(conn: Deno.TcpConn, milliseconds: number, talk: () => Promise<T>): Promise<T> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    conn.close();
  }, milliseconds);
  try {
    return await talk();
  } catch (error) {
    throw late
      ? new Deno.errors.TimedOut(`Cannot complete the request: timed out after ${milliseconds} ms`, { cause: error })
      : error;
  } finally {
    clearTimeout(timer);
    conn.close();
  }
}

/**
 * Reads from a peer until it ends its side.
 *
 * @param conn The connection.
 * @param most The most bytes to read.
 * @returns The bytes.
 * @throws {RangeError} If the peer sends more. No more is read.
 */
async function readToEnd(conn: Deno.TcpConn, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  const buffer = new Uint8Array(Math.min(most + 1, 65_536));
  for (let length = 0;;) {
    const count = await conn.read(buffer);
    if (count === null) return concat(chunks);
    length += count;
    if (length > most) throw tooMuch(most);
    chunks.push(buffer.slice(0, count));
  }
}

function tooMuch(most: number): RangeError {
  return new RangeError(`Cannot read from the peer: it sent more than ${most} bytes`);
}

/** The variable with the address of the server, `127.0.0.1:PORT`. */
const SYSTEMFD_SOCKET_SERVER = "SYSTEMFD_SOCKET_SERVER";
/** The variable with the secret that the server expects, a UUID. */
const SYSTEMFD_SOCKET_SECRET = "SYSTEMFD_SOCKET_SECRET";

/** The most sockets that a server may send. */
const MAX_SOCKETS = 1024;

/** The options of {@linkcode receiveSystemfd}. */
export interface ReceiveSystemfdOptions {
  /** The environment variables. Defaults to `Deno.env`. */
  env?: Environment;
  /** The time limit for connecting and the conversation together, in milliseconds. Defaults to `10_000`. */
  timeout?: number;
}

/**
 * Requests the sockets for this process from the server in the environment: systemfd on Windows, or {@linkcode
 * serveSystemfd}.
 *
 * The function removes the variables, so that it succeeds only once and child processes do not use them. An error
 * leaves them unchanged, and leaves no descriptor open. The sockets of systemfd do not have names; they are identified
 * by their position.
 *
 * Needs `--allow-env=SYSTEMFD_SOCKET_SERVER,SYSTEMFD_SOCKET_SECRET`. If they are set, it also needs ffi access to the
 * system's socket library, but no net permission.
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
 * @param options The environment and the time limit.
 * @returns The sockets; empty if the environment does not name a server.
 * @throws {TypeError} If the address of the server is not valid.
 * @throws {Deno.errors.TimedOut} If the server takes too long.
 * @throws {Deno.errors.UnexpectedEof} If it sends no sockets, as after a wrong secret, or an incomplete one.
 * @throws {RangeError} If it sends something else, or more than 1024 sockets; if the timeout is shorter than 1, or
 * longer than the longest duration of a timer, which is 24 days.
 * @throws {WinsockError} If no socket is listening at the address, or a socket cannot be opened.
 */
export async function receiveSystemfd(options: ReceiveSystemfdOptions = {}): Promise<PassedSockets> {
  checkOptions(options, { env: ENVIRONMENT, timeout: duration(1) });
  const env = options.env ?? Deno.env;
  const { timeout = 10_000 } = options;
  const server = env.get(SYSTEMFD_SOCKET_SERVER);
  const secret = env.get(SYSTEMFD_SOCKET_SECRET);
  if (server === undefined || secret === undefined) return new PassedSockets([]);
  const bytes = await ask(parseAddress(server), `${secret}|${Deno.pid}`, timeout);
  if (bytes.byteLength === 0) {
    throw new Deno.errors.UnexpectedEof(`Cannot receive sockets from ${server}: it sent none; the secret may be wrong`);
  }
  const handles = await openBlobs(bytes);
  env.delete(SYSTEMFD_SOCKET_SERVER);
  env.delete(SYSTEMFD_SOCKET_SECRET);
  return new PassedSockets(handles.map((handle) => ({ name: "", handle })));
}

/** Sends the request, ends this side, and reads the answer. */
async function ask(
  address: { hostname: string; port: number },
  request: string,
  timeout: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const started = performance.now();
  const conn = (await connectWithin(timeout, address)).toConn();
  return await withDeadline(conn, timeout - (performance.now() - started), async () => {
    await conn.write(new TextEncoder().encode(request));
    await conn.closeWrite();
    return await readToEnd(conn, MAX_SOCKETS * WSAPROTOCOL_INFOW.size);
  });
}

async function connectWithin(timeout: number, address: { hostname: string; port: number }): Promise<Socket> {
  const late = new AbortController();
  const reason = new Deno.errors.TimedOut(
    `Cannot connect to ${address.hostname} port ${address.port}: timed out after ${timeout} ms`,
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
    throw new TypeError(
      `Cannot receive sockets: ${SYSTEMFD_SOCKET_SERVER} must be an address and port, got ${shown(text)}`,
    );
  }
  return { hostname, port: Number(port) };
}

/** A UUID, a bar and a process id of 32 bits. */
const MAX_REQUEST = 36 + 1 + 10;

/** The options of {@linkcode serveSystemfd}. */
export interface ServeSystemfdOptions {
  /** The only process that may have the sockets. Defaults to any process that knows the secret. */
  processId?: number;
  /** The time limit for one client, from connecting to the end, in milliseconds. Defaults to `5000`. */
  timeout?: number;
  /**
   * The most clients at a time, from 1. One more takes the place of the client that has been there the longest without
   * saying the secret; if all have said it, it waits. Defaults to `16`.
   */
  maxClients?: number;
  /** Called when a client is refused or `accept` fails. Errors are ignored by default. */
  onError?: (error: unknown) => void;
}

/** A running server; {@linkcode serveSystemfd} starts it. */
export class SystemfdServer implements AsyncDisposable {
  /**
   * The variables for the environment of the process that should have the sockets. Any process that knows them can have
   * the sockets.
   */
  readonly env: Readonly<Record<"SYSTEMFD_SOCKET_SERVER" | "SYSTEMFD_SOCKET_SECRET", string>>;
  readonly #sockets: readonly AnySocket[];
  readonly #options: ServeSystemfdOptions;
  readonly #listener: Listener;
  readonly #secret: Uint8Array;
  readonly #stop = new AbortController();
  readonly #serving: Promise<void>;
  #closed = false;

  /**
   * Starts a server on a port of 127.0.0.1 that the system chooses, with a new secret.
   *
   * @param sockets The sockets for every client. They still belong to the caller.
   * @param options The clients to serve, and their time limit.
   * @throws {RangeError} If the timeout is shorter than 1, or longer than the longest duration of a timer, which is 24
   * days; if `maxClients` is not an integer from 1, or `processId` not one from 1 to 4 294 967 295.
   * @throws {TypeError} If a socket is not an object of this copy of the library, or an option is of another type.
   */
  constructor(sockets: readonly AnySocket[], options: ServeSystemfdOptions = {}) {
    const secret = crypto.randomUUID();
    checkOptions(options, {
      maxClients: integer(1),
      timeout: duration(1),
      processId: integer(1, MAX_UINT32),
      onError: FUNCTION,
    });
    for (const socket of sockets) kindOfSocket(socket);
    this.#sockets = [...sockets];
    this.#options = options;
    this.#secret = new TextEncoder().encode(secret);
    this.#listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { hostname, port } = this.#listener.addr;
    this.env = { [SYSTEMFD_SOCKET_SERVER]: `${hostname}:${port}`, [SYSTEMFD_SOCKET_SECRET]: secret };
    this.#serving = this.#serveAll();
  }

  /** Stops the server, and closes the connections of the clients that are being served. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#listener.close();
    this.#stop.abort();
    await this.#serving;
  }

  /** The same as {@linkcode SystemfdServer.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #serveAll(): Promise<void> {
    const { serveGuarded } = await import("../sockets/guarded_server.ts");
    const { maxClients = 16, timeout = 5_000 } = this.#options;
    const onError = (error: unknown) => this.#report(error);
    await serveGuarded(this.#listener, { maxClients, timeout, onError, signal: this.#stop.signal }, async (client) => {
      const processId = this.#authorize(await this.#readRequest(client, timeout));
      await this.#serve(client.connection(), processId);
    });
  }

  /** Reads a request. A client that says the secret is admitted before the request has ended. */
  async #readRequest(client: GuardedClient, timeout: number): Promise<Uint8Array> {
    let request = new Uint8Array(0);
    for (;;) {
      const bytes = await client.socket.read(MAX_REQUEST + 1);
      if (bytes === null) return request;
      request = concat([request, bytes]);
      if (request.byteLength > MAX_REQUEST) throw tooMuch(MAX_REQUEST);
      if (this.#hasSecret(request)) client.admit(timeout);
    }
  }

  async #serve(conn: Deno.TcpConn, processId: number): Promise<void> {
    const blobs: Uint8Array[] = [];
    try {
      for (const socket of this.#sockets) blobs.push(duplicateSocket(socket, processId));
      await conn.write(concat(blobs));
      await conn.closeWrite();
    } catch (error) {
      for (const blob of blobs) defaultProvider().withdraw(blob);
      throw error;
    }
  }

  /** Checks the secret of a request and returns its process id. */
  #authorize(request: Uint8Array): number {
    if (!this.#hasSecret(request)) throw new Deno.errors.PermissionDenied("Cannot serve a client: its secret is wrong");
    const rest = nodeBuiltin("node:buffer").Buffer.from(request.subarray(this.#secret.byteLength)).toString("latin1");
    const processId = /^\|[1-9]\d*$/.test(rest) ? Number(rest.slice(1)) : 0;
    if (processId === 0 || processId > MAX_UINT32) {
      throw new TypeError(`Cannot serve a client: ${shown(rest)} is not a process id`);
    }
    const { processId: only = processId } = this.#options;
    if (processId !== only) {
      throw new Deno.errors.PermissionDenied(
        `Cannot serve a client: it is process ${processId}, and the sockets are for process ${only}`,
      );
    }
    return processId;
  }

  #hasSecret(request: Uint8Array): boolean {
    const secret = request.subarray(0, this.#secret.byteLength);
    return secret.byteLength === this.#secret.byteLength &&
      nodeBuiltin("node:crypto").timingSafeEqual(secret, this.#secret);
  }

  #report(error: unknown): void {
    if (!this.#closed) this.#options.onError?.(error);
  }
}

/**
 * Offers sockets to the processes that know the secret, as systemfd does on Windows. A child with {@linkcode
 * SystemfdServer.env} in its environment can fetch them with Rust's `listenfd`, with {@linkcode receiveSystemfd}, or
 * with a few lines of C. Its successor can fetch them again after a restart.
 *
 * A client that is slow, sends something else or sends too much is disconnected, without an effect on other clients:
 * {@linkcode ServeSystemfdOptions.maxClients} clients that are silent do not keep others out. A process that knows the secret can name any process: set `processId` if it is known. If a client disconnects early,
 * its duplicates stay with that process until it ends, on Windows. On Linux and macOS they are withdrawn.
 *
 * Needs ffi access to the system's socket library, and no net permission.
 *
 * @example A child that fetches its listener
 * ```ts
 * import { listen, LIBRARY_PATHS } from "@winsock/handoff";
 * import { serveSystemfd } from "@winsock/handoff/interop";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * await using server = serveSystemfd([listener]);
 * const child = new Deno.Command(Deno.execPath(), { args: ["eval", "1"], env: { ...server.env } });
 * await child.output();
 * ```
 *
 * @param sockets The sockets for every client, in this order. They stay open and still belong to the caller.
 * @param options The clients to serve, and their time limit.
 * @returns The running server.
 * @throws {RangeError} If the timeout is shorter than 1, or longer than the longest duration of a timer, which is 24
 * days; if `maxClients` is not an integer from 1, or `processId` not one from 1 to 4 294 967 295.
 * @throws {TypeError} If a socket is not an object of this copy of the library, or an option is of another type.
 * @throws {WinsockError} If the system has no port left.
 */
export function serveSystemfd(sockets: readonly AnySocket[], options: ServeSystemfdOptions = {}): SystemfdServer {
  return new SystemfdServer(sockets, options);
}
