/**
 * The response that `node:http` sends.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import http, { validateHeaderValue } from "node:http";
import { setImmediate } from "node:timers";
import { takeReadyBody } from "./deno_internals.ts";

/** The longest text that is written as such, in characters. */
const MAX_TEXT = 8_192;
/** How much of a stream is read before its headers are sent, so that an error in it can still be answered. */
const LOOK_AHEAD = 16 * 1024;
// deno-lint-ignore no-control-regex
const NOT_ASCII = /[^\x00-\x7f]/;
/** What says where a body ends, which is up to the server. */
const FRAMING = ["content-length", "transfer-encoding", "trailer"];

/** A response as the handler has returned it, read once: what is not Deno's own may say another thing each time. */
interface Head {
  readonly status: number;
  readonly statusText: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Whether it is all ASCII. */
  readonly ascii: boolean;
  /** Its content-length, if it says one that is a number. */
  readonly length: string | undefined;
}

/** The body of a request, as far as its response depends on it. */
interface RequestBody {
  /** Whether so much of it may come that its connection cannot go on. */
  readonly mayStall: boolean;
}

type Chunk = ReadableStreamReadResult<Uint8Array>;

/** The stream of a response's body, and what is known of it. */
class Body {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #length: number | undefined;
  #count = 0;
  #next: Promise<Chunk> | undefined;

  /** @throws {TypeError} If it is no stream, or is read already. */
  constructor(stream: ReadableStream<Uint8Array>, length: string | undefined) {
    if (typeof stream?.getReader !== "function") throw new TypeError("The body of the Response is not a stream");
    if (stream.locked) throw new TypeError("The body of the Response is locked");
    this.#reader = stream.getReader();
    this.#length = length === undefined ? undefined : Number(length);
  }

  /**
   * The next part of it.
   *
   * @returns `undefined` at its end.
   * @throws If it fails, gives something else than bytes, or is not as long as it is to be.
   */
  async read(): Promise<Uint8Array | undefined> {
    const { done, value } = await this.#peek();
    this.#next = undefined;
    const length = this.#length;
    if (done) {
      if (length !== undefined && this.#count !== length) throw wrongLength(this.#count, length);
      return undefined;
    }
    if (!(value instanceof Uint8Array)) throw new TypeError("The body of the Response gives something else than bytes");
    this.#count += value.length;
    if (length !== undefined && this.#count > length) throw wrongLength(this.#count, length);
    return value;
  }

  /**
   * What there is of it at once.
   *
   * @returns Its first parts, and whether those are all.
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

  /** Tells its maker that nobody wants it. */
  async cancel(reason?: unknown): Promise<void> {
    try {
      await this.#reader.cancel(reason);
    } catch {
      // It failed, or fails in being cancelled, which nobody waits for.
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
  /** What made its body fail, and whether the client had gone by then. */
  failure: { readonly error: unknown; readonly clientGone: boolean } | undefined;
  /** Whether the client waits to be told to send the body. */
  expectsContinue = false;
  /** How often something of it was written. */
  writes = 0;

  #keepAlive = true;

  /** Whether the system has all of it. What Node says knows nothing of small responses, which Deno writes past the stream. */
  get sent(): boolean {
    return this.writableEnded && this.socket === null;
  }

  /**
   * The client sends the body when it is told to, and not before. If it never is, nobody knows whether the body comes, and
   * what would come after it cannot be told from it.
   */
  expectContinue(): void {
    this.expectsContinue = true;
    this.#keepAlive = this.shouldKeepAlive;
    this.shouldKeepAlive = false;
  }

  /** The handler reads the body: tells the client to send it, if it waits for that, unless it has its answer. */
  tellToGoOn(): void {
    if (!this.expectsContinue || this.headersSent || this.destroyed) return;
    this.expectsContinue = false;
    this.shouldKeepAlive = this.#keepAlive;
    this.writeContinue();
  }

  /**
   * Sends a response. All that can be known to be wrong with it is found out before any of it is sent: if this fails and
   * no headers are sent, nothing of it is sent with another.
   *
   * @param body That of the request.
   * @returns If its body is a stream, resolves when it is sent, or the connection has closed.
   * @throws If it cannot be sent.
   */
  send(response: Response, body: RequestBody): Promise<void> | undefined {
    if (response.bodyUsed) throw new TypeError("The body of the Response was used already");
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
      // A body of another length is found out here, and breaks off.
      if (head.length !== undefined) this.setHeader("content-length", head.length);
      this.writeHead(this.statusCode);
      // A client may wait for them, and not for the first of the body.
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

  /** Sends headers and body in one go. Of a body that is sent Node says the length itself. */
  #sendWhole(head: Head, body: string | Uint8Array, requestBody: RequestBody): void {
    this.#setHead(head, requestBody);
    const { ascii, length } = head;
    if (this.req.method === "HEAD" && body.length > 0) this.setHeader("content-length", Buffer.byteLength(body));
    else if (
      length !== undefined && (this.req.method === "HEAD" && this.statusCode !== 204 || this.statusCode === 304)
    ) {
      this.setHeader("content-length", length);
    }
    this.writes++;
    // Text is written past the stream, where nobody sees whether a client takes it; and the headers with it, as UTF-8.
    this.end(typeof body !== "string" || ascii && body.length <= MAX_TEXT ? body : Buffer.from(body));
  }
}

/** Reads status and headers, once, and checks them. */
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
  if (status === 0) throw new TypeError("Response.error() cannot be sent: it has no status");
  if (status === 101) {
    throw new TypeError("A Response with status 101 cannot be sent: use info.upgradeWebSocket for a WebSocket");
  }
  if (!Number.isInteger(status) || status < 200 || status > 999) {
    throw new RangeError(`A Response with status ${status} cannot be sent`);
  }
}

function wrongLength(count: number, length: number): TypeError {
  return new TypeError(`The body of the Response has ${count} bytes, not its content-length of ${length}`);
}
