/**
 * Responses whose body is there at once: the one place that touches how Deno keeps them.
 *
 * Their `body` is a stream as any other, and to make one, read it and find its end costs more than all else about a small
 * response. Where Deno keeps them otherwise than it is known here, they are sent as streams.
 *
 * @module
 */

/** The part of Deno's `Response` that has the body. */
interface Kept {
  readonly body: { readonly streamOrStatic: { readonly body?: unknown; consumed?: boolean } } | null;
}

const KEPT = Object.getOwnPropertySymbols(new Response()).find(({ description }) => description === "response");

/**
 * Takes the body of a response that was made of text, bytes or nothing; the response counts as used then.
 *
 * @returns `undefined` if it is a stream, is used already, or cannot be told.
 */
export function takeReadyBody(response: Response): string | Uint8Array | undefined {
  // Before that Deno may not have made what is looked into.
  void response.headers;
  const kept = (response as unknown as Partial<Record<symbol, Kept>>)[KEPT!]?.body?.streamOrStatic;
  const body = kept?.body;
  if (kept?.consumed === false && (typeof body === "string" || body instanceof Uint8Array)) {
    kept.consumed = true;
    return body;
  }
  return response.body === null ? "" : undefined;
}
