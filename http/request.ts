/**
 * The `Request` that handlers get for a request that `node:http` has parsed, and its body.
 *
 * The request is Deno's own class, so all of Deno's functions for requests work with it: `clone`, `new
 * Request(request)`, `fetch(url, request)`, the Cache API.
 *
 * Node's `Readable.toWeb` throws in the event loop if a body is cancelled while data arrives, and a program cannot
 * catch that. So this module creates the stream, and no other module reads the body.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { Socket as NodeSocket } from "node:net";
import type { NodeResponse } from "./response.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { freezeHeaders, lazyRequest, refuseDenoUpgrade } from "./deno_internals.ts";

/** The limits for a client that sends data which is thrown away: the time in milliseconds, and the length in bytes. */
const LONGEST = 30_000;
const MOST = 64 * 1024 ** 2;
/**
 * The number of bytes that are buffered for a program that reads on after the response. Meanwhile the connection need
 * not wait.
 */
const READ_AHEAD = 256 * 1024;
/** The time for such a program to read some of them, in milliseconds. */
const READ_WITHIN = 5_000;

/** The error for a request whose body exceeds the server's limit. It is a fault of the client, which gets a 413. */
export class BodyTooLargeError extends RangeError {
  override readonly name = "RangeError";

  /** @param limit The `maxRequestBodySize`. */
  constructor(limit: number) {
    super(`Cannot read the body of the request: it is longer than the maxRequestBodySize of ${limit} bytes`);
  }
}

