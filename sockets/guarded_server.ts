/**
 * Serves clients on a port of this machine that every process can connect to, and that must prove something before they
 * get anything.
 *
 * A client that has proved nothing is a stranger. Strangers have a time limit, and there is room for few: one more
 * takes the place of the stranger that has been there the longest. So strangers cannot keep others out, however many
 * connections they hold. A client that knows what to say says it at once, and is not a stranger any more when the next ones come.
 * {@linkcode GRACE_MS} is what it has for that, whatever comes. It also bounds how many connections a flood can have
 * accepted; the others wait in the backlog, and what they say arrives meanwhile.
 *
 * @module
 */
import { settleWithin } from "../internal/runtime.ts";
import { acceptWithRetry, follow, type Listener } from "./listener.ts";
import type { Socket } from "./socket.ts";

/** The time that a stranger has even if others wait, in milliseconds. */
const GRACE_MS = 20;

/** Options of {@linkcode serveGuarded}. */
export interface GuardOptions {
  /** The most clients at a time, from 1. If none of them is a stranger, the next one waits. */
  readonly maxClients: number;
  /** The time that a stranger has, in milliseconds. */
  readonly timeout: number;
  /** The signal that disconnects all clients. */
  readonly signal?: AbortSignal;
  /** Called if a client was not served, or if the system cannot accept. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** A client of {@linkcode serveGuarded}. */
export interface GuardedClient {
  /** Its socket, for reading what it has to prove. */
  readonly socket: Socket;
  /** Its connection, for the answer. The socket cannot be used any more. */
  connection(): Deno.TcpConn;
  /**
   * Says that the client is not a stranger.
   *
   * @param milliseconds The time that it has from now on. Defaults to no limit.
   */
  admit(milliseconds?: number): void;
}

/** A client, as the server sees it. */
class Client implements GuardedClient {
  readonly socket: Socket;
  /** Whether it has proved nothing yet. */
  stranger = true;
  /** When it came, in the time of `performance.now()`. */
  readonly since = performance.now();
  /** Why the server has closed it. */
  reason: Error | undefined;
  #conn: Deno.TcpConn | undefined;
  #deadline: ReturnType<typeof setTimeout> | undefined;

  constructor(socket: Socket, timeout: number) {
    this.socket = socket;
    this.#limit(timeout);
  }

  connection(): Deno.TcpConn {
    return this.#conn ??= this.socket.toConn();
  }

  admit(milliseconds?: number): void {
    this.stranger = false;
    this.#limit(milliseconds);
  }

  #limit(milliseconds: number | undefined): void {
    clearTimeout(this.#deadline);
    if (milliseconds === undefined) return;
    this.#deadline = setTimeout(() => {
      this.close(new Deno.errors.TimedOut(`Cannot serve a client: it took longer than ${milliseconds} ms`));
    }, milliseconds);
  }

  /** @param reason Why it is closed before it was served. */
  close(reason?: Error): void {
    this.reason ??= reason;
    clearTimeout(this.#deadline);
    (this.#conn ?? this.socket).close();
  }
}

/**
 * Serves clients until the listener is closed. Strangers are then disconnected, and the others served to the end.
 *
 * @param listener The listener, on which nothing else accepts.
 * @param options The limits.
 * @param talk Serves one client. Its connection is closed afterwards. It must read no more than it expects.
 * @returns Resolves when no client is served any more.
 */
export async function serveGuarded(
  listener: Listener,
  options: GuardOptions,
  talk: (client: GuardedClient) => Promise<void>,
): Promise<void> {
  await new GuardedServer(listener, options, talk).serve();
}

class GuardedServer {
  readonly #listener: Listener;
  readonly #options: GuardOptions;
  readonly #talk: (client: GuardedClient) => Promise<void>;
  /** The clients in the order in which they came, each with the end of its conversation. */
  readonly #clients = new Map<Client, Promise<void>>();
  readonly #closed = Promise.withResolvers<void>();
  #over = false;

  constructor(listener: Listener, options: GuardOptions, talk: (client: GuardedClient) => Promise<void>) {
    this.#listener = listener;
    this.#options = options;
    this.#talk = talk;
  }

  async serve(): Promise<void> {
    const closed = () => this.#closed.resolve();
    using _following = follow(this.#listener, { pause: () => Promise.resolve(), resume: () => {}, closed });
    this.#closed.promise.then(() => this.#disconnect(({ stranger }) => stranger));
    const { signal } = this.#options;
    const abort = () => this.#disconnect(() => true);
    signal?.addEventListener("abort", abort);
    try {
      for (;;) {
        const socket = await acceptWithRetry(this.#listener, this.#options.onError);
        if (socket === undefined) break;
        if (!(await this.#room())) {
          socket.close();
          break;
        }
        const client = new Client(socket, this.#options.timeout);
        this.#clients.set(client, this.#serve(client));
      }
      await Promise.all(this.#clients.values());
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Waits until there is room for a client. Returns `false` if the listener is closed first. */
  async #room(): Promise<boolean> {
    while (!this.#over && this.#clients.size >= this.#options.maxClients) {
      const oldest = this.#clients.keys().find(({ stranger }) => stranger);
      const grace = oldest === undefined ? Infinity : oldest.since + GRACE_MS - performance.now();
      if (grace <= 0) {
        this.#clients.delete(oldest!);
        oldest!.close(new Deno.errors.ConnectionAborted("Cannot serve a client: it proved nothing, and others came"));
        continue;
      }
      const change = Promise.race([this.#closed.promise, ...this.#clients.values()]);
      await (grace === Infinity ? change : settleWithin(change, grace));
    }
    return !this.#over;
  }

  async #serve(client: Client): Promise<void> {
    try {
      await this.#talk(client);
    } catch (error) {
      this.#options.onError?.(client.reason ?? error);
    } finally {
      client.close();
      this.#clients.delete(client);
    }
  }

  #disconnect(which: (client: Client) => boolean): void {
    this.#over = true;
    const reason = new Deno.errors.Interrupted("Cannot serve a client: the server is closed");
    for (const client of this.#clients.keys()) if (which(client)) client.close(reason);
  }
}
