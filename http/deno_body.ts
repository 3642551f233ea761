/**
 * The body of a request that the server of `Deno.serve` has parsed: its maximum length, and its state when the request
 * is answered.
 *
 * @module
 */
import { freezeHeaders, lazyRequest, openBody, refuseDenoUpgrade } from "./deno_internals.ts";
import { BodyTooLargeError } from "./request.ts";

/**
 * Stands for the URL of a request whose Host line is invalid. Such a request has no URL that Deno would accept, and this
 * one cannot be fetched.
 */
const NO_URL = "about:invalid";
/** The methods, in any letters, with which `new Request` refuses a body. */
const WITHOUT_BODY = new Set(["GET", "HEAD", "TRACE", "TRACK", "CONNECT"]);

/** The body of a request. */
export interface DenoBody {
  /** The request to pass to the handler. */
  readonly request: Request;
  /** Whether the client announced a length that exceeds the limit. */
  readonly announcedTooLarge: boolean;
  /** Whether the program has begun to read it, and more of it may arrive. */
  readonly isRead: boolean;
  /** Whether it is not read, so that Deno waits for the rest of it without a limit. */
  readonly isLeft: boolean;
  /**
   * Throws away the rest of a body that the program has begun to read, and does not read any more. Otherwise Deno keeps
   * the connection for it until the garbage collector finds the body.
   */
  discardRest(): void;
  /**
   * Gives up a body that is not read. Deno then reads and drops what still comes. If the response has ended before that,
   * Deno resets the connection, because it cannot be seen whether a body is read without creating its stream.
   */
  giveUp(): void;
}

/**
 * Wraps the body of a request.
 *
 * @param limit The maximum length of the body, in bytes.
 * @returns The body, or `undefined` if the request does not have one.
 */
export function bodyOf(request: Request, limit: number): DenoBody | undefined {
  const { method } = request;
  // Deno has no body for these two names. It answers a request faster if its headers are not read.
  if (method === "GET" || method === "HEAD") return undefined;
  const { headers } = request;
  const length = headers.get("content-length");
  // A length that the client has sent twice is joined with a comma.
  if (length !== null && /^\d+$/.test(length)) {
    return length === "0" ? undefined : new KnownBody(request, Number(length) > limit);
  }
  const isAnnounced = length !== null || headers.has("transfer-encoding");
  // A request of HTTP/2 may have a body without announcing it.
  return openBody(request) === undefined ? undefined : new OpenBody(request, limit, isAnnounced);
}

/**
 * Returns the request with another body. Its signal follows the signal of the original request, which Deno only creates
 * when it is read, with a warning.
 */
function withBody(request: Request, body: BodyInit): Request {
  const { url, headers, redirect } = request;
  const method = WITHOUT_BODY.has(request.method.toUpperCase()) ? "POST" : request.method;
  const other = lazyRequest(URL.canParse(url) ? url : NO_URL, { method, headers, redirect, body }, (abort) => {
    if (request.signal.aborted) abort();
    else request.signal.addEventListener("abort", abort);
  });
  freezeHeaders(other.headers);
  refuseDenoUpgrade(other);
  // The URL and the method of Deno's request are as the client sent them.
  if (other.url !== url) Object.defineProperty(other, "url", { value: url });
  if (other.method !== request.method) Object.defineProperty(other, "method", { value: request.method });
  return other;
}

/** A body whose length the client has announced. */
class KnownBody implements DenoBody {
  readonly request: Request;
  readonly announcedTooLarge: boolean;

  constructor(request: Request, announcedTooLarge: boolean) {
    this.request = request;
    this.announcedTooLarge = announcedTooLarge;
  }

  get isRead(): boolean {
    return openBody(this.request) === "read";
  }

  get isLeft(): boolean {
    return openBody(this.request) === "unread";
  }

  discardRest(): void {
    if (this.request.bodyUsed) this.giveUp();
  }

  giveUp(): void {
    if (this.isLeft) this.request.body!.cancel().catch(() => {});
  }
}

/** A body of any length. Reading it fails when it exceeds the limit. */
class OpenBody implements DenoBody {
  readonly request: Request;
  readonly announcedTooLarge = false;

  readonly #original: Request;
  readonly #limit: number;
  readonly #isAnnounced: boolean;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #count = 0;
  #tooLarge = false;

  /** @param isAnnounced Whether the body was announced. */
  constructor(original: Request, limit: number, isAnnounced: boolean) {
    this.#original = original;
    this.#limit = limit;
    this.#isAnnounced = isAnnounced;
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      type: "bytes",
      pull: (controller) => this.#pull(controller as ReadableByteStreamController),
      cancel: (reason) => (this.#reader ?? original.body!).cancel(reason),
    }, { highWaterMark: 0 });
    this.request = withBody(original, body);
  }

  get isRead(): boolean {
    return openBody(this.#original) !== undefined && this.request.body!.locked;
  }

  get isLeft(): boolean {
    return this.#tooLarge || this.#isAbandoned || this.#isAnnounced && openBody(this.#original) === "unread";
  }

  discardRest(): void {
    if (this.#isAbandoned) this.#reader!.cancel().catch(() => {});
  }

  giveUp(): void {
    if (openBody(this.#original) === "unread" && !this.request.body!.locked) {
      this.request.body!.cancel().catch(() => {});
    }
  }

  /** Whether the program has begun to read it, and has released its reader. */
  get #isAbandoned(): boolean {
    return this.#reader !== undefined && openBody(this.#original) !== undefined && !this.request.body!.locked;
  }

  async #pull(controller: ReadableByteStreamController): Promise<void> {
    this.#reader ??= this.#original.body!.getReader();
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) {
        controller.close();
        controller.byobRequest?.respond(0);
        return;
      }
      // Deno yields an empty part for an empty body.
      if (value.length === 0) continue;
      this.#count += value.length;
      if (this.#count <= this.#limit) return controller.enqueue(value as Uint8Array<ArrayBuffer>);
      this.#tooLarge = true;
      this.#reader.cancel().catch(() => {});
      throw new BodyTooLargeError(this.#limit);
    }
  }
}
