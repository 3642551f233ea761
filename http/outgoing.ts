/**
 * The response that `node:http` sends.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import http from "node:http";

/** The longest text that is written as such, in characters. */
const MOST_TEXT = 8_192;
// deno-lint-ignore no-control-regex
const NOT_ASCII = /[^\x00-\x7f]/;

/** A response that knows why it broke off: all the adapter does when a body fails is to destroy it. */
export class Outgoing extends http.ServerResponse {
  /** What made its body fail, and whether the client had gone by then. */
  failure: { readonly error: Error; readonly clientGone: boolean } | undefined;

  /** Whether the system has all of it. What Node says knows nothing of small responses, which Deno writes past the stream. */
  get sent(): boolean {
    return this.writableEnded && this.socket === null;
  }

  /** Sends status, headers and body in one go, with a Content-Length. */
  sendWhole({ status, statusText, headers }: Response, body: string | Uint8Array): void {
    this.statusCode = status;
    this.statusMessage = statusText;
    let ascii = !NOT_ASCII.test(statusText);
    headers.forEach((value, name) => {
      this.appendHeader(name, value);
      ascii &&= !NOT_ASCII.test(value);
    });
    if (this.req.method === "HEAD" && body.length > 0 && !this.hasHeader("content-length")) {
      this.setHeader("content-length", Buffer.byteLength(body));
    }
    // Text is written past the stream, where nobody sees whether a client takes it; and the headers with it, as UTF-8.
    this.end(typeof body !== "string" || ascii && body.length <= MOST_TEXT ? body : Buffer.from(body));
  }

  override destroy(error?: Error): this {
    if (error !== undefined && !this.destroyed) this.failure = { error, clientGone: this.req.destroyed };
    return super.destroy(error);
  }
}
