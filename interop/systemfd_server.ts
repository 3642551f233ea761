/**
 * systemfd's protocol for Windows, the passing side.
 *
 * @module
 */
import { checkedMilliseconds } from "../ffi/milliseconds.ts";
import { nodeBuiltin } from "../ffi/node_builtins.ts";
import { concat } from "@std/bytes/concat";
import { acceptNext } from "../sockets/accepting.ts";
import { duplicateSocket, type SharedSocket } from "../sockets/duplicate_socket.ts";
import { listen } from "../sockets/listen.ts";
import type { Listener } from "../sockets/listener.ts";
import type { Socket } from "../sockets/socket.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { converse, readToEnd } from "./bounded_exchange.ts";
import { SYSTEMFD_SOCKET_SECRET, SYSTEMFD_SOCKET_SERVER } from "./systemfd_client.ts";

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
  readonly #sockets: readonly SharedSocket[];
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
  constructor(sockets: readonly SharedSocket[], options: ServeSystemfdOptions = {}) {
    const secret = crypto.randomUUID();
    const { maxClients = 16 } = options;
    if (!(maxClients >= 1)) throw new RangeError(`maxClients must be at least 1, not ${maxClients}`);
    this.#maxClients = maxClients;
    this.#sockets = [...sockets];
    this.#options = options;
    this.#timeout = checkedMilliseconds("timeout", options.timeout ?? 5_000, 1);
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
      using socket = await acceptNext(this.#listener, (error) => this.#report(error));
      // A client may come while the server is being closed; nobody would end it any more.
      if (socket === undefined || this.#closed) return;
      this.#talk(socket);
      if (this.#clients.size >= this.#maxClients) await Promise.race(this.#clients.keys());
    }
  }

  #talk(socket: Socket): void {
    try {
      const conn = socket.toConn();
      const talking = converse(conn, this.#timeout, () => this.#serve(conn))
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
export function serveSystemfd(sockets: readonly SharedSocket[], options: ServeSystemfdOptions = {}): SystemfdServer {
  return new SystemfdServer(sockets, options);
}