/** Reads the body of a request for the handler, and throws away the part that the handler does not read. */
export class RequestBody {
  readonly #incoming: IncomingMessage;
  readonly #outgoing: NodeResponse;
  readonly #connection: NodeSocket;
  readonly #limit: number;
  #stream: ReadableStream | undefined;
  #controller: ReadableByteStreamController | undefined;
  /** Resolves the pending read of the program. */
  #wanted: (() => void) | undefined;
  #count = 0;
  /** Whether the program has begun to read; whether it gets no more data; whether arriving data is thrown away. */
  #begun = false;
  #over = false;
  #discarding = false;
  /** Whether the response is sent. From then on, data is read before the program asks for it. */
  #answered = false;
  /** Whether the client has ended its side before all of the body arrived. */
  #broken = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param limit The maximum length of the body, in bytes. */
  constructor(incoming: IncomingMessage, outgoing: NodeResponse, limit: number) {
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#connection = incoming.socket as NodeSocket;
    this.#limit = limit;
    if (this.expected) outgoing.once("prefinish", () => this.#finish());
  }

  /** Whether the request may have a body. */
  get expected(): boolean {
    return mayHaveBody(this.#incoming);
  }

  /** Whether the program has begun to read it, and more of it may arrive. */
  get isRead(): boolean {
    return this.#begun && !this.#over;
  }

  /** Whether the client announced a length that exceeds the limit. */
  get announcedTooLarge(): boolean {
    return this.#announced > this.#limit;
  }

  /**
   * Whether so much more may arrive that the connection cannot continue. Of a body that is not read, Node buffers no
   * more than its `readableHighWaterMark`.
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

  /** Creates the stream that the program reads. Nothing is read before the program reads. */
  stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#stream = new ReadableStream({
      type: "bytes",
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#pull(),
      cancel: () => this.#cancel(),
    }, { highWaterMark: 0 });
  }

  /** Ends the body after the client has ended its side: no more data arrives. */
  breakOff(): void {
    if (this.#incoming.complete || !this.expected) return;
    this.#broken = true;
    if (this.#controller !== undefined) this.#end();
  }

  #pull(): Promise<void> | void {
    if (this.#over) return;
    const incoming = this.#incoming;
    if (this.#discarding) return this.#fail(alreadySent());
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
    // Node only reports errors to listeners. An error without a listener ends the process.
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
    // The stream takes ownership of the whole buffer, and this buffer belongs to Node.
    this.#controller!.enqueue(new Uint8Array(bytes));
    this.#settle();
    if (!this.#answered) this.#incoming.pause();
    else if (this.#waiting >= READ_AHEAD) this.#awaitProgram();
    else this.#awaitClient();
  }

  /** Ends the stream when all data has arrived, or when the connection has closed before that. */
  #end(): void {
    clearTimeout(this.#timer);
    if (this.#over) return;
    const { readableEnded, errored } = this.#incoming;
    if (!readableEnded) return this.#fail(errored ?? brokenOff());
    this.#over = true;
    this.#controller!.close();
    // A reader that passed its own buffer gets it back.
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
    // A client that waits for `100 Continue` need not send the body. If it still does, the body is handled after the
    // response.
    if (!this.#outgoing.expectsContinue) this.#discard();
  }

  #settle(): void {
    this.#wanted?.();
    this.#wanted = undefined;
  }

  /**
   * Reads the rest of the body when the response is sent. It is kept for a program that has a reader, even if it has not
   * read from it yet, and thrown away otherwise.
   */
  #finish(): void {
    const incoming = this.#incoming;
    if (incoming.readableEnded || incoming.destroyed || this.#broken) return;
    this.#answered = true;
    if (this.#over || !this.#stream?.locked) {
      if (this.#begun && !this.#over) this.#fail(alreadySent());
      this.#discard();
    } else {
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
    // Under Wine, data that is read with pauses is incomplete if this side has ended. With TLS, this is so on all
    // systems.
    const mayEnd = !("encrypted" in connection);
    connection.destroySoon = () => void (mayEnd && this.#discarding && connection.end());
    this.#outgoing.once("close", () => connection.destroySoon());
    const close = () => destroySoon.call(connection);
    this.#incoming.once("end", close);
    connection.once("end", close);
  }

  /**
   * Throws away arriving data, within limits. A client that is disconnected while it sends may never read the response.
   */
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

  /** The number of bytes that have arrived and that the program has not read. */
  get #waiting(): number {
    return -this.#controller!.desiredSize!;
  }

  /** Waits for more data from the client, and ends the connection if none arrives. */
  #awaitClient(): void {
    this.#set(LONGEST, () => this.#connection.destroy());
  }

  /** Waits for the program to read on. If it does not, throws away the rest. */
  #awaitProgram(): void {
    this.#incoming.pause();
    const before = this.#waiting;
    this.#set(READ_WITHIN, () => {
      if (this.#waiting < before) return this.#awaitProgram();
      this.#fail(new Deno.errors.TimedOut("Cannot read the body: it was not read in time after the response"));
      this.#discard();
    });
  }

  #set(time: number, act: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, time);
    Deno.unrefTimer(this.#timer);
  }
}

function alreadySent(): Error {
  return new TypeError("Cannot read the body: the response was already sent");
}

function brokenOff(): Error {
  return new Deno.errors.ConnectionAborted("Cannot read the body: the connection ended before all of it arrived");
}

/** The maximum number of headers of a request. Node drops the headers beyond its own limit without an error. */
const MAX_HEADERS = 1_000;
/** A list of transfer encodings with an element that is empty, or that is `identity`. */
const NO_ENCODING = /(^|,)\s*(identity\s*)?(,|$)/i;
/** The valid values of a Host header. Other characters would end the host within the URL. */
const HOST = /^[^\s/\\?#]*$/;

/**
 * Returns the reason to refuse a request before it gets to the handler.
 *
 * @returns The status of the refusal; `undefined` if the handler gets the request.
 */
export function refusalOf(
  { rawHeaders, headers, httpVersion }: IncomingMessage,
  body: RequestBody,
): number | undefined {
  if (rawHeaders.length > 2 * MAX_HEADERS) return 431;
  // Node would use the first one, and a proxy in front of it perhaps another.
  if (linesOf(rawHeaders, "host").length > 1) return 400;
  // Proxies may disagree on whether the next bytes are a body or the next request.
  const encodings = headers["transfer-encoding"];
  if (encodings !== undefined && (httpVersion === "1.0" || NO_ENCODING.test(encodings))) return 400;
  if (body.expected && isWebSocket(headers)) return 400;
  return body.announcedTooLarge ? 413 : undefined;
}

/**
 * Returns whether a request may be upgraded to a WebSocket. Other upgrade requests, such as curl's for HTTP/2, may be
 * answered like normal requests.
 */
export function asksForWebSocket(request: IncomingMessage): boolean {
  if (mayHaveBody(request)) return false;
  const { rawHeaders, headers } = request;
  return isWebSocket(headers) && rawHeaders.length <= 2 * MAX_HEADERS && linesOf(rawHeaders, "host").length <= 1;
}

/** Returns whether a request announces a body. */
export function mayHaveBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

/** Returns whether a request asks for another protocol. Node does not read another request after it. */
export function asksForUpgrade({ headers: { upgrade, connection } }: IncomingMessage): boolean {
  return upgrade !== undefined && hasUpgrade(connection);
}

/**
 * Creates the request.
 *
 * @param localAddr The address for the URL of a request without a Host header.
 * @param onAbort Called with the function that aborts the signal of the request.
 * @returns The request; `undefined` if its target or its Host is invalid.
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
    // A request that is created from a string, and gets its headers one by one, takes half the time.
    request = lazyRequest(url, method === "GET" || method === "TRACE" ? undefined : initOf(method, body), onAbort);
    addHeaders(request.headers, incoming.rawHeaders);
  } catch {
    return undefined;
  }
  freezeHeaders(request.headers);
  refuseDenoUpgrade(request);
  // Deno cannot create a request with this method, which clients must not send. The handler still sees the method that
  // arrived.
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
  const scheme = "encrypted" in socket && socket.encrypted ? "https" : "path" in localAddr ? "http+unix" : "http";
  const origin = `${scheme}://${host || hostOf(localAddr)}`;
  if (target.startsWith("/")) return origin + target;
  return target === "*" && method === "OPTIONS" ? `${origin}/*` : undefined;
}

/** Returns the replacement for a missing Host, as in `Deno.serve`: the address, or the encoded path, of the server. */
function hostOf(address: SocketAddr): string {
  if ("path" in address) return encodeURIComponent(address.path).replace(/[-.!~*'()_]/g, encodeMark);
  const { hostname, port } = address;
  if (/^(127\.|0\.0\.0\.0$|::1?$)/.test(hostname)) return `localhost:${port}`;
  return `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}

/** Encodes a character that `encodeURIComponent` leaves as it is. */
function encodeMark(mark: string): string {
  return `%${mark.charCodeAt(0).toString(16).toUpperCase()}`;
}

function initOf(method: string, body: RequestBody): RequestInit {
  return method === "HEAD" ? { method } : { method, body: body.expected ? body.stream() : new Uint8Array(0) };
}

/**
 * Adds headers as they arrived. Several lines with cookies become one, because they are not joined like other headers.
 */
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

/** Returns where the lines with a name begin. The name must be in lower case. */
function linesOf(rawHeaders: readonly string[], name: string): number[] {
  const lines: number[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const key = rawHeaders[at]!;
    if (key.length === name.length && key.toLowerCase() === name) lines.push(at);
  }
  return lines;
}
