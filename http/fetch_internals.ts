/**
 * The one place that touches how Deno keeps a `Request` and a `Response`. Where Deno keeps them otherwise than it is known
 * here, each function does without: that costs time, and nothing else.
 *
 * @module
 */

/** The part of Deno's `Response` that has the body. */
interface Kept {
  readonly body: { readonly streamOrStatic: { readonly body?: unknown; consumed?: boolean } } | null;
}

const KEPT = symbolOf(new Response(), "response");
const GUARD = symbolOf(new Headers(), "guard");
const STATE = symbolOf(new ReadableStream(), "[[state]]");

/**
 * Takes the body of a response that was made of text, bytes or nothing; the response counts as used then.
 *
 * The `body` of such a response is a stream as any other. To make one, read it and find its end costs more than all else
 * about a small response.
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

/**
 * Makes headers that cannot be changed, as those of a request of `Deno.serve` are. Deno keeps a sorted list of such headers;
 * of others it sorts them anew at each step of a loop, which takes 150 ms for a thousand.
 */
export function freezeHeaders(headers: Headers): void {
  const kept = headers as unknown as Record<symbol, unknown>;
  if (GUARD !== undefined && typeof kept[GUARD] === "string") kept[GUARD] = "immutable";
}

/** Whether a program has begun to read a body, and has neither read it to its end nor let go of it. */
export function isBeingRead(body: ReadableStream | null): body is ReadableStream {
  if (!body?.locked || STATE === undefined) return false;
  return (body as unknown as Record<symbol, unknown>)[STATE] === "readable";
}

function symbolOf(object: object, name: string): symbol | undefined {
  return Object.getOwnPropertySymbols(object).find(({ description }) => description === name);
}
