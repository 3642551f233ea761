/**
 * Taking a connection back from the server of `Deno.serve`.
 *
 * @module
 */
import { providerCalls, systemCalls } from "../ffi/system.ts";
import { ownSocket, type Socket } from "../sockets/socket.ts";

/**
 * Whether a descriptor is of the connection with this peer. Deno may have closed it without having said so, and another
 * connection may have the number by now.
 */
export function isConnectedTo(handle: bigint, { hostname, port }: Deno.NetAddr): boolean {
  try {
    const peer = systemCalls().remoteAddress(handle) as Deno.NetAddr;
    return peer.hostname === hostname && peer.port === port;
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
export function duplicateOf(handle: bigint, peer: Deno.NetAddr): Socket | undefined {
  if (!isConnectedTo(handle, peer)) return undefined;
  return ownSocket(providerCalls().duplicate(handle));
}
