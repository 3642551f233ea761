/**
 * Deno's own HTTP server, that of `Deno.serve`, on connections it did not accept: the one place that touches how Deno
 * keeps it.
 *
 * @module
 */

/** What `Deno.serve` tells handlers. */
export interface DenoInfo {
  readonly completed: Promise<void>;
}

/** The server of one connection. */
export interface DenoServer {
  /** Resolves when it has no connection any more; rejects if that was broken off. */
  readonly finished: Promise<void>;
  /** Lets it go when all requests it has are answered. */
  shutdown(): Promise<void>;
  /** Closes the connection, unless it was told to let it go. */
  close(): void;
}

type DenoHandler = (request: Request, info: DenoInfo) => Response | Promise<Response>;

interface Internals {
  serveHttpOnConnection(
    connection: object,
    signal: { addEventListener(type: "abort", listener: () => void): void },
    handler: DenoHandler,
    onError: (error: unknown) => Response | Promise<Response>,
    onListen: () => void,
  ): Omit<DenoServer, "close">;
  readonly core: { readonly internalRidSymbol: symbol };
}

/** Whether this Deno can serve HTTP on a resource. */
export function canServeResource(): boolean {
  const { serveHttpOnConnection, core } = internals();
  return typeof serveHttpOnConnection === "function" && typeof core?.internalRidSymbol === "symbol";
}

/**
 * Serves HTTP on a connection until it closes.
 *
 * @param resource The connection, which is the server's from then on, even if this throws.
 * @param handler Answers requests. It must take both its arguments, or Deno would not make them.
 * @param onError Answers requests whose response cannot be used, and is told of responses that break off.
 */
export function serveResource(
  resource: number,
  handler: DenoHandler,
  onError: (error: unknown) => Response | Promise<Response>,
): DenoServer {
  const { serveHttpOnConnection, core } = internals() as Internals;
  let cancel = () => {};
  // An AbortSignal would make it an uncaught error that the connection has just closed by itself.
  const signal = { addEventListener: (_: "abort", listener: () => void) => void (cancel = listener) };
  const connection = { [core.internalRidSymbol]: resource };
  const server = serveHttpOnConnection(connection, signal, handler, onError, () => {});
  return {
    finished: server.finished,
    shutdown: () => server.shutdown(),
    close() {
      try {
        cancel();
      } catch {
        // It has closed, or is being let go.
      }
    },
  };
}

function internals(): Partial<Internals> {
  return Reflect.get(Deno, Reflect.get(Deno, "internal") ?? "") ?? {};
}
