/**
 * systemfd's protocol for Windows, both sides.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { nodeBuiltin, validateDuration } from "../internal/runtime.ts";
import { connect } from "../sockets/connect.ts";
import type { Socket } from "../sockets/socket.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { type Environment, PassedSockets } from "./passed_sockets.ts";
import { openBlobs } from "./blobs.ts";
import { acceptWithRetry, listen, type Listener } from "../sockets/listener.ts";
import { type AnySocket, duplicateSocket } from "../sockets/duplicate_socket.ts";
import { defaultProvider } from "../spi/default_provider.ts";

/**
 * Talks over a connection, which is closed at the end, or when it takes too long.
 *
 * @param conn The connection.
 * @param milliseconds How long it may take.
 * @param talk What is said.
 * @returns What `talk` returns.
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
    throw late ? new Deno.errors.TimedOut(`The peer took longer than ${milliseconds} ms`, { cause: error }) : error;
  } finally {
    clearTimeout(timer);
    conn.close();
  }
}

/**
 * Reads what a peer says until it ends its side.
 *
 * @param conn The connection.
 * @param most The most bytes it may say.
 * @returns The bytes.
 * @throws {RangeError} If it says more; nothing more is read.
 */
async function readToEnd(conn: Deno.TcpConn, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  const buffer = new Uint8Array(Math.min(most + 1, 65_536));
  for (let length = 0;;) {
    const count = await conn.read(buffer);
    if (count === null) return concat(chunks);
    length += count;
    if (length > most) throw new RangeError(`The peer sent more than ${most} bytes`);
    chunks.push(buffer.slice(0, count));
  }
}

