/**
 * The response that `node:http` sends.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import http, { validateHeaderValue } from "node:http";
import { sendNodeResponse } from "./packages.ts";
import { takeReadyBody } from "./ready_body.ts";
import { mayStall } from "./unread_body.ts";

/** The longest text that is written as such, in characters. */
const MOST_TEXT = 8_192;
// deno-lint-ignore no-control-regex
const NOT_ASCII = /[^\x00-\x7f]/;
/** What says where a body ends, which is up to the server. */
const FRAMING = ["content-length", "transfer-encoding", "trailer"];

/** What is known of a response when its status and headers are set. */
interface Head {
  /** Whether it is all ASCII. */
  readonly ascii: boolean;
  /** Its content-length, if it says one that is a number. */
  readonly length: string | undefined;
}

/** A response that knows why it broke off: all the adapter does when a body fails is to destroy it. */
export class Outgoing extends http.ServerResponse {
  /** What made its body fail, and whether the client had gone by then. */
  failure: { readonly error: Error; readonly clientGone: boolean } | undefined;

  #written = false;

  /** Whether anything of it is on its way. Its headers may be made before, and wait for the first of the body. */
  get begun(): boolean {
    return this.#written || this.writableEnded;
  }

  /** Whether the system has all of it. What Node says knows nothing of small responses, which Deno writes past the stream. */
  get sent(): boolean {
    return this.writableEnded && this.socket === null;
  }

  /**
   * Sends a response. Its status and headers are checked before any is set: if this throws, nothing of it is sent with
   * another.
   *
   * @returns If its body is a stream, resolves when it is sent.
   * @throws If it cannot be sent.
   */
  send(response: Response): Promise<void> | undefined {
    if (response.bodyUsed) throw new TypeError("The body of the Response was used already");
    const head = this.#setHead(response);
    const body = takeReadyBody(response);
    if (body !== undefined) return void this.#sendWhole(head, body);
    if (head.length !== undefined) {
      this.setHeader("content-length", head.length);
      // A body of another length is an error, and breaks off.
      this.strictContentLength = true;
    }
    this.writeHead(this.statusCode);
    return sendNodeResponse(this, response);
  }

  override write(chunk: unknown, ...rest: unknown[]): boolean {
    this.#written = true;
    return super.write(chunk, ...rest as []);
  }

  override destroy(error?: Error): this {
    if (error !== undefined && !this.destroyed) this.failure = { error, clientGone: this.req.destroyed };
    return super.destroy(error);
  }

  #setHead({ status, statusText, headers }: Response): Head {
    checkStatus(status);
    validateHeaderValue("status text", statusText);
    let ascii = !NOT_ASCII.test(statusText);
    const set: [name: string, value: string][] = [];
    headers.forEach((value, name) => {
      if (FRAMING.includes(name) || name === "connection" && !this.shouldKeepAlive) return;
      validateHeaderValue(name, value);
      ascii &&= !NOT_ASCII.test(value);
      set.push([name, value]);
    });
    this.statusCode = status;
    this.statusMessage = statusText;
    for (const [name, value] of set) this.appendHeader(name, value);
    const length = headers.get("content-length");
    return { ascii, length: length !== null && /^\d+$/.test(length) ? length : undefined };
  }

  /** Sends headers and body in one go. Of a body that is sent Node says the length itself. */
  #sendWhole({ ascii, length }: Head, body: string | Uint8Array): void {
    if (this.req.method === "HEAD" && body.length > 0) this.setHeader("content-length", Buffer.byteLength(body));
    else if (
      length !== undefined && (this.req.method === "HEAD" && this.statusCode !== 204 || this.statusCode === 304)
    ) {
      this.setHeader("content-length", length);
    }
    if (mayStall(this.req)) this.setHeader("connection", "close");
    // Text is written past the stream, where nobody sees whether a client takes it; and the headers with it, as UTF-8.
    this.end(typeof body !== "string" || ascii && body.length <= MOST_TEXT ? body : Buffer.from(body));
  }
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
