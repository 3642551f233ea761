/**
 * Errors of the service provider interface.
 *
 * @module
 */
import { WinsockError } from "../ffi/winsock_error.ts";
import { type WinsockErrorName, WSA_ERRORS } from "../structs/winsock_errors.ts";

/** The error a function of the interface leaves in `lpErrno`. */
export function spiError(
  name: WinsockErrorName,
  functionName: string,
  operation: string,
  detail?: string,
): WinsockError {
  return new WinsockError(WSA_ERRORS[name], {
    operation,
    functionName,
    ...(detail === undefined ? {} : { detail }),
  });
}