/** The variable with the server's address, `127.0.0.1:PORT`. */
const SYSTEMFD_SOCKET_SERVER = "SYSTEMFD_SOCKET_SERVER";
/** The variable with the secret that the server wants to hear, a UUID. */
const SYSTEMFD_SOCKET_SECRET = "SYSTEMFD_SOCKET_SECRET";

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
  const timeout = validateDuration("timeout", options.timeout ?? 10_000, 1);
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
  return await withDeadline(conn, timeout - (performance.now() - started), async () => {
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

/** A UUID, a bar and a process id of 32 bits. */
const MAX_REQUEST = 36 + 1 + 10;
const MAX_PROCESS_ID = 0xffff_ffff;

/** Whom {@linkcode serveSystemfd} serves, and how long. */
export interface ServeSystemfdOptions {
  /** The only process that may have the sockets. Default any process that knows the secret. */
  processId?: number;
  /** How long one client may take from connecting to the end, in milliseconds. Default 5000. */
  timeout?: number;
  /** How many clients may talk at the same time, at least 1; the others wait. Default 16. */
  maxClients?: number;
  /** Hears why a client got nothing, or why none could be accepted. Default nobody does. */
  onError?: (error: unknown) => void;
}

/** A running server; {@linkcode serveSystemfd} starts it. */
export class SystemfdServer implements AsyncDisposable {
  /** The variables for the environment of whoever is to have the sockets. Who knows them can have the sockets. */
  readonly env: Readonly<Record<"SYSTEMFD_SOCKET_SERVER" | "SYSTEMFD_SOCKET_SECRET", string>>;
  readonly #sockets: readonly AnySocket[];
  readonly #options: ServeSystemfdOptions;
  readonly #timeout: number;
  readonly #maxClients: number;
  readonly #listener: Listener;
  readonly #secret: Uint8Array;
  readonly #clients = new Map<Promise<void>, Deno.TcpConn>();
  readonly #accepting: Promise<void>;
  #closed = false;

  /**
   * Starts a server on a port of 127.0.0.1 that the system chooses, with a new secret.
   *
   * @param sockets What every client gets. They stay the caller's.
   * @param options Whom it serves, and how long.
   * @throws {RangeError} If the timeout is shorter than 1, or longer than a timer can wait, which is 24 days; if
   * `maxClients` is less than 1.
   */
  constructor(sockets: readonly AnySocket[], options: ServeSystemfdOptions = {}) {
    const secret = crypto.randomUUID();
    const { maxClients = 16 } = options;
    if (!(maxClients >= 1)) throw new RangeError(`maxClients must be at least 1, not ${maxClients}`);
    this.#maxClients = maxClients;
    this.#sockets = [...sockets];
    this.#options = options;
    this.#timeout = validateDuration("timeout", options.timeout ?? 5_000, 1);
    this.#secret = new TextEncoder().encode(secret);
    this.#listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { hostname, port } = this.#listener.addr;
    this.env = { [SYSTEMFD_SOCKET_SERVER]: `${hostname}:${port}`, [SYSTEMFD_SOCKET_SECRET]: secret };
    this.#accepting = this.#accept();
  }

  /** Stops, and closes the connections of clients that are being served. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#listener.close();
    for (const conn of this.#clients.values()) conn.close();
    await this.#accepting;
    await Promise.all(this.#clients.keys());
  }

  /** The same as {@linkcode SystemfdServer.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #accept(): Promise<void> {
    for (;;) {
      using socket = await acceptWithRetry(this.#listener, (error) => this.#report(error));
      // A client may come while the server is being closed; nobody would end it any more.
      if (socket === undefined || this.#closed) return;
      this.#talk(socket);
      if (this.#clients.size >= this.#maxClients) await Promise.race(this.#clients.keys());
    }
  }

  #talk(socket: Socket): void {
    try {
      const conn = socket.toConn();
      const talking = withDeadline(conn, this.#timeout, () => this.#serve(conn))
        .catch((error) => this.#report(error))
        .finally(() => this.#clients.delete(talking));
      this.#clients.set(talking, conn);
    } catch (error) {
      this.#report(error);
    }
  }

  async #serve(conn: Deno.TcpConn): Promise<void> {
    const processId = this.#authorize(await readToEnd(conn, MAX_REQUEST));
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

  /** The process id of a request with the right secret. */
  #authorize(request: Uint8Array): number {
    const secret = request.subarray(0, this.#secret.byteLength);
    const known = secret.byteLength === this.#secret.byteLength &&
      nodeBuiltin("node:crypto").timingSafeEqual(secret, this.#secret);
    if (!known) throw new Deno.errors.PermissionDenied("A client does not know the secret");
    const rest = nodeBuiltin("node:buffer").Buffer.from(request.subarray(this.#secret.byteLength)).toString("latin1");
    const processId = /^\|[1-9]\d*$/.test(rest) ? Number(rest.slice(1)) : 0;
    if (processId === 0 || processId > MAX_PROCESS_ID) throw new TypeError(`A client says "${rest}", no process id`);
    const { processId: only = processId } = this.#options;
    if (processId !== only) {
      throw new Deno.errors.PermissionDenied(
        `A client is process ${processId}, and the sockets are for process ${only}`,
      );
    }
    return processId;
  }

  #report(error: unknown): void {
    if (!this.#closed) this.#options.onError?.(error);
  }
}

/**
 * Offers sockets to the processes that know the secret, as systemfd does on Windows: a child with
 * {@linkcode SystemfdServer.env} in its environment can fetch them, with Rust's `listenfd`, with
 * {@linkcode receiveSystemfd}, or with a few lines of C; and so can its successor after a restart.
 *
 * A client that is slow, says something else or says too much is cut off, and disturbs no other. A process that knows
 * the secret can name any process: give `processId` where it is known. What was duplicated for a client that breaks off
 * stays with that process until it ends, on Windows; on Linux and macOS it is withdrawn.
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
 * @param sockets What every client gets, in this order. They stay open and the caller's.
 * @param options Whom it serves, and how long.
 * @returns The running server.
 * @throws {RangeError} If the timeout is shorter than 1, or longer than a timer can wait, which is 24 days; if
 * `maxClients` is less than 1.
 * @throws {WinsockError} If the system has no port left.
 */
export function serveSystemfd(sockets: readonly AnySocket[], options: ServeSystemfdOptions = {}): SystemfdServer {
  return new SystemfdServer(sockets, options);
}
