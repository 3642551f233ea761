/**
 * Compresses responses by the rules of `Deno.serve` with `automaticCompression`.
 *
 * Deno's server compresses only on connections that it accepted itself, so this module does it for both engines. A
 * `CompressionStream` cannot be used: it keeps the first events of a stream back until it has enough data.
 *
 * @module
 */
import type { Transform } from "node:stream";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { readyLength } from "./deno_internals.ts";
import type { HttpHandler, HttpSettings } from "./options.ts";

/** The minimum length of a body that is compressed, in bytes. A stream is compressed whatever its length is. */
const MIN_LENGTH = 64;
/** The quality of brotli, from 0 to 11. Higher ones take too much time for responses that are made on demand. */
const BROTLI_QUALITY = 6;
const GZIP_LEVEL = 1;

type Encoding = "br" | "gzip";

/** A type that may be compressed by those data, and not by Deno: what has no better name is mostly compressed already. */
const ANY_BYTES = "application/octet-stream";

type MediaTypes = Readonly<Record<string, { readonly compressible?: boolean }>>;

/** Whether media types can be compressed, from the data of mime-db, which `Deno.serve` also uses. */
let types: Promise<MediaTypes> | undefined;

/** Returns a handler whose responses are compressed where that is possible. */
export function compressing(handler: HttpHandler<SocketAddr>): HttpHandler<SocketAddr> {
  return (request, info) => {
    const answer = handler(request, info);
    const accepted = request.headers.get("accept-encoding");
    if (answer instanceof Response) return compressed(accepted, answer);
    return Promise.resolve(answer).then((response) => compressed(accepted, response));
  };
}

/** Returns an `onError` whose responses are compressed where that is possible. */
export function compressingErrors(onError: HttpSettings["onError"]): HttpSettings["onError"] {
  return async (error, request) => {
    const response = await onError(error, request);
    return response instanceof Response && request !== undefined
      ? compressed(request.headers.get("accept-encoding"), response)
      : response;
  };
}

/** Compresses a response if its client accepts that and it is worth it. Other values are returned as they are. */
function compressed(acceptEncoding: string | null, response: Response): Response | Promise<Response> {
  const encoding = acceptEncoding === null ? undefined : preferredEncoding(acceptEncoding);
  return encoding !== undefined && isCandidate(response) ? compressIfWorthIt(response, encoding) : response;
}

/** Returns the encoding that a client prefers; `undefined` if it is not supported. */
function preferredEncoding(acceptEncoding: string): Encoding | undefined {
  const weights = { br: 0, gzip: 0, identity: 0 };
  for (const item of acceptEncoding.split(",")) {
    const [, name, weight] = /^\s*([^\s;]+)\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?$/.exec(item) ?? [];
    if (name !== "br" && name !== "gzip" && name !== "identity") continue;
    const given = Number(weight ?? 1);
    if (given <= 1) weights[name] = Math.max(weights[name], given);
  }
  const { br, gzip, identity } = weights;
  if (br > 0 && br >= gzip && br >= identity) return "br";
  return gzip > 0 && gzip >= identity ? "gzip" : undefined;
}

/**
 * Returns whether a response may be compressed, except for its media type. This does not read its `body`, because Deno
 * would then send it as a stream.
 */
function isCandidate(response: Response): boolean {
  if (!(response instanceof Response) || response.bodyUsed || readyLength(response) < MIN_LENGTH) return false;
  const { headers } = response;
  if (headers.has("content-encoding") || headers.has("content-range")) return false;
  return headers.has("content-type") && !/(^|,)\s*no-transform\s*(=|,|$)/.test(headers.get("cache-control") ?? "");
}

async function compressIfWorthIt(response: Response, encoding: Encoding): Promise<Response> {
  types ??= import("mime-db/db.json", { with: { type: "json" } }).then((module) => module.default as MediaTypes);
  const type = response.headers.get("content-type")!.split(";", 1)[0]!.trim().toLowerCase();
  if (type === ANY_BYTES || (await types)[type]?.compressible !== true) return response;
  const { body, status, statusText } = response;
  if (body === null || body.locked) return response;
  const headers = new Headers(response.headers);
  headers.delete("content-length");
  headers.set("content-encoding", encoding);
  const [vary, etag] = [headers.get("vary"), headers.get("etag")];
  if (vary === null) headers.set("vary", "Accept-Encoding");
  else if (!/accept-encoding/i.test(vary)) headers.set("vary", `Accept-Encoding, ${vary}`);
  // The bytes differ from those of the original, which the tag names.
  if (etag !== null && !etag.startsWith("W/")) headers.set("etag", `W/${etag}`);
  const encoded = body.pipeThrough(transformOf(await encoderOf(encoding)));
  return new Response(encoded, { status, statusText, headers });
}

/** Creates an encoder that emits all of what it was given at once. */
async function encoderOf(encoding: Encoding): Promise<Transform> {
  const { constants, createBrotliCompress, createGzip } = await import("node:zlib");
  if (encoding === "gzip") return createGzip({ level: GZIP_LEVEL, flush: constants.Z_SYNC_FLUSH });
  const params = { [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY };
  return createBrotliCompress({ flush: constants.BROTLI_OPERATION_FLUSH, params });
}

/**
 * Wraps an encoder as a stream of the platform. Node's `Readable.toWeb` may throw in the event loop if a stream is
 * cancelled.
 */
function transformOf(encoder: Transform): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  return new TransformStream({
    start(controller) {
      encoder.on("data", (bytes: Uint8Array) => controller.enqueue(new Uint8Array(bytes)));
      encoder.on("error", (error) => controller.error(error));
    },
    transform: (bytes) =>
      new Promise<void>((resolve, reject) => {
        // A stream may yield other values, which the encoder would throw for.
        if (bytes instanceof Uint8Array) return void encoder.write(bytes, () => resolve());
        encoder.destroy();
        reject(new TypeError("Cannot send the body: it yields other values than bytes"));
      }),
    flush: () => new Promise<void>((resolve) => void encoder.once("end", resolve).end()),
    cancel: () => void encoder.removeAllListeners("data").destroy(),
  });
}
