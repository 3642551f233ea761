/**
 * The body of a request that the server of `Deno.serve` has parsed: how long it may be, and what becomes of it when its
 * request is answered.
 *
 * @module
 */
import { freezeHeaders, lazyRequest, openBody, refuseDenoUpgrade } from "./deno_internals.ts";
import { BodyTooLargeError } from "./request.ts";

/** What is known of a body. */
export interface DenoBody {
  /** The request as the handler is to have it. */
  readonly request: Request;
  /** Whether the client says itself that it is longer than is allowed. */
  readonly announcedTooLarge: boolean;
  /** Whether the program has begun to read it, and more of it may come. */
  readonly isRead: boolean;
  /** Whether nobody reads it, so that Deno waits for the rest of it, for ever. */
  readonly isLeft: boolean;
}

/**
 * Looks after the body of a request.
 *
 * @param limit How long it may be, in bytes.
 * @returns `undefined` if it has none.
 */
export function bodyOf(request: Request, limit: number): DenoBody | undefined {
  const { method, headers } = request;
  if (method === "GET" || method === "HEAD") return undefined;
  const length = headers.get("content-length");
  if (length !== null) return length === "0" ? undefined : new KnownBody(request, Number(length) > limit);
  const isChunked = headers.has("transfer-encoding");
  // Deno makes no other request of that name; with a body no client may send it.
  if (method === "TRACE" || method === "CONNECT") return isChunked ? new KnownBody(request, true) : undefined;
  // One of HTTP/2 may have a body without saying so.
  return openBody(request) === undefined ? undefined : new OpenBody(request, limit, isChunked);
}

/** The request with another body. Its signal is that of the request, which Deno makes, and warns of, when it is looked at. */
function withBody(request: Request, body: BodyInit): Request {
  const { url, method, headers, redirect } = request;
  const other = lazyRequest(url, { method, headers, redirect, body }, (abort) => {
    if (request.signal.aborted) abort();
    else request.signal.addEventListener("abort", abort);
  });
  freezeHeaders(other.headers);
  refuseDenoUpgrade(other);
  // That of Deno is as it was sent.
  if (other.url !== url) Object.defineProperty(other, "url", { value: url });
  return other;
}

/** A body whose length the client has said. */
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
}

/** A body that may be of any length: it fails when that is more than is allowed. */
class OpenBody implements DenoBody {
  readonly request: Request;
  readonly announcedTooLarge = false;

  readonly #original: Request;
  readonly #limit: number;
  readonly #isChunked: boolean;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #count = 0;
  #tooLarge = false;

  /** @param isChunked Whether it was announced. */
  constructor(original: Request, limit: number, isChunked: boolean) {
    this.#original = original;
    this.#limit = limit;
    this.#isChunked = isChunked;
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
    return this.#tooLarge || this.#isChunked && openBody(this.#original) === "unread";
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
      // Deno gives such a part of a body that is empty.
      if (value.length === 0) continue;
      this.#count += value.length;
      if (this.#count <= this.#limit) return controller.enqueue(value as Uint8Array<ArrayBuffer>);
      this.#tooLarge = true;
      this.#reader.cancel().catch(() => {});
      throw new BodyTooLargeError(this.#limit);
    }
  }
}
