/**
 * Addresses as callers give them.
 *
 * @module
 */

/** What a socket's address can be: of TCP or UDP, or except on Windows of a local socket. */
export type SocketAddr = Deno.NetAddr | Deno.UnixAddr;

/** An address with its defaults filled in and its port checked. */
export function toAddress(
  { hostname, port }: { hostname?: string; port: number },
  defaultHostname: string,
): { hostname: string; port: number } {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new RangeError(`Port ${port} is not from 0 to 65535`);
  return { hostname: hostname === "localhost" ? "127.0.0.1" : hostname ?? defaultHostname, port };
}
