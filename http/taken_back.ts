/**
 * What can be done with a connection that the server of `Deno.serve` has: with its descriptor, which is Deno's to close.
 *
 * Deno may have closed it without having said so, and another connection may have the number by now. So its addresses are
 * looked at first.
 *
 * @module
 */
import { providerCalls, systemCalls } from "../ffi/system.ts";
import { ownSocket, type Socket } from "../sockets/socket.ts";

/** A descriptor, and the addresses of the connection it was of. */
export interface Given {
  readonly handle: bigint;
  readonly localAddr: Deno.NetAddr;
  readonly remoteAddr: Deno.NetAddr;
}

/** Whether the descriptor is still the connection's, and the client there. */
function isConnected({ handle, localAddr, remoteAddr }: Given): boolean {
  try {
    const calls = systemCalls();
    return isSame(calls.remoteAddress(handle), remoteAddr) && isSame(calls.localAddress(handle), localAddr);
  } catch {
    return false;
  }
}

/**
 * Makes one more descriptor of a connection, which stays open when Deno closes its own.
 *
 * @returns A socket of its own, to be read when Deno has closed the other one; `undefined` if the client has gone.
 * @throws {WinsockError} WSAEMFILE if there is no room.
 */
export function duplicateOf(given: Given): Socket | undefined {
  return isConnected(given) ? ownSocket(providerCalls().duplicate(given.handle)) : undefined;
}

/** Ends both directions of a connection, whatever Deno or its client wait for. */
export function cutOff(given: Given): void {
  if (isConnected(given)) systemCalls().shutDown(given.handle);
}

function isSame(address: Deno.NetAddr | Deno.UnixAddr, { hostname, port }: Deno.NetAddr): boolean {
  return address.transport === "tcp" && address.hostname === hostname && address.port === port;
}
