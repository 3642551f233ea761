/**
 * Protocols that exist on one system. macOS has launchd in systemd's place, which passes sockets in another way.
 *
 * @module
 */

/**
 * Refuses what the system does not have.
 *
 * @param operation What was asked for.
 * @throws {Deno.errors.NotSupported} If this is not Linux.
 */
export function requireLinux(operation: string): void {
  if (Deno.build.os !== "linux") throw new Deno.errors.NotSupported(`Cannot ${operation} on ${Deno.build.os}`);
}
