/**
 * The environment variables a protocol is told in.
 *
 * @module
 */

/** Environment variables: what `Deno.env` and a `Map` have in common. */
export interface Environment {
  /** The value of a variable, if it is set. */
  get(name: string): string | undefined;
  /** Removes a variable. */
  delete(name: string): unknown;
}
