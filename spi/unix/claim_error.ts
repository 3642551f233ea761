/**
 * How claiming fails.
 *
 * @module
 */
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";

/** The error of a claim that was refused. */
export function refusedClaim(
  code: number,
  detail = "it was made for another process, opened before, or has expired",
): WinsockError {
  return new WinsockError(code, { operation: "open a shared socket", functionName: "WSPSocket", detail });
}

/** The error of a claim whose descriptor came, and was dropped by the system: there is no room for another. */
export function noRoom(): WinsockError {
  return refusedClaim(WSA_ERRORS.WSAEMFILE, "this process has no room for another descriptor");
}

/** The error of a claim whose source is gone. */
export function rendezvousClosed(): WinsockError {
  return refusedClaim(WSA_ERRORS.WSAECONNRESET, "the source closed its rendezvous");
}
