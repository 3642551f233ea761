/**
 * Accepting that goes on.
 *
 * @module
 */
import { WinsockError } from "../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../structs/winsock_errors.ts";
import type { SocketAddr } from "./address.ts";
import type { Listener } from "./listener.ts";
import type { Socket } from "./socket.ts";

/** How long to wait after the system could not accept: with too many files open, trying again at once is no use. */
const RETRY_MS = 100;

/**
 * Accepts the next connection, however often the system cannot meanwhile.
 *
 * @param listener Where.
 * @param onError Told of what kept the system from accepting; what it throws ends this.
 * @returns The connection; `undefined` once the listener is closed or given up.
 */
export async function acceptNext<A extends SocketAddr>(
  listener: Listener<A>,
  onError: (error: unknown) => void = () => {},
): Promise<Socket<A> | undefined> {
  for (;;) {
    try {
      return await listener.accept();
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return undefined;
      onError(error);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** Throws an error that does not go by itself, as a shortage of descriptors or memory does. */
export function unlessShortage(error: unknown): void {
  const { code } = error instanceof WinsockError ? error : {};
  if (code !== WSA_ERRORS.WSAEMFILE && code !== WSA_ERRORS.WSAENOBUFS) throw error;
}
