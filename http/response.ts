/**
 * The response that `node:http` sends.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import http, { validateHeaderValue } from "node:http";
import { setImmediate } from "node:timers";
import { takeReadyBody } from "./deno_internals.ts";

/** The maximum length of a text that is written as a string, in characters. */
const MAX_TEXT = 8_192;
/**
 * The number of bytes of a stream that are read before its headers are sent, so that an error in it can still be
 * answered.
 */
const LOOK_AHEAD = 16 * 1024;
// deno-lint-ignore no-control-regex
const NOT_ASCII = /[^\x00-\x7f]/;
/** The headers that define the end of a body. The server sets them. */
const FRAMING = ["content-length", "transfer-encoding", "trailer"];

/** The head of a response. It is read once, because a response of another class may return other values each time. */
interface Head {
  readonly status: number;
  readonly statusText: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Whether the head is all ASCII. */
  readonly ascii: boolean;
  /** The `content-length`, if it is a number. */
  readonly length: string | undefined;
}

/** The body of the request, as far as the response depends on it. */
interface RequestBody {
  /** Whether so much of it may arrive that the connection cannot continue. */
  readonly mayStall: boolean;
}

type Chunk = ReadableStreamReadResult<Uint8Array>;

/** The stream of a response's body, and its state. */
class Body {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #length: number | undefined;
  #count = 0;
  #next: Promise<Chunk> | undefined;

  /** @throws {TypeError} If it is not a stream, or is already being read. */
  constructor(stream: ReadableStream<Uint8Array>, length: string | undefined) {
    if (typeof stream?.getReader !== "function") throw new TypeError("Cannot send the body: it is not a stream");
    if (stream.locked) throw new TypeError("Cannot send the body: it is locked");
    this.#reader = stream.getReader();
    this.#length = length === undefined ? undefined : Number(length);
  }

  /**
   * Reads the next part.
   *
   * @returns The part, or `undefined` at the end.
   * @throws If the stream fails, contains something other than bytes, or does not have the given length.
   */
  async read(): Promise<Uint8Array | undefined> {
    const { done, value } = await this.#peek();
    this.#next = undefined;
    const length = this.#length;
    if (done) {
      if (length !== undefined && this.#count !== length) throw wrongLength(this.#count, length);
      return undefined;
    }
    if (!(value instanceof Uint8Array)) throw new TypeError("Cannot send the body: it yields other values than bytes");
    this.#count += value.length;
    if (length !== undefined && this.#count > length) throw wrongLength(this.#count, length);
    return value;
  }

  /**
   * Reads the parts that are available immediately.
   *
   * @returns The first parts, and whether they are the whole body.
   */
  async readAhead(): Promise<{ parts: Uint8Array[]; all: boolean }> {
    const parts: Uint8Array[] = [];
    let over = false;
    const turn = new Promise<void>((resolve) => setImmediate(resolve)).then(() => void (over = true));
    for (let length = 0; length < LOOK_AHEAD;) {
      const next = this.#peek();
      await Promise.race([next, turn]);
      if (over) break;
      const part = await this.read();
      if (part === undefined) return { parts, all: true };
      parts.push(part);
      length += part.length;
    }
    return { parts, all: false };
  }

  /** Cancels the stream, which is no longer needed. */
  async cancel(reason?: unknown): Promise<void> {
    try {
      await this.#reader.cancel(reason);
    } catch {
      // The stream failed before, or fails while it is cancelled. Both are ignored.
    }
  }

  #peek(): Promise<Chunk> {
    if (this.#next === undefined) {
      this.#next = this.#reader.read();
      this.#next.catch(() => {});
    }
    return this.#next;
  }
}

/** A response that knows why it broke off. */
export class NodeResponse extends http.ServerResponse {
  /** The error that broke the response off, and whether the client had disconnected by then. */
  failure: { readonly error: unknown; readonly clientGone: boolean } | undefined;
  /** Whether the client waits for `100 Continue` before it sends the body. */
  expectsContinue = false;
  /** The number of writes. */
  writes = 0;

  #keepAlive = true;

  /**
   * Whether the system has the whole response. Node's own state does not include small responses, which Deno writes
   * past the stream.
   */
  get sent(): boolean {
    return this.writableEnded && this.socket === null;
  }

  /**
   * Records that the client waits for `100 Continue` before it sends the body. If that is not sent, the body may or may
   * not arrive, and it cannot be distinguished from the data after it. The connection then closes after the response.
   */
  expectContinue(): void {
    this.expectsContinue = true;
    this.#keepAlive = this.shouldKeepAlive;
    this.shouldKeepAlive = false;
  }

  /**
   * Sends `100 Continue` when the handler reads the body, if the client waits for that and does not have a response
   * yet.
   */
  tellToGoOn(): void {
    if (!this.expectsContinue || this.headersSent || this.destroyed) return;
    this.expectsContinue = false;
    this.shouldKeepAlive = this.#keepAlive;
    this.writeContinue();
  }

