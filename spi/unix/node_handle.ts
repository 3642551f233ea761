/**
 * The descriptor under a socket of `node:net`, for what only `sendmsg` and `getsockopt` can do: beside
 * `sockets/native_stream.ts` the one place that touches how Deno keeps its sockets.
 *
 * The library's own poller would do without, but a wait of its that does not keep the process running is looked after
 * every 10 ms only, as long as there is a rendezvous.
 *
 * @module
 */
import type net from "node:net";

/**
 * The descriptor of a socket; it stays the socket's.
 *
 * @throws {Deno.errors.NotSupported} If this Deno does not tell.
 */
export function handleDescriptor(socket: net.Socket | net.Server): bigint {
  const fd = (socket as unknown as { _handle?: { fd?: number } | null })._handle?.fd;
  if (typeof fd === "number" && fd >= 0) return BigInt(fd);
  throw new Deno.errors.NotSupported(`Cannot share sockets: Deno ${Deno.version.deno} tells no socket's descriptor`);
}
