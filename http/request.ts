/**
 * The `Request` that handlers get of what `node:http` has parsed, and its body.
 *
 * The request is Deno's own, so that all Deno does with requests works with this one: `clone`, `new Request(request)`,
 * `fetch(url, request)`, the Cache API.
 *
 * Node's own `Readable.toWeb` throws out of the event loop when a body is cancelled while data comes, and no program can
 * catch that. So the stream is made here, and no other module reads the body.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { Socket as NodeSocket } from "node:net";
import type { NodeResponse } from "./response.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { freezeHeaders, lazyRequest, refuseDenoUpgrade } from "./deno_internals.ts";

/** How long a client may go on sending what is thrown away, in milliseconds, and how much, in bytes. */
const LONGEST = 30_000;
const MOST = 64 * 1024 ** 2;
/** How much is kept for a program that reads on after the response, so that the connection need not wait for it. */
const READ_AHEAD = 256 * 1024;
/** How long such a program may leave that unread, in milliseconds. */
const READ_WITHIN = 5_000;

/** A request whose body is longer than the server allows: the client's fault, which is answered 413. */
export class BodyTooLargeError extends RangeError {
  override readonly name = "RangeError";

  /** @param limit The `maxRequestBodySize`. */
  constructor(limit: number) {
    super(`Cannot read the body of the request: it is longer than the maxRequestBodySize of ${limit} bytes`);
  }
}

