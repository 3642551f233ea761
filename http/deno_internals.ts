/**
 * The undocumented parts of Deno that the library uses: serving HTTP on an adopted socket, and how Deno stores requests
 * and bodies. Each use is feature-detected and has a fallback.
 *
 * @module
 */

/** The second argument that `Deno.serve` passes to handlers. */
export interface DenoInfo {
  readonly completed: Promise<void>;
}

/** The server of one connection. */
export interface DenoServer {
  /** Resolves when the server no longer has a connection. Rejects if the connection broke off. */
  readonly finished: Promise<void>;
  /** Closes the connection when all its requests are answered. */
  shutdown(): Promise<void>;
  /** Makes the server keep the process running, which is the default. */
  ref(): void;
  /** Lets the process end although the server is running. */
  unref(): void;
  /** Closes the connection, unless it was already told to close. */
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

/** Returns whether this Deno can serve HTTP on a resource. */
export function canServeResource(): boolean {
  const { serveHttpOnConnection, core } = internals();
  return typeof serveHttpOnConnection === "function" && typeof core?.internalRidSymbol === "symbol";
}

/**
 * Serves HTTP on a connection until it closes.
 *
 * @param resource The resource of the connection. The server owns it from then on, even if this throws.
 * @param handler Answers requests. It must declare both parameters, because Deno otherwise does not create the
 * arguments.
 * @param onError Answers requests whose response cannot be used, and is called for responses that break off.
 */
export function serveResource(
  resource: number,
  handler: DenoHandler,
  onError: (error: unknown) => Response | Promise<Response>,
): DenoServer {
  const { serveHttpOnConnection, core } = internals() as Internals;
  let cancel = () => {};
  // With an AbortSignal, it would be an uncaught error if the connection has just closed by itself.
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
        // The connection has closed, or is already closing.
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
 * Takes the body of a response that was made of text, of bytes or without a body. The response then counts as used.
 *
 * The `body` of such a response is a stream like any other. To create that stream, read it and find its end costs more
 * than everything else about a small response.
 *
 * @returns The body; `undefined` if it is a stream, was already used, or is unknown.
 */
export function takeReadyBody(response: Response): string | Uint8Array | undefined {
  // Before this access, Deno may not have created the parts that are read below.
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
 * Returns whether a response can be passed to Deno's server. That server ends the process (2.9.6: a panic that cannot
 * be caught) if the value of a header has a control character. A client could cause this if a program puts its input
 * into a header.
 */
export function hasSendableHeaders(response: Response): boolean {
  const kept = response as unknown as Partial<Record<symbol, unknown>>;
  // Deno has not created the headers of most responses yet, and this avoids it.
  if (kept[FAST_STATUS!] === response.status) {
    const type = kept[FAST_TYPE!];
    return typeof type === "string" ? !CONTROL.test(type) : kept[FAST_KIND!] === 1 || isSendable(headersOf(response));
  }
  return isSendable(headersOf(response));
}

/** Returns the headers that Deno sends, even if a subclass of the program overrides `headers`. */
function headersOf(response: Response): Headers {
  return HEADERS.call(response);
}

function isSendable(headers: Headers): boolean {
  let sendable = true;
  headers.forEach((value) => sendable &&= !CONTROL.test(value));
  return sendable;
}

/**
 * Creates a request whose signal is created when it is first read, as in `Deno.serve`. A request that is created with a
 * signal costs twice as much.
 *
 * @param onAbort Called with the function that aborts the signal, when the signal is created.
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
 * Makes `Deno.upgradeWebSocket` throw for a request, instead of returning a socket that never opens. Deno first calls
 * `_throwIfUpgraded` of each request, which only its own requests have, and then `_wantsUpgrade` to get the connection
 * of its own requests. If a version of Deno does not do this, nothing changes.
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

/** Returns the error of `Deno.upgradeWebSocket`. */
export function notByDeno(): Error {
  return new Deno.errors.NotSupported(
    "Cannot upgrade to a WebSocket with Deno.upgradeWebSocket: it knows only the requests of Deno.serve. " +
      "Use info.upgradeWebSocket(), of the handler's second argument",
  );
}

/** The part of a request's internal state that this module changes. */
interface InnerRequest {
  onCancel?: (abort: () => void) => void;
  _wantsUpgrade?: () => never;
  _throwIfUpgraded?: () => void;
}

function innerOf(request: Request): InnerRequest | undefined {
  return (request as unknown as Partial<Record<symbol, object>>)[INNER!];
}

/** Returns whether Deno calls `onCancel` of a request when its signal is read, and not before. */
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
 * Makes headers immutable, as those of a request of `Deno.serve` are. Deno keeps a sorted list of immutable headers. It
 * sorts other headers again at each step of a loop, which takes 150 ms for a thousand headers.
 */
export function freezeHeaders(headers: Headers): void {
  const kept = headers as unknown as Record<symbol, unknown>;
  if (GUARD !== undefined && typeof kept[GUARD] === "string") kept[GUARD] = "immutable";
}

/** Returns the length of a response's body, in bytes or characters, if the body is not a stream. */
export function readyLength(response: Response): number {
  const fast = response as unknown as Partial<Record<symbol, unknown>>;
  const kept = (response as unknown as Partial<Record<symbol, Kept>>)[KEPT!];
  const body = fast[FAST_STATUS!] === response.status ? fast[FAST_BODY!] : kept?.body && kept.body.streamOrStatic?.body;
  if (body === null) return 0;
  return typeof body === "string" || body instanceof Uint8Array ? body.length : Infinity;
}

/**
 * Returns whether more of a request's body may arrive, from the stream that `Deno.serve` created.
 *
 * @returns `"read"` if the program has begun to read the body, and has neither read all of it nor released the reader;
 * `"unread"` if it is not read; `undefined` if all of it has arrived, or the state is unknown.
 */
export function openBody({ body }: Request): "read" | "unread" | undefined {
  const kept = body as unknown as Record<symbol, unknown> | null;
  // A body that Deno had received completely is a plain stream without a connection.
  if (kept === null || kept[STATE!] !== "readable" || kept[BACKING!] === undefined) return undefined;
  return body!.locked ? "read" : "unread";
}

function symbolOf(object: object, name: string): symbol | undefined {
  return Object.getOwnPropertySymbols(object).find(({ description }) => description === name);
}
