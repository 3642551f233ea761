/**
 * Which handles a child process gets a copy of.
 *
 * @module
 */
import { HANDLE_FLAG_INHERIT, kernel32 } from "./kernel32.ts";
import { lastWinsockError } from "./ws2_32.ts";

/**
 * Keeps child processes from inheriting a socket. `accept` and an opened blob give inheritable handles, and a copy
 * forgotten in a child would keep the connection open.
 *
 * @param s The socket's handle.
 * @throws {WinsockError} If `SetHandleInformation` fails.
 */
export function disinherit(s: bigint): void {
  const done = kernel32().SetHandleInformation(s, HANDLE_FLAG_INHERIT, 0);
  if (done === 0) throw lastWinsockError(`keep socket ${s} from being inherited`, "SetHandleInformation");
}