/** Reads a request's body for the handler, and throws away what the handler leaves of it. */
export class RequestBody {
  readonly #incoming: IncomingMessage;
  readonly #outgoing: NodeResponse;
  readonly #connection: NodeSocket;
  readonly #limit: number;
  #stream: ReadableStream | undefined;
  #controller: ReadableByteStreamController | undefined;
  /** Resolves the program's read, which waits. */
  #wanted: (() => void) | undefined;
  #count = 0;
  /** Whether the program has begun to read; whether it gets nothing more; whether what comes is thrown away. */
  #begun = false;
  #over = false;
  #discarding = false;
  /** Whether the response is sent: from then on what comes is read before it is asked for. */
  #answered = false;
  /** Whether the client has ended its side before all has come. */
  #broken = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param limit How long it may be, in bytes. */
  constructor(incoming: IncomingMessage, outgoing: NodeResponse, limit: number) {
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#connection = incoming.socket as NodeSocket;
    this.#limit = limit;
    if (this.expected) outgoing.once("prefinish", () => this.#finish());
  }

  /** Whether there may be one. */
  get expected(): boolean {
    return this.#incoming.headers["transfer-encoding"] !== undefined || this.#announced > 0;
  }

  /** Whether the program reads it, and more of it may come. */
  get isRead(): boolean {
    return this.#begun && !this.#over;
  }

  /** Whether the client says itself that it is longer than is allowed. */
  get announcedTooLarge(): boolean {
    return this.#announced > this.#limit;
  }

  /**
   * Whether so much more may come that its connection cannot go on: of what nobody reads, Node takes in no more than its
   * `readableHighWaterMark`.
   */
  get mayStall(): boolean {
    const { complete, headers, readableHighWaterMark, readableLength } = this.#incoming;
    if (complete) return false;
    if (headers["transfer-encoding"] !== undefined) return true;
    return this.#announced - this.#count - readableLength >= readableHighWaterMark;
  }

  get #announced(): number {
    return Number(this.#incoming.headers["content-length"] ?? 0);
  }

  /** Makes the stream the program reads. Nothing is read before the program does. */
  stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#stream = new ReadableStream({
      type: "bytes",
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#pull(),
      cancel: () => this.#cancel(),
    }, { highWaterMark: 0 });
  }

  /** The client has ended its side: nothing comes that is not there. */
  breakOff(): void {
    if (this.#incoming.complete || !this.expected) return;
    this.#broken = true;
    if (this.#controller !== undefined) this.#end();
  }

  #pull(): Promise<void> | void {
    if (this.#over) return;
    const incoming = this.#incoming;
    if (this.#discarding) return this.#fail(new TypeError("The body was not read before the response was sent"));
    if (incoming.readableEnded || incoming.destroyed || this.#broken) return this.#end();
    if (!this.#begun) this.#begin();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wanted = resolve;
    incoming.resume();
    if (this.#answered) this.#awaitClient();
    return promise;
  }

  #begin(): void {
    this.#begun = true;
    this.#outgoing.tellToGoOn();
    const incoming = this.#incoming;
    // Node tells of errors only those that listen, and ends the process over what nobody takes.
    incoming.on("error", () => {});
    incoming.on("data", (bytes: Uint8Array) => this.#take(bytes));
    incoming.once("end", () => this.#end());
    incoming.once("close", () => this.#end());
  }

  #take(bytes: Uint8Array): void {
    this.#count += bytes.length;
    if (this.#over) return;
    if (this.#count > this.#limit) {
      this.#fail(new BodyTooLargeError(this.#limit));
      return this.#discard();
    }
    // The stream takes the whole buffer of what it is given, and this one belongs to Node.
    this.#controller!.enqueue(new Uint8Array(bytes));
    this.#settle();
    if (!this.#answered) this.#incoming.pause();
    else if (this.#waiting >= READ_AHEAD) this.#awaitProgram();
    else this.#awaitClient();
  }

  /** Nothing more comes: all has, or the connection has closed before that. */
  #end(): void {
    clearTimeout(this.#timer);
    if (this.#over) return;
    const { readableEnded, errored } = this.#incoming;
    if (!readableEnded) return this.#fail(errored ?? brokenOff());
    this.#over = true;
    this.#controller!.close();
    // A reader that brought its own buffer gets it back.
    this.#controller!.byobRequest?.respond(0);
    this.#settle();
  }

  #fail(error: Error): void {
    this.#over = true;
    this.#controller!.error(error);
    this.#settle();
  }

  #cancel(): void {
    this.#over = true;
    this.#settle();
    // A client that waits to be told to send it need not; one that does so all the same is heard after the response.
    if (!this.#outgoing.expectsContinue) this.#discard();
  }

  #settle(): void {
    this.#wanted?.();
    this.#wanted = undefined;
  }

  /** The response is sent: reads what is left, for the program if it has begun to read, or for nobody. A reader that has it may not have asked yet. */
  #finish(): void {
    const incoming = this.#incoming;
    if (incoming.readableEnded || incoming.destroyed || this.#broken) return;
    this.#answered = true;
    if (this.#over || !this.#begun && !this.#stream?.locked) this.#discard();
    else {
      if (!this.#begun) this.#begin();
      incoming.resume();
      this.#awaitClient();
    }
    if (this.mayStall) this.#linger();
  }

  /** Closes the connection after the response, but not before the client has sent the rest. */
  #linger(): void {
    const connection = this.#connection;
    const destroySoon = connection.destroySoon;
    // Under Wine what is read with pauses does not all come when this side has ended, and of TLS nothing does anywhere.
    const mayEnd = !("encrypted" in connection);
    connection.destroySoon = () => void (mayEnd && this.#discarding && connection.end());
    this.#outgoing.once("close", () => connection.destroySoon());
    const close = () => destroySoon.call(connection);
    this.#incoming.once("end", close);
    connection.once("end", close);
  }

  /** Throws away what comes, within bounds: a client that is cut off while it sends may never see the response. */
  #discard(): void {
    if (this.#discarding) return;
    this.#discarding = true;
    const incoming = this.#incoming;
    if (incoming.readableEnded || incoming.destroyed) return;
    let count = 0;
    incoming.on("data", (bytes: Uint8Array) => {
      count += bytes.length;
      if (count > MOST) this.#connection.destroy();
    });
    this.#set(LONGEST, () => this.#connection.destroy());
    const clear = () => clearTimeout(this.#timer);
    incoming.once("end", clear);
    incoming.once("close", clear);
    incoming.resume();
  }

  /** How much the program has not read of what has come. */
  get #waiting(): number {
    return -this.#controller!.desiredSize!;
  }

  /** Lets the client go on sending, and ends its connection when it does not. */
  #awaitClient(): void {
    this.#set(LONGEST, () => this.#connection.destroy());
  }

  /** Lets the program go on reading, and throws away what it leaves when it does not. */
  #awaitProgram(): void {
    this.#incoming.pause();
    const before = this.#waiting;
    this.#set(READ_WITHIN, () => {
      if (this.#waiting < before) return this.#awaitProgram();
      this.#fail(new Deno.errors.TimedOut("The body was not read any more after the response was sent"));
      this.#discard();
    });
  }

  #set(time: number, act: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, time);
    Deno.unrefTimer(this.#timer);
  }
}

function brokenOff(): Error {
  return new Deno.errors.ConnectionAborted("The connection ended before all of the body had come");
}

/** How many headers a request may have. Those of Node's own limit vanish without a word. */
const MAX_HEADERS = 1_000;
/** What may stand in a Host line, so that it ends where the path begins. */
const HOST = /^[^\s/\\?#]*$/;

/**
 * Why a request is not for the handler.
 *
 * @returns The status that says so; `undefined` if it is.
 */
export function refusalOf(
  { rawHeaders, headers, httpVersion }: IncomingMessage,
  body: RequestBody,
): number | undefined {
  if (rawHeaders.length > 2 * MAX_HEADERS) return 431;
  // Node would take the first, and what stands before it perhaps another.
  if (linesOf(rawHeaders, "host").length > 1) return 400;
  // Whether what follows is a body or the next request, each proxy may see otherwise.
  if (httpVersion === "1.0" && headers["transfer-encoding"] !== undefined) return 400;
  if (body.expected && isWebSocket(headers)) return 400;
  return body.announcedTooLarge ? 413 : undefined;
}

/** Whether a request may ask for a WebSocket. Others, such as curl's for HTTP/2, may be answered as if they had not asked. */
export function asksForWebSocket({ rawHeaders, headers }: IncomingMessage): boolean {
  if (headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0) return false;
  return isWebSocket(headers) && rawHeaders.length <= 2 * MAX_HEADERS && linesOf(rawHeaders, "host").length <= 1;
}

/** Whether a request asks for another protocol: Node reads no other request after it. */
export function asksForUpgrade({ headers: { upgrade, connection } }: IncomingMessage): boolean {
  return upgrade !== undefined && hasUpgrade(connection);
}

/**
 * Makes the request.
 *
 * @param localAddr Stands in the URL of a request without Host.
 * @param onAbort Is given what aborts the signal of the request.
 * @returns `undefined` if its target or Host is none.
 */
export function makeRequest(
  incoming: IncomingMessage,
  body: RequestBody,
  localAddr: SocketAddr,
  onAbort: (abort: () => void) => void,
): Request | undefined {
  const url = urlOf(incoming, localAddr);
  if (url === undefined) return undefined;
  const method = incoming.method!;
  let request: Request;
  try {
    // What is made of a text alone, and given its headers one by one, takes half the time.
    request = lazyRequest(url, method === "GET" || method === "TRACE" ? undefined : initOf(method, body), onAbort);
    addHeaders(request.headers, incoming.rawHeaders);
  } catch {
    return undefined;
  }
  freezeHeaders(request.headers);
  refuseDenoUpgrade(request);
  // Deno makes no request of that name, which clients must not send; those that do may see what came.
  if (method === "TRACE") Object.defineProperty(request, "method", { value: method });
  return request;
}

function isWebSocket({ upgrade, connection }: IncomingMessage["headers"]): boolean {
  return upgrade?.toLowerCase() === "websocket" && hasUpgrade(connection);
}

function hasUpgrade(connection: string | undefined): boolean {
  return connection !== undefined && /(^|,)\s*upgrade\s*(,|$)/i.test(connection);
}

function urlOf(
  { url: target = "", method, headers, socket }: IncomingMessage,
  localAddr: SocketAddr,
): string | undefined {
  if (/^https?:\/\//i.test(target)) return target;
  const { host = "" } = headers;
  if (!HOST.test(host)) return undefined;
  const origin = `${"encrypted" in socket && socket.encrypted ? "https" : "http"}://${host || hostOf(localAddr)}`;
  if (target.startsWith("/")) return origin + target;
  return target === "*" && method === "OPTIONS" ? `${origin}/*` : undefined;
}

/** What stands for a missing Host, as with `Deno.serve`; a local connection has no address that can. */
function hostOf(address: SocketAddr): string {
  if ("path" in address) return "localhost";
  const { hostname, port } = address;
  if (/^(127\.|0\.0\.0\.0$|::1?$)/.test(hostname)) return `localhost:${port}`;
  return `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}

function initOf(method: string, body: RequestBody): RequestInit {
  return method === "HEAD" ? { method } : { method, body: body.expected ? body.stream() : new Uint8Array(0) };
}

/** Adds headers as they came, and one line for several with cookies, for they are not joined as other headers are. */
function addHeaders(headers: Headers, rawHeaders: readonly string[]): void {
  let cookies: string | undefined;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name, value] = [rawHeaders[at]!, rawHeaders[at + 1]!];
    if (name.length === 6 && name.toLowerCase() === "cookie") {
      cookies = cookies === undefined ? value : `${cookies}; ${value}`;
    } else headers.append(name, value);
  }
  if (cookies !== undefined) headers.append("cookie", cookies);
}

/** Where lines of that name, which is in lower case, begin. */
function linesOf(rawHeaders: readonly string[], name: string): number[] {
  const lines: number[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const key = rawHeaders[at]!;
    if (key.length === name.length && key.toLowerCase() === name) lines.push(at);
  }
  return lines;
}
