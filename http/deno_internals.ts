/**
 * What the library uses of Deno that Deno does not document: serving HTTP on an adopted socket, and how requests and
 * bodies are kept. Each is detected before it is used, and has a fallback.
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
  /** Lets it keep the process running, as it does by itself. */
  ref(): void;
  /** Lets it not keep the process running. */
  unref(): void;
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
    ref: () => server.ref(),
    unref: () => server.unref(),
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

/** The part of Deno's `Response` that has the body. */
interface Kept {
  readonly body: { readonly streamOrStatic: { readonly body?: unknown; consumed?: boolean } } | null;
}

// deno-lint-ignore no-control-regex
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/;

const KEPT = symbolOf(new Response(), "response");
const INNER = symbolOf(new Request("http://localhost"), "request");
const IS_LAZY = isLazy();
const GUARD = symbolOf(new Headers(), "guard");
const FAST_STATUS = symbolOf(new Response(""), "serve fast status");
const FAST_BODY = symbolOf(new Response(""), "serve fast body");
const FAST_KIND = symbolOf(new Response(""), "serve fast header kind");
const FAST_TYPE = symbolOf(new Response(""), "serve fast content type");
const HEADERS = Object.getOwnPropertyDescriptor(Response.prototype, "headers")!.get!;
const STATE = symbolOf(new ReadableStream(), "[[state]]");
const BACKING = symbolOf(new ReadableStream(), "[[resourceBacking]]");

/**
 * Takes the body of a response that was made of text, bytes or nothing; the response counts as used then.
 *
 * The `body` of such a response is a stream as any other. To make one, read it and find its end costs more than all else
 * about a small response.
 *
 * @returns `undefined` if it is a stream, is used already, or cannot be told.
 */
export function takeReadyBody(response: Response): string | Uint8Array | undefined {
  // Before that Deno may not have made what is looked into.
  void response.headers;
  const kept = (response as unknown as Partial<Record<symbol, Kept>>)[KEPT!]?.body?.streamOrStatic;
  const body = kept?.body;
  if (kept?.consumed === false && (typeof body === "string" || body instanceof Uint8Array)) {
    kept.consumed = true;
    return body;
  }
  return response.body === null ? "" : undefined;
}

/**
 * Whether a response can be given to Deno's own server, which ends the process (2.9.6: a panic, that nothing catches) over a
 * control character in the value of a header. A client that finds what it has sent in one could do so.
 */
export function hasSendableHeaders(response: Response): boolean {
  const kept = response as unknown as Partial<Record<symbol, unknown>>;
  // Of most responses Deno has made no headers yet, and need not.
  if (kept[FAST_STATUS!] === response.status) {
    const type = kept[FAST_TYPE!];
    return typeof type === "string" ? !CONTROL.test(type) : kept[FAST_KIND!] === 1 || isSendable(headersOf(response));
  }
  return isSendable(headersOf(response));
}

/** Those that Deno sends, whatever a class of the program's own says. */
function headersOf(response: Response): Headers {
  return HEADERS.call(response);
}

function isSendable(headers: Headers): boolean {
  let sendable = true;
  headers.forEach((value) => sendable &&= !CONTROL.test(value));
  return sendable;
}

/**
 * Makes a request whose signal is made when it is first looked at, as those of `Deno.serve` are: one that is given a signal
 * costs twice as much.
 *
 * @param onAbort Is given what aborts the signal, when there is one.
 */
export function lazyRequest(url: string, init: RequestInit | undefined, onAbort: (abort: () => void) => void): Request {
  if (!IS_LAZY) {
    const controller = new AbortController();
    onAbort(() => controller.abort());
    return new Request(url, { ...init, signal: controller.signal });
  }
  const request = new Request(url, init);
  innerOf(request)!.onCancel = onAbort;
  return request;
}

/**
 * Has `Deno.upgradeWebSocket` say that it cannot make a WebSocket of a request, instead of giving a socket that never opens.
 * Deno asks its own requests for their connection by `_wantsUpgrade`, and before that all requests by `_throwIfUpgraded`,
 * which only its own have; where it does not, nothing is changed.
 */
export function refuseDenoUpgrade(request: Request): void {
  const inner = innerOf(request);
  if (typeof inner !== "object") return;
  inner._wantsUpgrade = refuseUpgrade;
  inner._throwIfUpgraded ??= refuseUpgrade;
}

function refuseUpgrade(): never {
  throw notByDeno();
}

/** What becomes of `Deno.upgradeWebSocket`. */
export function notByDeno(): Error {
  return new Deno.errors.NotSupported(
    "Cannot upgrade to a WebSocket with Deno.upgradeWebSocket: it knows only the requests of Deno.serve. " +
      "Use info.upgradeWebSocket(), of the handler's second argument",
  );
}

/** What Deno keeps of a request, as far as it is changed here. */
interface InnerRequest {
  onCancel?: (abort: () => void) => void;
  _wantsUpgrade?: () => never;
  _throwIfUpgraded?: () => void;
}

function innerOf(request: Request): InnerRequest | undefined {
  return (request as unknown as Partial<Record<symbol, object>>)[INNER!];
}

/** Whether Deno asks such a request for its end when its signal is looked at, and not before. */
function isLazy(): boolean {
  const request = new Request("http://localhost");
  const inner = innerOf(request);
  if (typeof inner !== "object") return false;
  let abort: (() => void) | undefined;
  inner.onCancel = (given: unknown) => void (typeof given === "function" && (abort = given as () => void));
  const { signal } = new Request(request);
  const before = signal.aborted;
  abort?.();
  return !before && signal.aborted && signal.reason?.name === "AbortError";
}

/**
 * Makes headers that cannot be changed, as those of a request of `Deno.serve` are. Deno keeps a sorted list of such headers;
 * of others it sorts them anew at each step of a loop, which takes 150 ms for a thousand.
 */
export function freezeHeaders(headers: Headers): void {
  const kept = headers as unknown as Record<symbol, unknown>;
  if (GUARD !== undefined && typeof kept[GUARD] === "string") kept[GUARD] = "immutable";
}

/** How long the body of a response is, in bytes or characters, if it is there at once. */
export function readyLength(response: Response): number {
  const fast = response as unknown as Partial<Record<symbol, unknown>>;
  const kept = (response as unknown as Partial<Record<symbol, Kept>>)[KEPT!];
  const body = fast[FAST_STATUS!] === response.status ? fast[FAST_BODY!] : kept?.body && kept.body.streamOrStatic?.body;
  if (body === null) return 0;
  return typeof body === "string" || body instanceof Uint8Array ? body.length : Infinity;
}

/**
 * Whether more of a request's body may come, by what `Deno.serve` has made of it.
 *
 * @returns `"read"` if the program has begun to read it, and has neither come to its end nor let go of it; `"unread"` if
 * nobody reads it; `undefined` if all of it is there, or that cannot be told.
 */
export function openBody({ body }: Request): "read" | "unread" | undefined {
  const kept = body as unknown as Record<symbol, unknown> | null;
  // What Deno had at once is a stream of its own, without a connection behind it.
  if (kept === null || kept[STATE!] !== "readable" || kept[BACKING!] === undefined) return undefined;
  return body!.locked ? "read" : "unread";
}

function symbolOf(object: object, name: string): symbol | undefined {
  return Object.getOwnPropertySymbols(object).find(({ description }) => description === name);
}
