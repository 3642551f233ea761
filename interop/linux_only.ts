/**
 * Protocols that exist on one system.
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