  /**
   * Sends a response. Everything that can be checked is checked before any of it is sent. If this fails and no headers
   * are sent, another response can be sent, and contains nothing of this one.
   *
   * @param body The body of the request.
   * @returns For a stream, a promise that resolves when it is sent or the connection has closed.
   * @throws If the response cannot be sent.
   */
  send(response: Response, body: RequestBody): Promise<void> | undefined {
    if (response.bodyUsed) throw new TypeError("Cannot send the body: it was already used");
    const head = headOf(response);
    const ready = takeReadyBody(response);
    if (ready !== undefined) return void this.#sendWhole(head, ready, body);
    return this.#sendStream(head, new Body(response.body!, head.length), body);
  }

  override write(chunk: unknown, ...rest: unknown[]): boolean {
    this.writes++;
    return super.write(chunk, ...rest as []);
  }

  /** Ends the connection in the middle of the response. */
  breakOff(error: unknown): void {
    if (!this.destroyed) this.failure = { error, clientGone: this.req.destroyed };
    this.destroy();
  }

  override destroy(error?: Error): this {
    if (error !== undefined && !this.destroyed) this.failure ??= { error, clientGone: this.req.destroyed };
    return super.destroy(error);
  }

  async #sendStream(head: Head, stream: Body, body: RequestBody): Promise<void> {
    const closed = () => void stream.cancel();
    this.once("close", closed);
    try {
      const headOnly = this.req.method === "HEAD";
      const { parts, all } = headOnly ? { parts: [], all: true } : await stream.readAhead();
      if (this.destroyed) return;
      this.#setHead(head, body);
      // A body of another length is detected here, and breaks off.
      if (head.length !== undefined) this.setHeader("content-length", head.length);
      this.writeHead(this.statusCode);
      // A client may wait for the headers before the first part of the body is available.
      if (parts.length === 0 && !all) this.flushHeaders();
      for (const part of parts) await this.#writeNext(part);
      if (headOnly) void stream.cancel();
      else if (!all) { for (let part; (part = await stream.read()) !== undefined;) await this.#writeNext(part); }
      if (!this.destroyed) this.end();
    } catch (error) {
      void stream.cancel(error);
      if (!this.headersSent) throw error;
      this.breakOff(error);
    } finally {
      this.off("close", closed);
    }
  }

  /** Writes a part of the body, and waits until there is room for the next one. */
  async #writeNext(part: Uint8Array): Promise<void> {
    if (part.length === 0 || this.destroyed || this.write(part)) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.off("drain", done);
        this.off("close", done);
        resolve();
      };
      this.once("drain", done);
      this.once("close", done);
    });
  }

  #setHead({ status, statusText, headers }: Head, body: RequestBody): void {
    const keepAlive = this.shouldKeepAlive && !body.mayStall;
    this.statusCode = status;
    this.statusMessage = statusText;
    for (const [name, value] of headers) {
      if (name !== "connection" || keepAlive) this.appendHeader(name, value);
    }
    if (!keepAlive) this.setHeader("connection", "close");
  }

  /** Sends headers and body in one write. If a body is sent, Node sets its length. */
  #sendWhole(head: Head, body: string | Uint8Array, requestBody: RequestBody): void {
    this.#setHead(head, requestBody);
    const { ascii, length } = head;
    // A response to HEAD, or a 304, says how long the body would be. The handler knows that if it has not made the body.
    if (this.req.method === "HEAD" && this.statusCode !== 204 && this.statusCode !== 304) {
      this.setHeader("content-length", body.length > 0 ? Buffer.byteLength(body) : length ?? "0");
    } else if (length !== undefined && this.statusCode === 304) this.setHeader("content-length", length);
    this.writes++;
    // Text is written past the stream, where its progress cannot be observed. The headers are written with it, as
    // UTF-8.
    this.end(typeof body !== "string" || ascii && body.length <= MAX_TEXT ? body : Buffer.from(body));
  }
}

/** Reads the status and the headers once, and checks them. */
function headOf(response: Response): Head {
  const { status, statusText = "" } = response;
  checkStatus(status);
  validateHeaderValue("status text", statusText);
  let ascii = !NOT_ASCII.test(statusText);
  let length: string | undefined;
  const headers: [name: string, value: string][] = [];
  response.headers.forEach((value, name) => {
    if (name === "content-length" && /^\d+$/.test(value)) length = value;
    if (FRAMING.includes(name)) return;
    http.validateHeaderName(name);
    validateHeaderValue(name, value);
    ascii &&= !NOT_ASCII.test(value);
    headers.push([name, value]);
  });
  return { status, statusText, headers, ascii, length };
}

function checkStatus(status: number): void {
  if (status === 0) throw new TypeError("Cannot send Response.error(): it does not have a status");
  if (status === 101) {
    throw new TypeError("Cannot send a Response with status 101: use info.upgradeWebSocket for a WebSocket");
  }
  if (!Number.isInteger(status) || status < 200 || status > 999) {
    throw new RangeError(`Cannot send the Response: the status must be an integer from 200 to 999, got ${status}`);
  }
}

function wrongLength(count: number, length: number): TypeError {
  return new TypeError(`Cannot send the body: it has ${count} bytes, but a content-length of ${length}`);
}
