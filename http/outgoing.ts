/**
 * The response that `node:http` sends.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import http from "node:http";

/** The longest text that is written as such, in characters. */
const MOST_TEXT = 8_192;

/** A response that tells when the body it is sent from fails: all the adapter does then is to destroy it. */
export class Outgoing extends http.ServerResponse {
  /** The failure, and whether the client had gone by then. */
  failure: { readonly error: Error; readonly clientGone: boolean } | undefined;

  /** Sends status, headers and body in one go, with a Content-Length. */
  sendWhole({ status, statusText, headers }: Response, body: string | Uint8Array): void {
    this.statusCode = status;
    this.statusMessage = statusText;
    headers.forEach((value, name) => this.appendHeader(name, value));
    // Deno writes text past the stream, where nobody sees whether a client takes it.
    this.end(typeof body === "string" && body.length > MOST_TEXT ? Buffer.from(body) : body);
  }

  override destroy(error?: Error): this {
    if (error !== undefined && !this.destroyed) this.failure = { error, clientGone: this.req.destroyed };
    return super.destroy(error);
  }
}
