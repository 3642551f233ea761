/**
 * What becomes of errors: whoever the server tells of them, and what the client is answered.
 *
 * @module
 */
import type { HttpSettings } from "./options.ts";

/**
 * Tells of an error; one in telling goes to the console.
 *
 * @returns What is to be answered to it, if anything.
 */
export async function tell(
  onError: HttpSettings["onError"],
  error: unknown,
  request?: Request,
): Promise<Response | void> {
  try {
    return await onError(error, request);
  } catch (errorOfHandler) {
    console.error(errorOfHandler);
  }
}

export function badRequest(): Response {
  return new Response("Bad Request", { status: 400 });
}

export function internalServerError(): Response {
  return new Response("Internal Server Error", { status: 500 });
}
